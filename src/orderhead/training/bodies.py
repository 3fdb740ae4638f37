"""What becomes of the body while a head is trained on it: a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

from orderhead.body.mar import MAR

BodyMode = Callable[[MAR], MAR | None]
"""The ground's frozen body -> the body that is trained with the head, or None where the frozen one serves."""


def frozen(body: MAR) -> None:
    """It stays as it is."""


def full(body: MAR) -> MAR:
    """A copy, every weight of which is trained."""
    return deepcopy(body).requires_grad_(True)


def scratch(body: MAR) -> MAR:
    """Random weights of the same sizes, all of them trained (the study's section 7).

    They are drawn as every untrained model's are, under the seed of `recipe.seeded`.
    """
    return MAR(body.config).to(body.device)


BODY_MODES: Mapping[str, BodyMode] = {"frozen": frozen, "full": full, "scratch": scratch}
