"""Does the image look like the words for its class?

Legend: N generated images.
"""

from __future__ import annotations

import numpy as np

from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.statistic import Statistic

RANGE = (0.0, 100.0)


def clip_score(judged: Judged, reference: Reference | None = None) -> Statistic:
    """Mean over images of max(100 cos(image, prompt of the class asked for), 0), in [0, 100]. Reads no real image.

    Hessel et al. 2021, "CLIPScore" (there with weight 2.5, here with the 100 that is used for generators). Only for a
    judge whose logits are those cosines, times 100 (`metrics.clip`). ValueError where an image was made without a
    label.
    """
    if (judged.labels_N < 0).any():
        raise ValueError("clip_score needs a label for every image; some were made without one")
    cosine_N = judged.logits_NK[np.arange(len(judged)), judged.labels_N]
    return Statistic.mean(cosine_N.clip(min=0), RANGE)
