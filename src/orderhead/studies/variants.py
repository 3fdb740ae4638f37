"""Section 3 of the study: thirteen ways to train a head, each against random on the body that it was trained with.

heads/ROW (training, resumable) -> samples/ROW-MODE -> results.jsonl -> table.md, report.html. A row that is there is
passed over, so a study that was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orderhead.body.load import load_body
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.sampling.presets import preset
from orderhead.sampling.sample import Settings
from orderhead.studies.beside import DOCUMENT_RANDOM, differences, reported, table
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.plan import Plan
from orderhead.studies.worlds import World
from orderhead.training.ground import ground_at, ground_body
from orderhead.training.recipes import run_recipe
from orderhead.training.variants import HEAD_RECIPES, VARIANTS


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


def variants(plan: Plan) -> Path:
    """Train the document's rows, or those named (ours too), and measure each in the modes in which it evaluated them.

    ValueError for an unknown row or scale, and for `full` without a ground.
    """
    size = lookup("scale", plan.scale, SCALES)
    for name in plan.only:
        lookup("row", name, HEAD_RECIPES)
    run = _baseline(plan, size)
    execute(run)
    for name in plan.only or VARIANTS:
        folder = plan.trained / "heads" / name
        run_recipe(name, size.recipe, folder, {"seed": str(plan.seed)}, plan.ground)
        run = replace(run, arms={**run.arms, **_arms(run, name, folder)})
        execute(run)
    write_text(run.out / "table.md", table(differences(run.out)))
    return run.out


def _baseline(plan: Plan, size: Scale) -> Comparison:
    """The run with no row but random."""
    ground = ground_at(plan.scale, plan.ground)
    body = ground_body(ground)
    settings = Settings(**preset(body.config) | dict(size.settings) | dict(plan.settings))
    settings.check(body)
    asked = {} if plan.ground is None else {"classifier": ground.classifier}
    world = World.of(body.config, {**asked, **plan.judging})
    told, n = reported() | {BASELINE: DOCUMENT_RANDOM}, plan.images or size.images
    return Comparison(
        plan.out, "variants", ground.body, body, {BASELINE: Arm(settings)}, n, settings, world, reported=told
    )


def _arms(run: Comparison, name: str, folder: Path) -> dict[str, Arm]:
    """A trained row's arms, one a mode; on its own body where that was trained too."""
    row = HEAD_RECIPES[name]
    body = load_body(str(folder / "body")).to(run.body.device) if row.body_mode == "full" else None
    learned = replace(run.settings, order="learned", head=str(folder))
    return {f"{name}-{mode}": Arm(replace(learned, rescore=mode), body) for mode in row.modes}
