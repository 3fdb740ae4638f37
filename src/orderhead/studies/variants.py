"""Section 3 of the study: thirteen ways to train a head, each against random on the body that it was trained with.

heads/ROW (training, resumable) -> samples/ROW-MODE -> results.jsonl -> table.md, report.html. A row that is there is
passed over, so a study that was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orderhead.body.load import load_body
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.sampling.presets import filled
from orderhead.sampling.sample import Settings
from orderhead.studies.beside import DOCUMENT_RANDOM, differences, reported, table
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.plan import Plan
from orderhead.studies.worlds import LEAST_IMAGES, World
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
    rows = plan.only or tuple(VARIANTS)
    _trained(plan, rows)
    run = _baseline(plan, size)
    execute(run)
    for name in rows:
        folder = plan.trained / "heads" / name
        run_recipe(name, size.recipe, folder, {"seed": str(plan.seed)}, plan.ground)
        run = replace(run, arms={**run.arms, **_arms(run, name, folder)})
        execute(run)
    write_text(run.out / "table.md", table(differences(run.out)))
    return run.out


def _trained(plan: Plan, rows: Sequence[str]) -> None:
    """ValueError where another run is to lend its models and lacks one."""
    for name in rows if plan.models else ():
        if not (plan.trained / "heads" / name / "model.safetensors").is_file():
            raise ValueError(
                f"no trained {name} in {plan.models}; give the folder of a run that has it, or no --models"
            )


def _baseline(plan: Plan, size: Scale) -> Comparison:
    """The run with no row but random."""
    ground = ground_at(plan.scale, plan.ground)
    body = ground_body(ground)
    settings = Settings(**filled(body.config, body.grid.L, {}) | dict(size.settings) | dict(plan.settings))
    settings.check(body)
    asked = {} if plan.ground is None else {"classifier": ground.classifier}
    world = World.of(body.config, {**asked, **plan.judging})
    told, n = reported() | {BASELINE: DOCUMENT_RANDOM}, size.images if plan.images is None else plan.images
    if n < LEAST_IMAGES:
        raise ValueError(f"a study takes at least {LEAST_IMAGES} images a row, got {n}")
    return Comparison(
        plan.out, "variants", ground.body, body, {BASELINE: Arm(settings)}, n, settings, world, reported=told
    )


def _arms(run: Comparison, name: str, folder: Path) -> dict[str, Arm]:
    """A trained row's arms, one a mode; on its own body where that was trained too."""
    row = HEAD_RECIPES[name]
    body = load_body(str(folder / "body")).to(run.body.device) if row.body_mode == "full" else None
    learned = replace(run.settings, order="learned", head=str(folder))
    return {f"{name}-{mode}": Arm(replace(learned, rescore=mode), body) for mode in row.modes}
