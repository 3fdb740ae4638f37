"""What can make an order lose to random, and how each cause is switched off: one row each, so that one more is one row.

A cause's share of the gap is a weighted sum of Frechet distances of *arms*: runs that differ from the order's own, or
from random's, in one thing, on the same noise. Causes overlap (a shifted order has even guidance too), so shares need
not sum to the gap; `left` is what stays when all three switches of the order are on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from orderhead.orders.learned import LEARNED
from orderhead.orders.policy import Shifted
from orderhead.orders.spatial import SCHEDULE_OF
from orderhead.sampling.settings import Settings

Switch = Callable[[Settings], Settings]


def as_it_is(settings: Settings) -> Settings:
    return settings


def equalized(settings: Settings) -> Settings:
    """Every cell's mean guidance is what it gets under random; a schedule other than the linear one stays as it is."""
    return replace(settings, cfg_schedule="equalized") if settings.cfg_schedule == "linear" else settings


def one_a_step(settings: Settings) -> Settings:
    """No two cells are drawn in the same step; `slow` then asks a head more often."""
    return replace(settings, schedule="one_by_one")


def shifted(settings: Settings) -> Settings:
    """The order starts somewhere else in every image, under its own schedule."""
    own = SCHEDULE_OF.get(settings.order) if isinstance(settings.order, str) else None
    schedule = own if settings.schedule is None else settings.schedule
    return replace(settings, order=Shifted(settings.policy()), rescore=settings.rescores(), schedule=schedule)


def all_three(settings: Settings) -> Settings:
    return shifted(one_a_step(equalized(settings)))


@dataclass(frozen=True)
class Arm:
    """A run: of the order in question or of random, with a switch; `real`: from the contexts of real images."""

    switch: Switch = as_it_is
    random: bool = False
    real: bool = False


ARMS: Mapping[str, Arm] = {
    "random": Arm(random=True),
    "random, one a step": Arm(one_a_step, random=True),
    "random, real context": Arm(random=True, real=True),
    "order": Arm(),
    "equalized": Arm(equalized),
    "shifted": Arm(shifted),
    "one a step": Arm(one_a_step),
    "all switched": Arm(all_three),
    "real context": Arm(real=True),
}
"""Name -> run. Those of random serve every order."""


@dataclass(frozen=True)
class Cause:
    """`weights` of arms whose figures sum to the cause's share of the gap; positive = it makes the order lose."""

    title: str
    says: str
    weights: Mapping[str, float]


GAP = {"order": 1.0, "random": -1.0}
TOGETHER = {**GAP, "one a step": -1.0, "random, one a step": 1.0}

DISTANCE: Mapping[str, Cause] = {
    "gap": Cause("the gap to random", "the order's distance minus random's, on the same noise", GAP),
    "guidance": Cause(
        "uneven guidance",
        "what goes when every cell's mean guidance is random's; a fixed order's then stays the same over the steps too",
        {"order": 1.0, "equalized": -1.0},
    ),
    "together": Cause(
        "cells drawn together", "how much of the gap goes when both orders reveal one cell a step", TOGETHER
    ),
    "diversity": Cause(
        "the same order in every image",
        "what goes when the order is shifted by a random number of rows and columns an image",
        {"order": 1.0, "shifted": -1.0},
    ),
    "left": Cause(
        "left with all three switched",
        "the gap that stays with even guidance, one cell a step and a shift an image",
        {"all switched": 1.0, "random, one a step": -1.0},
    ),
}
"""Shares of a Frechet distance of whole images. They overlap, and need not sum to the gap."""

TOKENS: Mapping[str, Cause] = {
    "tokens_gap": Cause("the gap to random", "how far a cell's tokens lie from real ones, minus random's", GAP),
    "tokens_exposure": Cause(
        "its own mistakes as context",
        "how much of it goes when everything revealed before a cell is a real image's",
        {**GAP, "real context": -1.0, "random, real context": 1.0},
    ),
    "tokens_drawn": Cause(
        "drawn worse in real contexts too",
        "the rest: the gap that stays when every context is a real image's",
        {"real context": 1.0, "random, real context": -1.0},
    ),
}
"""Shares of `metrics.tokens`' distance: tokens drawn in real contexts make no whole images, so cells are compared."""

BITS: Mapping[str, Cause] = {
    "bits_gap": Cause("the gap to random", "what real images cost under the order, minus under random", GAP),
    "bits_mismatch": Cause(
        "contexts the body handles worse",
        "the gap at one cell a step, which no order would have if the body's conditionals fitted together (chain rule)",
        {"one a step": 1.0, "random, one a step": -1.0},
    ),
    "bits_together": Cause(
        "dependence that a step ignores",
        "the rest: what drawing cells in one step, blind to each other, costs more than under random",
        TOGETHER,
    ),
}
"""The same question without sampling or a judge: likelihoods of real images (`sampling.bits`)."""


def possible(settings: Settings) -> dict[str, Cause]:
    """The shares of the distance that can be told apart under an order's settings; `left_out` says why not all."""
    missing = {name for names, _, holds in _limits(settings) if holds for name in names}
    return {name: cause for name, cause in DISTANCE.items() if name not in missing}


def left_out(settings: Settings) -> list[str]:
    """What `possible` leaves out, each with its reason."""
    return [reason for _, reason, holds in _limits(settings) if holds]


def _limits(settings: Settings) -> list[tuple[tuple[str, ...], str, bool]]:
    """Causes, the reason why their switch would not do what it says, and whether that is so here."""
    again = _is_learned(settings) and settings.rescores() not in (1, "1", "fast")
    return [
        (("guidance",), "uneven guidance (it is not linear here)",
         settings.cfg_scale == 1 or settings.cfg_schedule != "linear"),
        (("guidance", "diversity", "left"), "guidance, sameness and what is left (a head that is asked again answers "
         "to what it sees: its guidance is not known beforehand, and moved scores would be another head's)",
         again),
    ]  # fmt: skip


def _is_learned(settings: Settings) -> bool:
    return isinstance(settings.order, str) and settings.order in LEARNED


def arms_of(causes: Mapping[str, Cause]) -> list[str]:
    """The arms that any of the causes weighs."""
    return [name for name in ARMS if any(name in cause.weights for cause in causes.values())]
