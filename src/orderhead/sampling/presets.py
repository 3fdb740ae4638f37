"""The settings with which a body is sampled when nobody says: one row a tokenizer, which every body names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orderhead.body.mar import MARConfig

STUDY: Mapping[str, Any] = {"steps": 64, "denoise_steps": 100, "cfg_scale": 2.9}
"""The study's settings for MAR-B, and for every body whose tokenizer has no row."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "kl16": STUDY,
    "fashion": {"steps": 16, "denoise_steps": 25, "cfg_scale": 4.0},
}
"""Tokenizer -> fields of `Settings`. `--help` tells them too."""


def preset(config: MARConfig) -> dict[str, Any]:
    """The settings of a body with this config, a fresh dict to change at will."""
    return dict(PRESETS.get(config.tokenizer, STUDY))


def filled(config: MARConfig, cells: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the body's preset in the place of every None; its steps are never more than the cells to reveal."""
    row = preset(config)
    row["steps"] = min(row["steps"], cells)
    return row | {name: value for name, value in given.items() if value is not None}
