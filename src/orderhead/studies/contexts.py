"""Is it the training that makes orders lose? Orders taken apart on bodies that differ in the masks of their training.

A body of MAR's masks has never seen more than 30 % of an image, and never a context that an order would give it. Three
bodies that ship saw as many images each (`orderhead train fashion-body...`): under MAR's masks, under random masks of
any ratio, and half of the time under the contexts of three orders themselves. What an order loses on the last of them
is no lack of training. An order that none of them was trained on is the control.

OUT/contents.json, OUT/MASKS/ (a diagnosis each) -> OUT/table.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from orderhead.body.load import load_body
from orderhead.core import dist, results
from orderhead.core.files import write_json, write_text
from orderhead.core.names import lookup
from orderhead.core.results import Result
from orderhead.studies.compare import BASELINE
from orderhead.studies.diagnose import Diagnosis, execute
from orderhead.studies.plan import Plan
from orderhead.studies.real import check_real
from orderhead.studies.rounds import baseline
from orderhead.training.masks import TRAINED_ORDERS

BODIES: Mapping[str, str] = {
    "published": "trained under MAR's masks: random cells, 70 to 100 % of them masked",
    "uniform": "trained under random masks of any ratio",
    "ordered": f"trained under random masks of any ratio, and as often in the contexts of {', '.join(TRAINED_ORDERS)}",
}
"""Masks -> what the body `fashion-MASKS` was trained under."""

CONTROL = "blockwise_raster"
ORDERS = (*TRAINED_ORDERS, CONTROL)
MOST = 5000  # images an arm, at any scale


def contexts(plan: Plan) -> Path:
    """Take the orders (all, or those named by `only`) apart on each body.

    ValueError as for `diagnose`, for an unknown order, and for a ground: these are bodies of their own.
    """
    for name in plan.only:
        lookup("order", name, dict.fromkeys(ORDERS))
    if plan.ground is not None or plan.models is not None:
        raise ValueError(
            "contexts is about three bodies that ship; for bodies of your own run `orderhead diagnose` on each and "
            "`orderhead report` on the folder that holds them"
        )
    run, chosen = baseline(plan, "diagnose", {}), plan.only or ORDERS
    run = replace(run, images=min(run.images, MOST))
    check_real(run.world, 2 * run.images)
    orders = {name: replace(run.settings, order=name) for name in chosen}
    random = replace(run.settings, order=BASELINE)
    if dist.rank() == 0:
        write_json(plan.out / "contents.json", BODIES)
    for masks in BODIES:
        body, out = f"fashion-{masks}", plan.out / masks
        model = load_body(body).to(run.body.device)
        execute(Diagnosis(out, body, model, orders, random, run.images, run.world))
    write_text(plan.out / "table.md", table(plan.out))
    return plan.out


SHARES: Mapping[str, tuple[str, int]] = {
    "gap_fd": ("Frechet distance minus random's", 2),
    "bits_gap": ("bits of a real image minus random's", 1),
    "bits_mismatch": ("of which contexts that the body handles worse", 1),
    "bits_together": ("of which dependence that a step ignores", 1),
}
"""What the table says of an order -> its heading and digits."""


def table(out: Path) -> str:
    """Markdown: a block for each share, a row an order, a column a body; bold where the interval excludes 0."""
    found = {masks: results.read(out / masks / "results.jsonl") for masks in BODIES}
    lines = []
    for share, (title, digits) in SHARES.items():
        each = {masks: results.by_row(rows, share) for masks, rows in found.items()}
        lines += [f"{title}, 95 % intervals", "", *_line("order", BODIES), *_line("---", ["---"] * len(BODIES))]
        for order in next(iter(each.values())):
            lines += _line(order, [_cell(rows.get(order), digits) for rows in each.values()])
        lines.append("")
    return "\n".join([*lines, *(f"- {masks}: {says}" for masks, says in BODIES.items()), ""])


def _line(name: str, cells: Iterable[str]) -> list[str]:
    return [f"| {' | '.join([name, *cells])} |"]


def _cell(found: Result | None, digits: int) -> str:
    if found is None or found.ci is None:
        return ""
    lo, hi = found.ci
    said = f"{found.value:+.{digits}f}"
    return f"{f'**{said}**' if lo > 0 or hi < 0 else said} [{lo:.{digits}f}, {hi:.{digits}f}]"
