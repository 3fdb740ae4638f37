"""The settings with which a body is sampled when nobody says: one row a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STUDY: Mapping[str, Any] = {"steps": 64, "denoise_steps": 100, "cfg_scale": 2.9, "cfg_schedule": "linear"}
"""The study's settings for MAR-B, and for every body that has no row."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fashion": {"steps": 16, "denoise_steps": 25, "cfg_scale": 4.0, "cfg_schedule": "linear"},
}
"""Body name -> fields of `Settings`."""


def preset(body: str) -> dict[str, Any]:
    """The settings of the body called `body`, a fresh dict to change at will."""
    return dict(PRESETS.get(body, STUDY))
