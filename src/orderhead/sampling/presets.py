"""The settings with which a body is sampled when nobody says: one row a tokenizer, which every body names.

`own` is what a body is sampled with unless told otherwise. `fast` is for those who want images sooner: an eighth as
many steps as cells, 10 denoising steps. On the fashion body its distance was measured (`orderhead bench --pareto`); on
MAR's own weights it was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from orderhead.body.mar import MARConfig
from orderhead.core.names import lookup
from orderhead.orders.policy import Policy
from orderhead.orders.spatial import SCHEDULE_OF

Row = Mapping[str, Any]

STUDY: Row = {"steps": 64, "denoise_steps": 100, "cfg_scale": 2.9}
"""The study's settings for MAR-B, and for every body whose tokenizer has no row."""

PRESETS: Mapping[str, Mapping[str, Row]] = {
    "own": {
        "kl16": STUDY,
        "fashion": {"steps": 16, "denoise_steps": 25, "cfg_scale": 4.0},
    },
    "fast": {
        "kl16": STUDY | {"steps": 32, "denoise_steps": 10, "solver": "dpm"},
        "fashion": {
            "steps": 8, "denoise_steps": 10, "cfg_scale": 4.0, "solver": "dpm",
            "schedule": (1, 2, 3, 4, 5, 5, 15, 29),  # orderhead schedule --steps 8 --real fashion-train
        },
    },
}  # fmt: skip
"""Preset -> tokenizer -> fields of `Settings`; a tokenizer without a row has kl16's. `--help` tells them too."""

HEADS: Mapping[str, str] = {"fashion": "fashion-nonaligned", "fashion-ordered": "fashion-ordered-aligned"}
"""Body that ships -> the head that its learned orders ask when none is named."""


def preset(config: MARConfig, name: str = "own") -> dict[str, Any]:
    """The settings of a body with this config, a fresh dict to change at will. ValueError for an unknown name."""
    rows = lookup("preset", name, PRESETS)
    return dict(rows.get(config.tokenizer, rows["kl16"]))


def filled(
    config: MARConfig, cells: int, given: Mapping[str, Any], order: str | Policy = "", name: str = "own"
) -> dict[str, Any]:
    """`given` with the body's preset in the place of every None; its steps are never more than the cells to reveal.

    A schedule that fixes the number of steps (one_by_one, explicit counts, the order's own) is not a preset: ValueError
    where `given` has another one. The preset's own counts are for whole images in random order, in as many steps.
    """
    row, chosen = preset(config, name), {field: value for field, value in given.items() if value is not None}
    own = SCHEDULE_OF.get(order) if isinstance(order, str) else None
    counts, schedule = row.pop("schedule", None), chosen.get("schedule", own)
    row["steps"] = min(row["steps"], cells)
    fixed = _steps_of(schedule, cells)
    if fixed is not None:
        row["steps"] = fixed
        if chosen.get("steps", fixed) != fixed:
            raise ValueError(
                f"the schedule has {fixed} steps of its own, got steps {chosen['steps']}; leave one of them out"
            )
    found = row | chosen
    if counts and schedule is None and order == "random" and (len(counts), sum(counts)) == (found["steps"], cells):
        found["schedule"] = counts
    return found


def _steps_of(schedule: str | Sequence[int] | None, cells: int) -> int | None:
    """How many steps a schedule has whatever `steps` says; None where it goes by `steps`."""
    if schedule == "one_by_one":
        return cells
    return len(schedule) if isinstance(schedule, Sized) and not isinstance(schedule, str) else None
