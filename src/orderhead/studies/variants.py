"""Section 3 of the study: thirteen ways to train a head, each against random on the body that it was trained with.

heads/ROW (training, resumable) -> samples/ROW-MODE -> results.jsonl -> report.html. A row that is there is passed over,
so a study that was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orderhead.body.load import load_body
from orderhead.core.device import default_device
from orderhead.core.names import lookup
from orderhead.sampling.presets import preset
from orderhead.sampling.sample import Settings
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.worlds import World
from orderhead.training.head_recipes import Ground
from orderhead.training.recipes import run_recipe
from orderhead.training.variants import VARIANTS


@dataclass(frozen=True)
class Scale:
    """How much of the study is run: the scale of its recipes, images a row, and what else its settings change."""

    recipe: str
    images: int
    settings: Mapping[str, Any]


SCALES: Mapping[str, Scale] = {
    "smoke": Scale("smoke", 10, {"steps": 8, "denoise_steps": 5}),
    "mini": Scale("mini", 400, {}),
    "full": Scale("full", 50_000, {}),
}


def variants(
    out: str | Path,
    scale: str = "mini",
    only: Sequence[str] = (),
    ground: Ground | None = None,
    images: int | None = None,
) -> Path:
    """Train the rows (all, or those named) and measure each as it was evaluated in the document.

    ValueError for an unknown row or scale, and for `full` without a ground.
    """
    chosen = {name: lookup("row", name, VARIANTS) for name in only} if only else VARIANTS
    size, out = lookup("scale", scale, SCALES), Path(out)
    if scale == "full" and ground is None:
        raise ValueError("the study's full scale is MAR-B and ImageNet: give --body, --classifier and --images")
    ground = ground or Ground()
    body = load_body(ground.body).to(default_device())
    settings = Settings(**preset(ground.body) | dict(size.settings))
    run = Comparison(
        out, "variants", ground.body, body, {BASELINE: Arm(settings)}, images or size.images,
        replace(settings, head=None), World.of(body.config, {}),
    )  # fmt: skip
    execute(run)
    for name, row in chosen.items():
        head = out / "heads" / name
        run_recipe(name, size.recipe, head, ground=ground)
        own = load_body(str(head / "body")).to(body.device) if row.body_mode == "full" else None
        arms = {
            f"{name}-{mode}": Arm(replace(settings, order="learned", head=str(head), rescore=mode), own)
            for mode in row.modes
        }
        run = replace(run, arms={**run.arms, **arms})
        execute(run)
    return out / "report.html"
