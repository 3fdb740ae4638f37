"""Section 6 of the study: body and head trained together from the random-order body, watched epoch by epoch.

heads/ROW (training with looks, resumable) -> samples/ROW-fast, samples/ROW-random -> results.jsonl -> table.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orderhead.core import dist
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.studies.beside import Difference, difference, differences, row_of
from orderhead.studies.compare import BASELINE, Comparison
from orderhead.studies.epochs import LOOK_IMAGES, Look, looking, looks_at
from orderhead.studies.plan import Plan
from orderhead.studies.rounds import arms_and_random, baseline, train_and_measure
from orderhead.studies.told import Told
from orderhead.training.finetuning import CONTROLS, FINETUNING

ROWS = {**FINETUNING, **CONTROLS}
DOCUMENT_RANDOM = 2.31  # FID-50K of the random-order body that section 6 starts from

BY_EPOCH: Mapping[str, Sequence[float | None]] = {
    "finetune_oracle": (17.01, 22.62, 23.86, 23.18, 23.14, 23.37, 21.32, 19.77, 19.49, 18.85),
    "finetune_pure_ste": (26.31, 25.91, 23.16, 21.77, 20.89, 25.00, 28.47, 35.82, 38.27, 33.63),
    "finetune_full": (*[None] * 4, 5.75, *[None] * 4, 6.94, *[None] * 4, 8.16, *[None] * 4, 9.58),
}
"""The document's FID-5K after each epoch; of `finetune_full`, FID-50K after every fifth."""

REPORTED_IS: Mapping[str, float] = {
    BASELINE: 253.0, "finetune_oracle-fast": 217.0, "finetune_pure_ste-fast": 180.5, "finetune_full-fast": 220.2,
}  # fmt: skip
"""Arm -> the document's IS of 50,000 images; of `finetune_full` after epoch 5 of 20."""


def finetuning(plan: Plan) -> Path:
    """Train the document's rows and ours, or those named, look at each after every epoch, and measure what they end in.

    Each trained body is measured under its head's fast order and under random order. ValueError for an unknown row or
    scale, and for `full` without a ground.
    """
    for name in plan.only:
        lookup("row", name, ROWS)
    rows = plan.only or tuple(ROWS)
    run = replace(baseline(plan, "finetuning", {}), told=(TOLD,))  # `reported` is for section 3's numbers on the page
    look = looking(run, LOOK_IMAGES[plan.scale])
    run = train_and_measure(plan, run, rows, arms_and_random, {name: (ROWS[name].epochs, look) for name in rows})
    dist.barrier()
    if dist.rank() == 0:
        _write(plan, run, rows)
    return run.out


def _write(plan: Plan, run: Comparison, rows: Sequence[str]) -> None:
    """The looks at the rows and the table; on one process, once all that it reads is there."""
    found = looks_at(plan, run, {name: ROWS[name].epochs for name in rows})
    write_text(run.out / "table.md", table(differences(run.out)) + trajectories(found))


def reported() -> dict[str, float | None]:
    """Arm -> the document's FID-50K."""
    arms = {f"{name}-fast": row.reported.get("fast") for name, row in ROWS.items()}
    return {BASELINE: DOCUMENT_RANDOM} | arms


TOLD = Told(
    "Section 6: body and head trained together",
    "random is the body that training starts from. The document's are FID-50K and IS of MAR-B, by other features than "
    "ours: compare rankings, not values. It does not say how often a head was asked; ours are asked once. Of "
    "finetune_full its IS is that after epoch 5 of 20, where its FID-50K was 5.75.",
    {"fd": "Frechet distance", "is": "IS"},
    {arm: {"fd": fid, "is": REPORTED_IS.get(arm)} for arm, fid in reported().items()},
)


def table(found: Mapping[str, Difference]) -> str:
    """What training ended in: under the head's order and, the body alone, under random order."""
    document = reported()
    rows = [
        f"| {row_of(arm)} | {arm.partition('-')[2]} | {difference(*ours)} | {_theirs(document.get(arm))} |"
        for arm, ours in found.items()
    ]
    head = "| row | order | ours: FD minus random's | | document: FID-50K minus random's |\n|---|---|---|---|---|"
    return "\n".join([head, *rows, "", ""])


def _theirs(fid: float | None) -> str:
    return "none reported" if fid is None else f"{fid - DOCUMENT_RANDOM:+.2f}"


def trajectories(found: Mapping[str, Sequence[Look]]) -> str:
    """Epoch by epoch: our FD and score_std beside the document's FID-5K, a table a row."""
    return "\n".join(_trajectory(name, each) for name, each in found.items())


def _trajectory(name: str, found: Sequence[Look]) -> str:
    fids = dict(enumerate(BY_EPOCH.get(name, ()), 1))
    lines = [f"| {look.epoch:g} | {_interval(look)} | {look.score_std:.2f} | {_epoch(fids, look)} |" for look in found]
    n = found[-1].n if found else 0
    head = f"| epoch | ours: FD, {n} images | score_std | document: FID |\n|---|---|---|---|"
    return "\n".join([f"**{name}**", "", head, *lines, ""])


def _interval(look: Look) -> str:
    value, (lo, hi) = look.metrics["fd"]
    return f"{value:.2f} [{lo:.2f}, {hi:.2f}]"


def _epoch(fids: Mapping[int, float | None], look: Look) -> str:
    value = fids.get(int(look.epoch)) if look.epoch == int(look.epoch) else None
    return "" if value is None else f"{value:.2f}"
