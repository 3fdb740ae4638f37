"""A body whose passes are noticed: for progress bars, and for runs that take turns."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor

from orderhead.body.conditions import PassConditions
from orderhead.body.mar import MAR


def watched(body: MAR, seen: Callable[[], object]) -> MAR:
    """The same body, sharing its weights; `seen` is called at the start of every pass: one an unmasking step."""
    own, conditions = copy.copy(body), body.conditions

    def noticed(tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> PassConditions:
        seen()
        return conditions(tokens_BLC, mask_BL, labels_B)

    own.conditions = noticed
    return own
