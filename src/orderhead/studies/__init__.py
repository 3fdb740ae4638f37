"""One section of the study = one file, and `all` of them = `everything`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderhead.studies.plan import Plan

SECTIONS: Mapping[str, str] = {
    "heuristics": "section 2: orders that need no training, against random, with order and guidance told apart",
    "variants": "section 3: thirteen ways to train a head, each against random",
    "ablations": "section 4: what a head has learned, real tokens injected, nine orders, early recognition",
    "alternatives": "section 5: five other ways to learn an order, beside random and the oracle's",
    "finetuning": "section 6: body and head trained together, epoch by epoch",
    "scratch": "section 7: body and head from random weights, beside bodies that are trained the usual way",
    "mismatch": "section 8: what the gaps of raster and of a learned order to random are made of",
}
"""Section of the study -> what it answers."""

OWN: Mapping[str, str] = {
    "contexts": "beyond the study: orders on bodies that were, and were not, trained under their contexts",
}
"""Ours, and no part of `all` -> what it answers."""

NAMES: Mapping[str, str] = {**SECTIONS, **OWN, "all": "every section, and what becomes of every claim of the document"}
"""Whatever `orderhead study` can run -> what it answers."""


def _later(module: str, name: str) -> Callable[[Plan], Path]:
    """The function `name` of the module, imported when it is called."""
    return lambda plan: getattr(import_module(f"orderhead.studies.{module}"), name)(plan)


STUDIES: Mapping[str, Callable[[Plan], Path]] = {
    **{name: _later(name, name) for name in (*SECTIONS, *OWN)},
    "all": _later("everything", "announced"),
}
"""Name -> the function that runs it and returns its folder."""

POOLS: Mapping[str, str] = {"heuristics": "heuristics", "variants": "seeds"}
"""Section -> the module whose `pool` says what its runs under several seeds have in common."""


def check_pooled(name: str) -> None:
    """ValueError where nothing puts a section's runs under several seeds together."""
    if name not in POOLS:
        raise ValueError(
            f"several --seeds are for {' and '.join(POOLS)}; run {name} once for each seed, with an --out of its own"
        )


def pool(name: str, out: Path, folders: Sequence[Path]) -> Path:
    """Write the table of a section's runs under several seeds into `out`. ValueError as for `check_pooled`."""
    check_pooled(name)
    return import_module(f"orderhead.studies.{POOLS[name]}").pool(out, folders)
