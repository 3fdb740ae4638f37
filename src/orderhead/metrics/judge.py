"""What the judge network makes of images: the bundles that every metric reads.

Legend: N images, C H W pixels, F features, K classes.
"""

from __future__ import annotations

from torch import Tensor

from orderhead.core.assets import load
from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.network import MetricNet


def load_judge(name: str = "fashion") -> MetricNet:
    """`fashion` ships. ValueError for an unknown name (with the nearest match) or damaged files."""
    return load(MetricNet, "metrics", name)


def judged(judge: MetricNet, images_NCHW: Tensor, labels_N: Tensor) -> Judged:
    """Generated images in [-1, 1] and the labels that were asked for -> what the metrics read."""
    features, logits = judge.classify(images_NCHW)
    return Judged(features.double().numpy(), logits.double().numpy(), labels_N.cpu().numpy())


def reference(judge: MetricNet, images_MCHW: Tensor, labels_M: Tensor) -> Reference:
    """Real images in [-1, 1] and their labels -> what the metrics compare with."""
    features, logits = judge.classify(images_MCHW)
    return Reference(features.double().numpy(), logits.double().numpy(), labels_M.cpu().numpy())
