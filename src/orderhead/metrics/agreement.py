"""Does the judge see the class that was asked for?

Legend: N generated images.
"""

from __future__ import annotations

from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.statistic import UNIT, Statistic


def agreement(judged: Judged, reference: Reference | None = None) -> Statistic:
    """Fraction of the images whose highest logit is the label asked for, in [0, 1]. Reads no real image.

    The conditional counterpart of accuracy (the "classification accuracy score" family). ValueError where an image was
    made without a label.
    """
    if (judged.labels_N < 0).any():
        raise ValueError("agreement needs a label for every image; some were made without one")
    return Statistic.mean(judged.logits_NK.argmax(axis=1) == judged.labels_N, UNIT)
