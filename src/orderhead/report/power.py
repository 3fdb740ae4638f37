"""How much a run could see: the widths of its intervals, and what pairing does to them."""

from __future__ import annotations

from statistics import median

from orderhead.report import verdicts
from orderhead.report.load import Number, Report


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
    return (
        f"What that is worth can be measured: in this run the interval of such a difference in FD is {middle} times as "
        f"wide as that of two runs with independent noise would be ({spread}; at 1, pairing gains nothing)."
    )
