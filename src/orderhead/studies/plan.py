"""How a study is run: at which scale, which rows, on what, judged by whom, and what its settings change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orderhead.core.text import told_path
from orderhead.training.ground import Ground


@dataclass(frozen=True)
class Scale:
    """How much of a study is run: the scale of its recipes, images a row, and what else its settings change."""

    recipe: str
    images: int
    settings: Mapping[str, Any]


SCALES: Mapping[str, Scale] = {
    "smoke": Scale("smoke", 10, {"steps": 8, "denoise_steps": 5}),
    "mini": Scale("mini", 400, {}),
    "full": Scale("full", 50_000, {}),
}


@dataclass(frozen=True)
class Plan:
    """What every study is given. What is left out is the scale's own.

    `out` receives everything; models that another run of the study has trained are taken from its folder `models`.
    `only` names rows; `images` is their number a row; `judging` are fields of `studies.worlds.Sources`, `settings`
    those of `sampling.settings.Settings`. The seed among the settings is the training's too.
    """

    out: Path
    scale: str = "mini"
    only: tuple[str, ...] = ()
    ground: Ground | None = None
    images: int | None = None
    judging: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: Path | None = None

    @property
    def trained(self) -> Path:
        """The folder whose `heads/ROW` are the trained models."""
        return self.models or self.out

    def command(self, name: str) -> str:
        """What runs the study of that name so again, but for where it is put."""
        words = ["orderhead", "study", name, "--scale", self.scale, "--seeds", str(self.seed)]
        words += ["--only", ",".join(self.only)] if self.only else []
        words += ["--images", str(self.images)] if self.images else []
        words += ["--cfg-schedule", str(self.settings.get("cfg_schedule", "linear"))]
        words += ["--models", told_path(self.models)] if self.models else []
        given = {**self.judging, **(self.ground.identity if self.ground else {})}
        words += [w for k, v in given.items() for w in (f"--{'train-images' if k == 'images' else k}", v)]
        return shlex.join([*words, "--out", told_path(self.out)])

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))

    def seeded(self, seed: int, alone: bool) -> Plan:
        """The same under a seed; in a folder of its own, models too, where it is not `alone`."""
        own = replace(self, settings={**self.settings, "seed": seed})
        if alone:
            return own
        models = self.models / f"seed-{seed}" if self.models else None
        return replace(own, out=self.out / f"seed-{seed}", models=models)
