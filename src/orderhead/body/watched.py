"""A body whose passes are noticed: for progress bars, and for runs that take turns."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.core.conditions import BatchConditions, Passes


def watched(body: MAR, seen: Callable[[], object]) -> MAR:
    """The same body, sharing its weights; `seen` is called at the start of every pass: one an unmasking step."""
    own, passes = copy.copy(body), body.passes

    def noticed(full_every: int = 1) -> Passes:
        ask = passes(full_every)

        def conditions(tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> BatchConditions:
            seen()
            return ask(tokens_BLC, mask_BL, labels_B)

        return conditions

    own.passes = noticed
    return own
