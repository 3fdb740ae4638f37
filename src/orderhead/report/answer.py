"""The page's first sentences, generated from the intervals."""

from __future__ import annotations

from orderhead.report import power, verdicts
from orderhead.report.load import Report, Row
from orderhead.report.words import interval, listed, number

Part = tuple[str, str]  # text, and the verdict that it speaks of ("" for none)


def answer(report: Report) -> list[Part]:
    """The first sentence in parts, for example "At 16 steps on the fashion body, 2 of 9 orders beat random ..."."""
    found = list(verdicts.verdicts(report).values())
    if not found:
        return [(_nothing(report), "")]
    won, lost, open_ = (found.count(v) for v in ("better", "worse", "no evidence"))
    parts = [(_opening(report), ""), (_won(won, len(found), report.baseline), "better")]
    rest = [(_lost(lost), "worse")]
    if open_:
        rest += [(f"{open_} show{'s' if open_ == 1 else ''} no evidence either way", "no evidence")]
    parts += [(f" on {report.readings['fd'].title}, ", ""), *_joined(rest)]
    sure = "paired 95 % interval" if len(found) == 1 else f"95 % certainty for all {len(found)} together"
    return [*parts, (f" (n = {_n(report)} images, {sure}).", "")]


def below(report: Report) -> list[str]:
    """The sentences under the answer."""
    return [sentence for say in (extremes, power.seen, together) if (sentence := say(report))]


def extremes(report: Report) -> str:
    """The ends of the ranking, named, and what it is worth in between; empty with fewer than two orders."""
    rows = [r for r in report.measured if "fd" in r.numbers]
    if len(rows) < 2:
        return ""
    lowest, highest = _named(report, rows[0]), _named(report, rows[-1])
    return f"Lowest {report.readings['fd'].short}: {lowest}; highest: {highest}.{_chance(report)}"


def _chance(report: Report) -> str:
    """How many orders cannot be told from the baseline, so that nobody reads a ranking into them."""
    said = list(verdicts.verdicts(report).values())
    m, alike = len(said), said.count("no evidence")
    if not alike:
        return ""
    who = f"{alike} of {m} orders {'is' if alike == 1 else 'are'}"
    if alike == m:
        who = f"All {m} orders are" if m > 1 else "The one order is"
    return f" {who} indistinguishable from {report.baseline} here: a place in the ranking may be chance."


def together(report: Report) -> str:
    """What the correction for many comparisons means; empty with fewer than two."""
    m, alone = len(verdicts.compared(report)), verdicts.uncertain(report)
    if m < 2:
        return ""
    said = (
        f"{m} orders are judged together: better or worse is said only where that holds at 95 % for all {m} at once "
        "(Holm's correction). The intervals shown are 95 % each"
    )
    if alone:
        said += f"; taken alone, {listed(alone)} would differ from {report.baseline}"
    return f"{said}."


def text(parts: list[Part]) -> str:
    return "".join(part for part, _ in parts)


def _nothing(report: Report) -> str:
    baseline = next((r for r in report.rows if r.order == report.baseline), None)
    if baseline is None or not baseline.numbers:
        return f"The baseline, {report.baseline}, is not measured yet, so no order can be called better or worse."
    if len(report.measured) == 1:
        return f"Only the baseline, {report.baseline}, is measured so far, so there is nothing to compare it with."
    return f"No paired difference to {report.baseline} has an interval, so no order can be called better or worse."


def _opening(report: Report) -> str:
    where, own = f"on the {report.body} body, ", _own_steps(report)
    if report.steps is None:
        return where[0].upper() + where[1:]
    return f"At {report.steps} steps{f' ({own})' if own else ''} {where}"


def _own_steps(report: Report) -> str:
    """The orders that take another number of steps, for example "ar_raster and ar_random: 64"."""
    found: dict[int, list[str]] = {}
    for row in report.measured:
        if steps := report.own_steps(row):
            found.setdefault(steps, []).append(row.order)
    return "; ".join(f"{listed(orders)}: {steps}" for steps, orders in found.items())


def _won(won: int, of: int, baseline: str) -> str:
    orders = "order" if of == 1 else "orders"
    return f"{won or 'none'} of {of} {orders} beat{'s' if won < 2 else ''} {baseline}"


def _lost(lost: int) -> str:
    return f"{lost or 'none'} lose{'s' if lost < 2 else ''} to it"


def _joined(parts: list[Part]) -> list[Part]:
    return parts if len(parts) == 1 else [parts[0], (", ", ""), *parts[1:]]


def _n(report: Report) -> int:
    counts = [d.n for r in report.rows if (d := report.difference(r, "fd"))]
    return max(counts, default=report.images) or report.images


def _named(report: Report, row: Row) -> str:
    fd, difference = row.numbers["fd"], report.difference(row, "fd")
    said = f"{row.order}, {number(fd.value)}"
    if row.order == report.baseline:
        return f"{said} (the baseline itself)"
    if difference is None or difference.ci is None:
        return said
    doubt = ", which may be chance" if verdicts.of(report, row) == "no evidence" else ""
    return (
        f"{said} ({number(difference.value, 2, True)} {interval(difference.ci, 2, True)} to {report.baseline}{doubt})"
    )
