"""What a body's images are judged by: one row a kind of image, found by the body's tokenizer.

Legend: N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orderhead.body.mar import MARConfig
from orderhead.data import fashion
from orderhead.metrics import judge as judging
from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.network import MetricNet


@dataclass(frozen=True)
class World:
    """Names of the judge network and of the classifier of partial images, and the real images."""

    name: str
    judge: str
    classifier: str
    real: Callable[[], tuple[Tensor, Tensor]]


WORLDS: Mapping[str, World] = {
    "fashion": World("Fashion-MNIST test images", "fashion", "fashion", lambda: fashion.test_set()),
}


def world_of(config: MARConfig) -> World:
    """ValueError for a body whose images nobody here can judge."""
    if config.tokenizer not in WORLDS:
        raise ValueError(
            f"there is no judge for images of the tokenizer {config.tokenizer!r}, only for {', '.join(WORLDS)}; "
            "`orderhead sample` works with any body"
        )
    return WORLDS[config.tokenizer]


@dataclass(frozen=True)
class Jury:
    """The judge network, real images as it sees them, and real images again in the place of generated ones."""

    judge: MetricNet
    reference: Reference
    real: Judged

    @classmethod
    def of(cls, world: World, n: int) -> Jury:
        """`n` real images (at most half), classes in turn, stand for generated ones; the others are the reference."""
        judge = judging.load_judge(world.judge)
        images, labels = world.real()
        order = in_turn(labels)
        chosen, rest = order[: min(n, len(images) // 2)], order[min(n, len(images) // 2) :]
        real = judging.judged(judge, images[chosen], labels[chosen])
        return cls(judge, judging.reference(judge, images[rest], labels[rest]), real)


def in_turn(labels_N: Tensor) -> Tensor:
    """Indices (N,) that go through the classes in turn, as generated images do: 0, 1, ..., K - 1, 0, 1, ..."""
    nth_N = torch.zeros_like(labels_N)  # how many of its class come before an image
    for label in labels_N.unique():
        nth_N[labels_N == label] = torch.arange(int((labels_N == label).sum()))
    return (nth_N * (labels_N.max() + 1) + labels_N).argsort()
