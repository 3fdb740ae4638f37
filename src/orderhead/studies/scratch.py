"""Section 7 of the study: body and head from random weights, beside bodies that are trained the usual way.

bodies/scratch_plain is the run's body, and its random order the baseline of every difference: the document's MAR-S.
bodies/scratch_plain* and heads/ROW (training, resumable) -> samples/ -> results.jsonl -> table.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orderhead.body.load import load_body
from orderhead.body.mar import MAR
from orderhead.core import dist, results
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.studies.beside import difference, row_of
from orderhead.studies.compare import BASELINE, Arm, Comparison
from orderhead.studies.epochs import LOOK_IMAGES, Look, looking, looks_at
from orderhead.studies.plan import SCALES, Plan
from orderhead.studies.rounds import arms_and_random, baseline, lent, train_and_measure
from orderhead.studies.told import Told
from orderhead.training.recipes import run_recipe
from orderhead.training.scratch import PLAIN, SCRATCH, VARIED

ROWS = {**SCRATCH, **VARIED}
SMALL, LARGE = PLAIN
LOOKS = 8  # a row: every fiftieth of its 400 epochs; score_std is logged between them too

DOCUMENT_SMALL = 31.28  # FID-5K of MAR-S
REPORTED: Mapping[str, float | None] = {BASELINE: DOCUMENT_SMALL, f"{LARGE}-{BASELINE}": 18.87} | {
    f"{name}-fast": row.reported.get("fast") for name, row in ROWS.items()
}
"""Arm -> the document's FID-5K on ImageNet-100."""

REPORTED_IS: Mapping[str, float] = {"scratch_saliency_attn-fast": 15.45, "scratch_cls_k-fast": 20.62}
TOLD = Told(
    "Section 7: body and head from random weights",
    "random is the plain body under random order, the document's MAR-S. Its FID-5K and IS are on ImageNet-100, by "
    "other features than ours: compare rankings, not values.",
    {"fd": "Frechet distance", "is": "IS"},
    {arm: {"fd": fid, "is": REPORTED_IS.get(arm)} for arm, fid in REPORTED.items()},
)
REPORTED_SPREAD: Mapping[str, str] = {"scratch_saliency_attn": "0.50 (collapsed)", "scratch_cls_k": "0.012, then 1.6"}


def scratch(plan: Plan) -> Path:
    """Train the plain bodies and the rows, or the small one and those named, and measure them.

    Every body is measured under random order, those with a head under its fast order too; all have seen as many images.
    ValueError for an unknown row or scale, and for `full` without a ground.
    """
    for name in plan.only:
        lookup("row", name, {LARGE: LARGE, **ROWS})
    rows = [name for name in ROWS if not plan.only or name in plan.only]
    shipped = baseline(plan, "scratch", {})  # the page says of such numbers that they are FIDs of 50,000 images
    run = replace(shipped, body=plain_body(plan, SMALL).to(shipped.body.device), body_name=SMALL, told=(TOLD,))
    if not plan.only or LARGE in plan.only:
        large = plain_body(plan, LARGE).to(run.body.device)
        run = replace(run, arms={**run.arms, f"{LARGE}-{BASELINE}": Arm(run.settings, large)})
    look = looking(run, LOOK_IMAGES[plan.scale])
    run = train_and_measure(plan, run, rows, arms_and_random, dict.fromkeys(rows, (LOOKS, look)))
    dist.barrier()
    if dist.rank() == 0:
        _write(plan, run, rows)
    return run.out


def _write(plan: Plan, run: Comparison, rows: Sequence[str]) -> None:
    """The looks at the rows and the table; on one process, once all that it reads is there."""
    found = looks_at(plan, run, {name: ROWS[name].epochs for name in rows})
    write_text(run.out / "table.md", table(run) + spreads(found))


def plain_body(plan: Plan, name: str) -> MAR:
    """A row of `PLAIN`, frozen; trained in `bodies/NAME` unless it is. ValueError where another run is to lend it."""
    folder = plan.trained / "bodies" / name
    if plan.models:
        lent(plan, folder, PLAIN[name].scales, {"name": name})
    else:
        run_recipe(name, SCALES[plan.scale].recipe, folder, {"seed": str(plan.seed)}, plan.ground)
    return load_body(str(folder)).requires_grad_(False)


def table(run: Comparison) -> str:
    """Our distances and scores beside the document's; differences are to the plain body under random order."""
    found = results.figures(results.read(run.out / "results.jsonl"))
    head = (
        "| row | order | ours: FD | minus the plain body's | | IS | document: FID-5K | minus MAR-S's | IS |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(_line(arm, found) for arm in run.arms), "", ""])


def _line(arm: str, found: Mapping[tuple[str, str], results.Result]) -> str:
    name, order = (SMALL, BASELINE) if arm == BASELINE else (row_of(arm), arm.partition("-")[2])
    minus, document = found.get((arm, f"fd_minus_{BASELINE}")), REPORTED.get(arm)
    ours = difference(minus.value, minus.ci) if minus else " | "
    theirs = " | " if document is None else f"{document:.2f} | {document - DOCUMENT_SMALL:+.2f}"
    fd, score, document_score = found[arm, "fd"].value, found[arm, "is"].value, REPORTED_IS.get(arm, "")
    return f"| {name} | {order} | {fd:.2f} | {ours} | {score:.2f} | {theirs} | {document_score} |"


def spreads(found: Mapping[str, Sequence[Look]]) -> str:
    """Does the head collapse? score_std and the distance under its fast order, at every look."""
    lines = [
        f"| {name} | {look.epoch:g} | {look.metrics['fd'][0]:.2f} | {look.score_std:.3f} | "
        f"{REPORTED_SPREAD.get(name, '')} |"
        for name, each in found.items()
        for look in each
    ]
    head = "| row | epoch | ours: FD | score_std | document: score_std |\n|---|---|---|---|---|"
    return "\n".join([head, *lines, ""])
