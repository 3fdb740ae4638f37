"""Linear guidance, which the sampler gives by the step and the linter counts by the cell.

Legend: T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CFG_RANGE = (0.0, 100.0)
"""Guidance scales that make sense: 0 is no class, 1 the class as the body draws it."""


def linear_guidance_T(counts: Sequence[int], cells: int, cfg_scale: float) -> np.ndarray:
    """1 + (cfg - 1)(L - masked after step t) / L for each step, float64 (T,): MAR's sampler, following Muse.

    As published, at least one cell counts as masked, after the last step too: no cell gets the whole of `cfg_scale`.
    `counts` sum to less than `cells` where some cells are known from the start.
    """
    masked_after = np.maximum(sum(counts) - np.cumsum(counts), 1)
    return 1 + (cfg_scale - 1) * (cells - masked_after) / cells
