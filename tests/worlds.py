"""Bodies, judges and classifiers of a few kilobytes, untrained, as the folders that the command reads; pictures."""

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from orderhead.body import MAR, SIZES
from orderhead.body.tokenizer import KLTokenizer, TokenizerConfig
from orderhead.data import fashion
from orderhead.data.fashion import CLASS_NAMES
from orderhead.metrics.network import MetricNet, MetricNetConfig
from orderhead.oracles.classifier import ClassifierConfig, PartialVisClassifier

NAMES = ("t-shirt", "trouser", "ankle boot")


def bare_body(**fields: int) -> MAR:
    """A frozen untrained body of 4 x 4 cells of 4 channels and 3 classes, but for the fields given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = dataclasses.replace(
            SIZES["tiny"], grid_h=4, grid_w=4, classes=3, token_bound=4.0, buffer_size=2, encoder_width=64,
            encoder_depth=1, encoder_heads=1, decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32,
            diffloss_depth=1,
        )  # fmt: skip
        body = MAR(dataclasses.replace(config, **fields))
        for parameter in body.diffloss.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return body.eval().requires_grad_(False)


def tiny_body(folder: Path, image_channels: int = 1) -> Path:
    """Write 4 x 4 cells of 4 channels, 3 named classes, and the tokenizer (8 x 8 pixels) beside it.

    Returns the body's folder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = KLTokenizer(TokenizerConfig(
            image_channels=image_channels, image_size=8, channels=4, widths=(8, 8), layers=1, norm_groups=4,
            encoder_attention=False, mid_attention=False, latent_scale=1.0,
        ))  # fmt: skip
        body = MAR(dataclasses.replace(
            SIZES["tiny"], grid_h=4, grid_w=4, classes=3, class_names=NAMES, token_bound=4.0, buffer_size=2,
            tokenizer=str(folder / "tokenizer"), encoder_width=64, encoder_depth=1, encoder_heads=1,
            decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32, diffloss_depth=1,
        ))  # fmt: skip
        for parameter in body.diffloss.parameters():  # its last layer starts at zero: without this all images are equal
            torch.nn.init.normal_(parameter, std=0.05)
    tokenizer.save_pretrained(folder / "tokenizer", config=dataclasses.asdict(tokenizer.config))
    body.save_pretrained(folder / "body", config=dataclasses.asdict(body.config))
    return folder / "body"


def fashion_body(folder: Path) -> Path:
    """Write a small untrained body for the tokens that the shipped tokenizer, classifier and judge know."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = MAR(dataclasses.replace(
            SIZES["tiny"], class_names=CLASS_NAMES, token_bound=4.0, buffer_size=2, encoder_width=64, encoder_depth=1,
            encoder_heads=1, decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32, diffloss_depth=1,
        ))  # fmt: skip
        for parameter in body.diffloss.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    body.save_pretrained(folder / "body", config=dataclasses.asdict(body.config))
    return folder / "body"


def tiny_classifier(folder: Path) -> Path:
    """An untrained classifier of the tiny body's tokens."""
    return _saved(lambda: PartialVisClassifier(ClassifierConfig(4, 4, 4, 3, width=32, depth=1, heads=1)), folder)


def tiny_judge(folder: Path) -> Path:
    """An untrained judge of the tiny body's colour images."""
    return _saved(lambda: MetricNet(MetricNetConfig(3, (8, 8), features=6, classes=3)), folder)


def _saved(build: Callable[[], Any], folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    model.save_pretrained(folder, config=dataclasses.asdict(model.config))
    return folder


def pictures(folder: Path, n: int, classes: tuple[str, ...] = (), size: int = 8, seed: int = 0) -> Path:
    """`n` smooth random RGB pictures of `size` x `size`: flat, or spread over a subfolder a class."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        path = folder / (classes[i % len(classes)] if classes else "") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((size, size), Image.Resampling.BILINEAR).save(path)
    return folder


def inception_weights(path: Path) -> Path:
    """Weights for torch-fidelity's Inception as it was never trained, batch norms and all: a state dict in a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> None: ...

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Untrained("untrained", ["2048"], nothing)
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 4:
                torch.nn.init.kaiming_normal_(tensor, nonlinearity="relu")
            elif name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.8, 1.2)
            elif name.endswith(("bn.bias", "running_mean")):
                tensor.normal_(std=0.1)
    torch.save(network.state_dict(), path)
    return path


def one_line(captured: str) -> str:
    """What the command said on stderr: exactly one line, and no traceback."""
    lines = captured.splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("orderhead: "), captured
    assert "Traceback" not in captured
    return lines[0]


COMMAND = (sys.executable, "-m", "orderhead")


def few_real_images(patch: pytest.MonkeyPatch) -> None:
    """Let `compare` measure against 300 real images: its tests are about the command, not about the numbers."""
    images, labels = fashion.test_set()
    patch.setattr(fashion, "test_set", lambda: (images[:300], labels[:300]))
