"""Is it the training that makes orders lose? Orders taken apart on bodies that differ in the masks of their training.

A body of MAR's masks has never seen more than 30 % of an image, and hardly ever a context that an order would give it.
Three bodies that ship saw as many images each (`orderhead train fashion-body... --scale full`): under MAR's masks,
under random masks of any ratio, and half of the time in the contexts of three orders themselves. What these orders lose
on the last of them is no lack of training. What they and others cost in bits of real images says how far it reaches.

OUT/images/MASKS/ (a diagnosis of the three orders), OUT/bits/MASKS/ (bits of many) -> OUT/PART/results.jsonl,
OUT/table.md. Run again, it goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orderhead.body.load import load_body
from orderhead.core import results
from orderhead.core.files import write_json, write_text
from orderhead.core.names import lookup
from orderhead.core.results import Result
from orderhead.studies.causes import BITS
from orderhead.studies.compare import BASELINE, Comparison
from orderhead.studies.diagnose import BITS_IMAGES, Diagnosis, execute
from orderhead.studies.gaps import gather, markdown, signed
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

ORDERS = (
    *TRAINED_ORDERS, "blockwise_raster", "halton_fixed", "halton", "spread", "multiscale", "checkerboard", "blockwise",
    "center_perturbed",
)  # fmt: skip
"""Whose bits are taken; images are sampled under the first three alone."""


@dataclass(frozen=True)
class Part:
    """Diagnoses of these orders, one a body; `sampled` as in `Diagnosis`."""

    orders: Sequence[str]
    sampled: bool
    says: str


PARTS: Mapping[str, Part] = {
    "images": Part(TRAINED_ORDERS, True, "the three orders that one of the bodies was trained on, taken apart"),
    "bits": Part(ORDERS, False, "what real images cost under these and other orders"),
}


def contexts(plan: Plan) -> Path:
    """Take the orders (all, or those named by `only`) apart on each body.

    ValueError as for `diagnose`, for an unknown order, and for a ground: these are bodies of their own.
    """
    for name in plan.only:
        lookup("order", name, dict.fromkeys(ORDERS))
    if plan.scale == "full" or plan.ground is not None or plan.models is not None:
        raise ValueError(
            "contexts is about three bodies that ship, at --scale mini; for bodies of your own run `orderhead "
            "diagnose` on each and `orderhead report` on the folder that holds them"
        )
    base = baseline(plan, "diagnose", {})
    check_real(base.world, 2 * base.images)
    chosen = {name: [o for o in part.orders if o in plan.only or not plan.only] for name, part in PARTS.items()}
    write_json(plan.out / "contents.json", {name: PARTS[name].says for name, orders in chosen.items() if orders})
    for name, orders in chosen.items():
        if orders:
            _measure(replace(base, out=plan.out / name), PARTS[name], orders)
    write_text(plan.out / "table.md", table(plan.out))
    return plan.out


def _measure(base: Comparison, part: Part, orders: Sequence[str]) -> None:
    """A diagnosis for each body, and what they found in one file."""
    write_json(base.out / "contents.json", BODIES)
    images = base.images if part.sampled else min(base.images, BITS_IMAGES)
    each = {order: replace(base.settings, order=order) for order in orders}
    random = replace(base.settings, order=BASELINE)
    for masks in BODIES:
        name, out = f"fashion-{masks}", base.out / masks
        body = load_body(name).to(base.body.device)
        execute(Diagnosis(out, name, body, each, random, images, base.world, sampled=part.sampled))
    gather(base.out, BODIES)


SHARES: Mapping[str, tuple[str, int]] = {
    "gap_fd": ("Frechet distance minus random's on the same body", 2),
    **{share: (f"Bits of a real image minus random's: {BITS[share].title}", 1) for share in BITS},
}
"""What the table says of an order -> its heading and digits."""


def table(out: Path) -> str:
    """Markdown: a block for each share, a row an order, a column a body; bold where the interval excludes 0."""
    found = {masks: _lines(out, masks) for masks in BODIES}
    lines = []
    for share, (title, digits) in SHARES.items():
        each = {masks: results.by_row(measured, share) for masks, measured in found.items()}
        present = [order for order in ORDERS if any(order in gaps for gaps in each.values())]
        rows = [[order, *(_cell(gaps.get(order), digits) for gaps in each.values())] for order in present]
        lines += [f"{title}.", "", *markdown(["order", *BODIES], rows), ""]
    return "\n".join([*lines, *(f"- {masks}: {says}" for masks, says in BODIES.items()), ""])


def _lines(out: Path, masks: str) -> list[Result]:
    """Of both parts of a body; bits of an order that was sampled too are the same in both."""
    paths = [out / part / masks / "results.jsonl" for part in PARTS]
    return [line for path in paths if path.exists() for line in results.read(path)]


def _cell(found: Result | None, digits: int) -> str:
    return "" if found is None else signed(found.value, found.ci, digits)
