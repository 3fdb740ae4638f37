"""How much a run could see: the widths of its intervals, and what pairing does to them."""

from __future__ import annotations

from statistics import median

from orderhead.report import verdicts
from orderhead.report.load import Number, Report
from orderhead.report.words import number


def half_width(number: Number) -> float:
    """Half the width of an interval; its longer side where the metric's range cuts the other off."""
    assert number.ci
    return max(number.value - number.ci[0], number.ci[1] - number.value)


def pairing(report: Report, metric: str = "fd") -> list[float]:
    """Width of each order's paired difference / width that two independent runs would give, ascending."""
    base = next((r.numbers.get(metric) for r in report.measured if r.order == report.baseline), None)
    if base is None or base.ci is None:
        return []
    own = {r.order: n for r in report.measured if (n := r.numbers.get(metric)) and n.ci}
    apart = {order: (half_width(n) ** 2 + half_width(base) ** 2) ** 0.5 for order, n in own.items()}
    found = verdicts.compared(report, metric).items()
    return sorted(half_width(d) / apart[order] for order, d in found if apart.get(order))


def paired_sentence(report: Report) -> str:
    """What pairing is worth here, measured; empty where nothing is compared."""
    ratios = pairing(report)
    if not ratios:
        return ""
    middle, lo, hi = (f"{r:.2f}" for r in (median(ratios), ratios[0], ratios[-1]))
    spread = (
        f"in the median, {lo} to {hi} over {len(ratios)} orders" if len(ratios) > 1 else "for the one order compared"
    )
    distance = report.readings["fd"].short
    return (
        f"What that is worth can be measured: in this run the interval of such a difference in {distance} is {middle} "
        f"times as wide as that of two runs with independent noise would be ({spread}; at 1, pairing gains nothing)."
    )


def seen(report: Report) -> str:
    """How small a difference this run could have seen; empty where nothing is compared."""
    found = verdicts.compared(report)
    base = next((r.numbers.get("fd") for r in report.measured if r.order == report.baseline), None)
    if not found or base is None:
        return ""
    half, m = median(half_width(d) for d in found.values()), len(found)
    share = (
        f", {100 * half / base.value:.0f} % of {report.baseline}'s own {number(base.value)}" if base.value > 0 else ""
    )
    kind = "median half-width of the intervals" if m > 1 else "half-width of the interval"
    distance = report.readings["fd"].short
    said = f"How small a difference this run could see: about {number(half)} in {distance}{share} ({kind})"
    return f"{said}; a first verdict among {m} takes {number(half * _stricter(report, m))}." if m > 1 else f"{said}."


def _stricter(report: Report, comparisons: int) -> float:
    """How much wider an interval is that holds at 95 % for all comparisons (Bonferroni, Holm's first step)."""
    freedom = verdicts.freedom(report.images, len(report.class_names))
    return verdicts.quantile(freedom, 1 - (1 - verdicts.LEVEL) / comparisons) / verdicts.quantile(freedom)
