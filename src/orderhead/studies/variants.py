"""Section 3 of the study: thirteen ways to train a head, each against random on the body that it was trained with.

heads/ROW (training, resumable) -> samples/ROW-MODE -> results.jsonl -> table.md, report.html. A row that is there is
passed over, so a study that was stopped goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path

from orderhead.core import dist
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.studies.beside import DOCUMENT_RANDOM, differences, reported, table
from orderhead.studies.compare import BASELINE
from orderhead.studies.plan import Plan
from orderhead.studies.rounds import baseline, train_and_measure
from orderhead.training.variants import HEAD_RECIPES, VARIANTS


def variants(plan: Plan) -> Path:
    """Train the document's rows, or those named (ours too), and measure each in the modes in which it evaluated them.

    ValueError for an unknown row or scale, and for `full` without a ground.
    """
    for name in plan.only:
        lookup("row", name, HEAD_RECIPES)
    run = baseline(plan, "variants", reported() | {BASELINE: DOCUMENT_RANDOM})
    run = train_and_measure(plan, run, plan.only or tuple(VARIANTS))
    dist.barrier()
    if dist.rank() == 0:
        write_text(run.out / "table.md", table(differences(run.out)))
    return run.out
