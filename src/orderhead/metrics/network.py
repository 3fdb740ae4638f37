"""The judge: a small convolutional classifier of pixels. It shares nothing with the oracle (a ViT on latents).

Legend: B batch, F features.
"""

# No `from __future__ import annotations` here: the hub's mixin reads the config's type off the signature.
from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn


@dataclass(frozen=True)
class MetricNetConfig:
    image_channels: int = 1
    widths: tuple[int, ...] = (48, 96, 192)
    features: int = 128
    classes: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list back


def _stage(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
        nn.MaxPool2d(2),
    )  # fmt: skip


class MetricNet(nn.Module, PyTorchModelHubMixin):
    """`features` maps images to what the distances are computed on, `forward` to class logits."""

    def __init__(self, config: MetricNetConfig) -> None:
        super().__init__()
        self.config = config
        first, *rest = config.widths
        self.stem = nn.Conv2d(config.image_channels, first, 4, stride=2, padding=1)
        self.stages = nn.Sequential(*[_stage(a, b) for a, b in zip((first, *config.widths[:-1]), config.widths)])  # noqa: B905
        self.embed = nn.Linear(rest[-1], config.features)
        self.head = nn.Linear(config.features, config.classes)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1], (B, C, H, W) -> features (B, F), the last hidden layer's."""
        x = self.stages(self.stem(images_BCHW)).mean((2, 3))
        return nn.functional.silu(self.embed(x))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1] -> class logits (B, classes)."""
        return self.head(self.features(images_BCHW))

    @torch.no_grad()
    def classify(self, images_BCHW: Tensor, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Features (N, F) and logits (N, classes) of many images, in batches."""
        features = torch.cat([self.features(chunk) for chunk in images_BCHW.split(batch)])
        return features, self.head(features)
