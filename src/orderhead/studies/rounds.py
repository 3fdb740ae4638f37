"""What sections of the study share: a run with no row but random, and rows that are trained and measured in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from orderhead.body.load import load_body
from orderhead.core.files import read_json
from orderhead.core.names import lookup
from orderhead.data.latents import fingerprint
from orderhead.sampling.presets import filled
from orderhead.sampling.settings import Settings
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.plan import SCALES, Plan
from orderhead.studies.worlds import LEAST_IMAGES, World
from orderhead.training.ground import ground_at, ground_body
from orderhead.training.heads import scales
from orderhead.training.loop import Evaluation, LoopConfig, check_identity, identity_of
from orderhead.training.recipes import TRAINED, run_recipe
from orderhead.training.variants import HEAD_RECIPES


def baseline(plan: Plan, study: str, reported: Mapping[str, float | None]) -> Comparison:
    """The run called `study` with no row but random; `reported` are the document's numbers by row.

    ValueError for an unknown scale, too few images, and for `full` without a ground.
    """
    size = lookup("scale", plan.scale, SCALES)
    ground = ground_at(plan.scale, plan.ground)
    body = ground_body(ground)
    settings = Settings(**filled(body.config, body.grid.L, {}) | dict(size.settings) | dict(plan.settings))
    settings.check(body)
    asked = {} if plan.ground is None else {"classifier": ground.classifier}
    world = World.of(body.config, {**asked, **plan.judging})
    n = size.images if plan.images is None else plan.images
    if n < LEAST_IMAGES:
        raise ValueError(f"a study takes at least {LEAST_IMAGES} images a row, got {n}")
    return Comparison(
        plan.out, study, ground.body, body, {BASELINE: Arm(settings)}, n, settings, world, reported=reported,
        command=plan.command(study),
    )  # fmt: skip


Watch = tuple[int, Evaluation]
"""How often a row is looked at while it is trained, evenly spread, and by what."""


def train_and_measure(
    plan: Plan,
    run: Comparison,
    rows: Sequence[str],
    arms: Callable[[Comparison, str, Path], Mapping[str, Arm]] | None = None,
    watch: Mapping[str, Watch] = MappingProxyType({}),
) -> Comparison:
    """`run` with these rows of `HEAD_RECIPES`: each is trained, sampled as its `arms` and measured before the next.

    `arms` maps a run, a row and its folder to what is sampled (`arms_of`: one a mode); `watch` looks at rows by name.
    """
    others = {name: trained(plan, name) for name in rows} if plan.models else {}  # before anything is sampled
    execute(run)
    for name in rows:
        folder = others[name] if plan.models else trained(plan, name, watch.get(name))
        run = replace(run, arms={**run.arms, **(arms or arms_of)(run, name, folder)})
        execute(run)
    return run


def trained(plan: Plan, name: str, watch: Watch | None = None) -> Path:
    """The folder of the row's head, which is trained there unless it is, and its teacher before it; what another run
    lends is only read."""
    folder, row = plan.trained / "heads" / name, HEAD_RECIPES[name]
    teacher = row.teacher
    if plan.models:
        body = ground_body(ground_at(plan.scale, plan.ground))
        return lent(plan, folder, scales(row), {"name": name, "body_weights": fingerprint(body)})
    taught = {"teacher": str(trained(plan, teacher))} if teacher else {}
    run_recipe(name, SCALES[plan.scale].recipe, folder, {"seed": str(plan.seed), **taught}, plan.ground, watch)
    return folder


def lent(plan: Plan, folder: Path, sizes: Mapping[str, LoopConfig], about: Mapping[str, str]) -> Path:
    """The folder of a model that another run has trained, at the plan's scale and seed, and as `about` says.

    ValueError where it has not; nothing is written.
    """
    instead = "give the folder of a run that has it, or no --models"
    if not all((folder / name).is_file() for name in (TRAINED, "model.safetensors")):
        raise ValueError(f"no trained {folder.name} in {plan.models}; {instead}")
    found = read_json(folder / TRAINED)
    known = {name: value for name, value in found.get("recipe", {}).items() if name in about}
    wanted = identity_of(replace(sizes[SCALES[plan.scale].recipe], seed=plan.seed), about)
    check_identity({**found, "recipe": known}, wanted, folder, instead)
    return folder


def arms_of(run: Comparison, name: str, folder: Path) -> dict[str, Arm]:
    """A trained row's arms, one a mode; on its own body where that was trained too."""
    row = HEAD_RECIPES[name]
    body = None if row.body_mode == "frozen" else load_body(str(folder / "body")).to(run.body.device)
    learned = replace(run.settings, order="learned", head=str(folder))
    return {f"{name}-{mode}": Arm(replace(learned, rescore=mode), body) for mode in row.modes}


def arms_and_random(run: Comparison, name: str, folder: Path) -> dict[str, Arm]:
    """`arms_of` a row that trains its body, and that body under random order (ours): is it the body or the order?"""
    arms = arms_of(run, name, folder)
    body = next(arm.body for arm in arms.values())
    return {**arms, f"{name}-{BASELINE}": Arm(run.settings, body)}
