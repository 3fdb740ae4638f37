"""What one must know to read the numbers right: sentences that stand under the table where they apply."""

from __future__ import annotations

from orderhead.report.load import Report
from orderhead.report.words import listed, number

FEW = 50  # images an order, below which an interval is rough


def few_images(report: Report) -> list[str]:
    """A warning where intervals cannot be taken at their word."""
    n = images_of(report, "fd") or report.images
    if not 0 < n < FEW:
        return []
    return [
        f"only {n} images an order: with fewer than {FEW} the intervals are rough, and a Frechet distance is mostly "
        "the bias of its small sample"
    ]


def under_the_table(report: Report) -> list[str]:
    return [sentence for say in (_intervals, _above_real, _below_zero) if (sentence := say(report))]


def _intervals(report: Report) -> str:
    return (
        "Brackets hold 95 % intervals, each by itself; only the column Verdict is corrected for how many orders there "
        f"are. ▲ or ▼ beside a value: better or worse than {report.baseline} by its own paired interval, uncorrected, "
        "so some of them may be chance."
    )


def _above_real(report: Report) -> str:
    """Generated images that are recognised more often than real ones need a word."""
    real = report.real.get("agreement", 1.0)
    if all(r.numbers["agreement"].value <= real for r in report.measured if "agreement" in r.numbers):
        return ""
    return (
        "Class agreement above that of real images does not mean better than real: guidance makes images typical of "
        "their class, and typical ones are easily recognised."
    )


def _below_zero(report: Report) -> str:
    """A squared distance below 0 needs a word."""
    if all(r.numbers["kid"].value >= 0 for r in report.measured if "kid" in r.numbers):
        return ""
    zero = f"; as many real images score {number(report.real['kid'], 3)}" if "kid" in report.real else ""
    return (
        "KID lies below 0 because its estimator assumes independent draws, and with every class equally often the "
        f"images are more even than that{zero}. Compare it with other rows, not with 0."
    )


def fewer_images(report: Report) -> str:
    """Which metrics are of fewer images, for example "AUC and AUAC on the first 64"."""
    found: dict[int, list[str]] = {}
    for metric, reading in report.readings.items():
        n = images_of(report, metric)
        if 0 < n < report.images:
            found.setdefault(n, []).append(reading.short)
    return "; ".join(f"{listed(names)} on the first {n}" for n, names in found.items())


def images_of(report: Report, metric: str) -> int:
    """How many images an order a metric was measured on; 0 where no result says."""
    return max((r.numbers[metric].n for r in report.measured if metric in r.numbers), default=0)
