"""The judge: a network that turns images into features and logits, which is all that the metrics read.

Legend: N generated images, M real images, B batch, C H W pixels, F features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from orderhead.core.assets import load
from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.data.fashion import cache_folder
from orderhead.data.images import RealImages
from orderhead.data.latents import fingerprint
from orderhead.metrics.bundle import Judged
from orderhead.metrics.network import MetricNet

BATCH, PART = 64, 1024  # images seen at once, images kept in one file


@dataclass(frozen=True, eq=False)
class Judge:
    """`look` maps images (B, C, H, W) in [-1, 1], where `network` is, to features (B, F) and logits (B, K).

    `layer` says which features. `knows_classes`: output k is the body's class k; `reads_prompts`: it is 100 times the
    cosine to that class's prompt. `channels` it reads (None: any).
    `named`: what a metric is called on just these features (`fd` is `fid` on the official Inception's, `mmd_rbf` is
    `cmmd` on the official CLIP's).
    """

    name: str
    network: nn.Module
    layer: str
    look: Callable[[Tensor], tuple[Tensor, Tensor]]
    outputs: int
    knows_classes: bool = False
    reads_prompts: bool = False
    channels: int | None = None
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "features": self.layer, "weights": fingerprint(self.network)}

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits, float32 on the CPU."""
        device = next(self.network.parameters()).device
        features, logits = self.look(images_BCHW.to(device))
        return features.float().cpu(), logits.float().cpu()


def load_judge(name: str = "fashion") -> MetricNet:
    """`fashion` ships. ValueError for an unknown name (with the nearest match) or damaged files."""
    return load(MetricNet, "metrics", name)


def metric_net(name: str) -> Judge:
    """A classifier of the body's own classes, by name or folder: the features are its last hidden layer."""
    network = load_judge(name)

    def look(images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features = network.features(images_BCHW)
        return features, network.head(features)

    config = network.config
    return Judge(
        Path(name).name, network, "last hidden layer", look, config.classes, knows_classes=True,
        channels=config.image_channels,
    )  # fmt: skip


def judged(judge: Judge, images: Iterable[Tensor], labels_N: np.ndarray) -> Judged:
    """Generated images in [-1, 1], a batch at a time, and the labels that were asked for -> what the metrics read."""
    features, logits = zip(*map(judge, images), strict=True)
    return Judged(torch.cat(features).numpy(), torch.cat(logits).numpy(), labels_N)


def see(judge: Judge, real: RealImages) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, F) and logits (M, K) of real images, float32; those of a folder are kept in the user's cache.

    Kept in parts, so that a run that was stopped goes on.
    """
    with tqdm(total=len(real), desc="judging real images", unit="image", delay=2) as bar:
        parts = list(_parts(judge, real, bar))
    features, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return features, logits


def _parts(judge: Judge, real: RealImages, bar: tqdm) -> Iterator[tuple[Tensor, Tensor]]:
    key = f"{real.key}-{fingerprint(judge.network)}-{judge.layer}" if real.key else ""
    for first in range(0, len(real), PART):
        last = min(first + PART, len(real))
        path = cache_folder() / f"real-{key.replace(' ', '-')}" / f"{first:07d}.safetensors"
        if key and path.exists():
            part = load_tensors(path)
            bar.update(last - first)
        else:
            part = _see(judge, real, range(first, last, BATCH), last, bar)
            if key:
                save_tensors(path, part)
        yield part["features"], part["logits"]


def _see(judge: Judge, real: RealImages, starts: range, last: int, bar: tqdm) -> dict[str, Tensor]:
    found = []
    for first in starts:
        found.append(judge(real[first : min(first + BATCH, last)]))
        bar.update(len(found[-1][0]))
    features, logits = zip(*found, strict=True)
    return {"features": torch.cat(features), "logits": torch.cat(logits)}
