"""The page's first sentences, generated from the intervals."""

from __future__ import annotations

from typing import Literal

from orderhead.report.load import Number, Report, Row
from orderhead.report.reading import READINGS

Verdict = Literal["better", "worse", "no evidence"]
Part = tuple[str, str]  # text, and the verdict that it speaks of ("" for none)


def verdict(metric: str, difference: Number | None) -> Verdict | None:
    """What a paired difference to the baseline says; None without an interval."""
    if difference is None or difference.ci is None:
        return None
    lo, hi = difference.ci
    if lo <= 0 <= hi:
        return "no evidence"
    return "better" if (lo > 0) == READINGS[metric].higher else "worse"


def verdicts(report: Report, metric: str = "fd") -> dict[str, Verdict]:
    """The verdict of every order that can be compared to the baseline."""
    return {
        row.order: said
        for row in report.rows
        if row.order != report.baseline and (said := verdict(metric, report.difference(row, metric)))
    }


def answer(report: Report) -> list[Part]:
    """The first sentence in parts, for example "At 16 steps on the fashion body, 2 of 9 orders beat random ..."."""
    found = list(verdicts(report).values())
    if not found:
        return [(_nothing(report), "")]
    won, lost, open_ = (found.count(v) for v in ("better", "worse", "no evidence"))
    parts = [(_opening(report), ""), (_won(won, len(found), report.baseline), "better")]
    rest = [(_lost(lost), "worse")]
    if open_:
        rest += [(f"{open_} show{'s' if open_ == 1 else ''} no evidence either way", "no evidence")]
    parts += [(f" on {report.readings['fd'].title}, ", ""), *_joined(rest)]
    return [*parts, (f" (n = {_n(report)} images, paired 95 % intervals).", "")]


def extremes(report: Report) -> str:
    """The best and the worst order by Frechet distance, named; empty with fewer than two."""
    rows = [r for r in report.measured if "fd" in r.numbers]
    if len(rows) < 2:
        return ""
    return f"Best is {_named(report, rows[0])}; worst is {_named(report, rows[-1])}."


def text(parts: list[Part]) -> str:
    return "".join(part for part, _ in parts)


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """Fixed point with a real minus sign; never "-0.00"."""
    shown = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def interval(ci: tuple[float, float], digits: int = 2, signed: bool = False) -> str:
    return f"[{number(ci[0], digits, signed)}, {number(ci[1], digits, signed)}]"


def _nothing(report: Report) -> str:
    baseline = next((r for r in report.rows if r.order == report.baseline), None)
    if baseline is None or not baseline.numbers:
        return f"The baseline, {report.baseline}, is not measured yet, so no order can be called better or worse."
    if len(report.measured) == 1:
        return f"Only the baseline, {report.baseline}, is measured so far, so there is nothing to compare it with."
    return f"No paired difference to {report.baseline} has an interval, so no order can be called better or worse."


def _opening(report: Report) -> str:
    steps = report.protocol.get("steps")
    where = f"on the {report.body} body, "
    return f"At {steps} steps {where}" if isinstance(steps, int) else where.capitalize()


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
    said = f"{row.order} at {number(fd.value)}"
    if row.order == report.baseline:
        return f"{said} (the baseline itself)"
    if difference is None or difference.ci is None:
        return said
    doubt = ", which may be chance" if verdict("fd", difference) == "no evidence" else ""
    return (
        f"{said} ({number(difference.value, 2, True)} {interval(difference.ci, 2, True)} to {report.baseline}{doubt})"
    )
