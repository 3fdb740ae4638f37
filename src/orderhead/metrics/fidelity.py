"""The Inception of 2015 as torch-fidelity rebuilds it: the judge whose Frechet distance is the FID.

Legend: B batch, C H W pixels.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orderhead.core.checkpoint import load_pickled_tensors, sha256
from orderhead.metrics.judge import Judge

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_FROM = "https://github.com/mseitzer/pytorch-fid/releases"
OFFICIAL = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # sha256 of that file


def inception(weights: str | Path, layer: str = "2048") -> Judge:
    """torch-fidelity's extractor with the weights of a local file (Heusel et al. 2017 fix the network and the layer).

    Features are `layer`, logits those without bias that its Inception score reads: 1008, in an order of their own, so
    they name no class of a body. Images become uint8, are repeated to RGB where they are grey, and the extractor
    resizes them to 299 x 299 as TensorFlow 1 did. With the official file (told by its sha256, whatever its name) `fd`
    is called `fid`; other weights give a Frechet distance that compares with no published one.

    ValueError where torch-fidelity is not installed, or the file is missing, wants to run code or holds other weights.
    """
    network = _extractor(weights, layer)
    official = layer == "2048" and sha256(weights) == OFFICIAL
    return Judge(
        "inception-2015-12-05" if official else "inception with unofficial weights", network, layer,
        lambda images_BCHW: network(as_rgb(images_BCHW)), outputs=1008, named={"fd": "fid"} if official else {},
    )  # fmt: skip


def as_rgb(images_BCHW: Tensor) -> Tensor:
    """Floats in [-1, 1] of one or three channels -> uint8 (B, 3, H, W), rounded as published evaluations round."""
    pixels = ((images_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1)


def _extractor(weights: str | Path, layer: str) -> nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError("features of inception need torch-fidelity; pip install 'orderhead[fid]'") from None
    safe = _resaved(load_pickled_tensors(weights))
    try:
        return FeatureExtractorInceptionV3("inception", [layer, "logits_unbiased"], safe)
    except (RuntimeError, AttributeError, TypeError):  # what load_state_dict raises on other names and shapes
        raise ValueError(f"{weights} holds other weights than Inception's; get {WEIGHTS} from {WEIGHTS_FROM}") from None


def _resaved(tensors: dict[str, Any]) -> io.BytesIO:
    """Tensors that were read safely, as a file: the extractor's own loader unpickles whatever it is given."""
    file = io.BytesIO()
    torch.save(tensors, file)
    file.seek(0)
    return file
