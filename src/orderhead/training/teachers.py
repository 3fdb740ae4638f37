"""A trained head as an oracle: in which order it would reveal a real image (the study's first alternative).

Legend: B batch, L cells, C token channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.core.rng import Paired
from orderhead.oracles.importance import Oracle
from orderhead.orders.head import OrderHead, load_head
from orderhead.orders.learned import learned
from orderhead.orders.state import DecodeState
from orderhead.sampling.sampler import decode, given_draw, plain
from orderhead.sampling.schedule import cosine
from orderhead.sampling.trace import Recorder

SHIPPED: Mapping[str, str] = {"nonaligned_oracle_10ep": "fashion-nonaligned"}
"""Row of the study -> the head that it trained and that ships."""


def load_teacher(name: str, body: MAR) -> OrderHead:
    """The trained head of a row (the one that ships), or of a folder, where the body is.

    ValueError where there is none, or it was trained on another body.
    """
    try:
        head = load_head(SHIPPED.get(name, name))
        head.fits(body.grid, body.config.decoder_width, body.config.classes)
    except ValueError as error:
        raise ValueError(f"the teacher {name}: {error}; train one on this body, then give teacher=FOLDER") from None
    return head.to(body.device).requires_grad_(False)


def slow_ranking(body: MAR, head: OrderHead) -> Oracle:
    """1 for the cell that the head reveals first, 0 for the last, when it is asked at every step while the real
    image's tokens are put into the cells that it chose (teacher forcing).

    The steps are those of the cosine schedule of T = L / 4, as in `contexts.on_policy`; inside a step the higher score
    comes first (ours).
    """

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        B, L, C = tokens_BLC.shape
        counts = cosine(L // 4, L)
        state = DecodeState.start(body.grid, C, labels_B, torch.arange(B), counts, Paired(0))
        asked = range(len(counts))
        recorder = Recorder(counts, asked)
        decode(state, plain(body.conditions), learned(head), given_draw(tokens_BLC), recorder, asked)
        rank_BL = torch.from_numpy(recorder.trace(labels_B).rank_BL)
        return (1 - rank_BL / (L - 1)).float().to(tokens_BLC.device)

    return importance
