"""The metrics by name, and the two questions asked of them: how good, and how much better than the baseline.

    measure(judged, reference)             -> {"fd": Estimate(value, lo, hi, n), ...}
    compare(judged, baseline, reference)   -> {"fd": Estimate of fd(judged) - fd(baseline), ...}

A new metric is one small file and one row of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orderhead.core.names import lookup
from orderhead.metrics import intervals
from orderhead.metrics.agreement import agreement
from orderhead.metrics.bundle import Judged, Reference, remember
from orderhead.metrics.clip_score import clip_score
from orderhead.metrics.frechet import fd
from orderhead.metrics.inception import inception_score
from orderhead.metrics.intervals import Estimate, Verdict
from orderhead.metrics.kernel import cmmd, kid, mmd_rbf
from orderhead.metrics.precision_recall import precision, recall
from orderhead.metrics.statistic import Statistic


@dataclass(frozen=True)
class Metric:
    """What to call it and how to read it.

    `statistic` maps (generated, real) to a value and each image's influence on it. A `proportion` counts hits; a
    `sized` metric is only comparable at equal numbers of images, so its name carries them (`fd5k`).
    """

    title: str
    statistic: Callable[[Judged, Reference], Statistic]
    higher_is_better: bool
    unit: str
    proportion: bool = False
    sized: bool = False

    def __call__(self, judged: Judged, reference: Reference) -> float:
        return self.statistic(judged, reference).value

    def verdict(self, difference: Estimate) -> Verdict:
        """What the interval of a difference to a baseline says: "better", "worse" or "no evidence"."""
        return intervals.verdict(difference.lo, difference.hi, self.higher_is_better)


METRICS: dict[str, Metric] = {
    "fd": Metric("Frechet distance", fd, False, "squared feature units", sized=True),
    "kid": Metric("Kernel distance", kid, False, "unbiased MMD^2, cubic kernel"),
    "cmmd": Metric("CMMD", cmmd, False, "1000 MMD^2, Gaussian kernel"),
    "mmd_rbf": Metric("Gaussian kernel distance", mmd_rbf, False, "1000 MMD^2, Gaussian kernel, the judge's features"),
    "is": Metric("Inception-style score", inception_score, True, "effective classes, 1 to K", sized=True),
    "agreement": Metric("Class agreement", agreement, True, "fraction of images", proportion=True),
    "clip_score": Metric("CLIP score", clip_score, True, "100 times a cosine"),
    "precision": Metric("Precision", precision, True, "fraction of generated images", proportion=True),
    "recall": Metric("Recall", recall, True, "fraction of real images", proportion=True),
}


def named(name: str, n: int, called: Mapping[str, str] = MappingProxyType({})) -> str:
    """The name with its protocol: `fd`, 5000 -> `fd5k`; plain where n is no whole thousand or does not matter.

    `called`: another name for a metric, as `fid` for `fd` on the official Inception's features.
    """
    sized = lookup("metric", name, METRICS).sized and n >= 1000 and n % 1000 == 0
    return called.get(name, name) + (f"{n // 1000}k" if sized else "")


@remember
def _statistic(judged: Judged, reference: Reference, metric: Metric) -> Statistic:
    return metric.statistic(judged, reference)


def measure(judged: Judged, reference: Reference, metrics: Sequence[str] = tuple(METRICS)) -> dict[str, Estimate]:
    """Each metric with its 95 % interval over images. ValueError for an unknown name or features that do not fit."""
    found = {}
    for name in metrics:
        metric = lookup("metric", name, METRICS)
        statistic = _statistic(judged, reference, metric)
        found[name] = intervals.single(statistic, judged.labels_N, proportion=metric.proportion)
    return found


def compare(
    judged: Judged, baseline: Judged, reference: Reference, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, Estimate]:
    """Each metric's difference, judged - baseline, with the 95 % interval of differences on the same images.

    ValueError where the two are not the same images (number or labels), or for an unknown name. A statistic that
    `measure` has computed for the same bundle is not computed again.
    """
    intervals.same_images(judged, baseline)
    found = {}
    for name in metrics:
        metric = lookup("metric", name, METRICS)
        ours, theirs = (_statistic(side, reference, metric) for side in (judged, baseline))
        found[name] = intervals.paired(ours, theirs, judged.labels_N, proportion=metric.proportion)
    return found
