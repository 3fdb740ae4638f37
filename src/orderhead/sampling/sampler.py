"""The loop: where, what, keep. Everything that makes one order, body or trace differ from another is passed in.

Legend: B batch, L cells, C channels, N revealed cells of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from orderhead.body.diffusion import Denoiser
from orderhead.orders.policy import Policy, ask
from orderhead.orders.state import DecodeState, top_masked
from orderhead.sampling.guidance import Guidance
from orderhead.sampling.solvers import Denoising, Solver


class Body(Protocol):
    """What the sampler needs of a model (MAR has it)."""

    def predict(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> Tensor: ...
    def denoise(self, x_NC: Tensor, t_N: Tensor, z_ND: Tensor) -> Tensor: ...


Predict = Callable[[DecodeState], DecodeState]
Draw = Callable[[DecodeState, Tensor], Tensor]
"""State, where_BL -> values (N, C) of the cells where `where_BL` is True, in raster order."""
Save = Callable[[DecodeState, Tensor], None]


@torch.no_grad()
def decode(
    state: DecodeState, predict: Predict, policy: Policy, draw: Draw, save: Save, rescore_steps: Collection[int]
) -> DecodeState:
    """Reveal every cell: the policy says where, the draw says what, `save` keeps what it likes."""
    for step, count in enumerate(state.counts):
        state = predict(state)
        if step in rescore_steps:
            state = replace(state, scores_BL=ask(policy, state))
        assert state.scores_BL is not None, "step 0 is a rescoring step"
        where_BL = top_masked(state.scores_BL, state.mask_BL, count)
        state = state.reveal(where_BL, draw(state, where_BL))
        save(state, where_BL)
    return state


def plain(body: Body) -> Predict:
    """z under the labels alone."""
    return lambda state: replace(state, z_BLD=body.predict(state.tokens_BLC, state.mask_BL, state.labels_B).float())


def with_null(body: Body) -> Predict:
    """z under the labels and under no label, in one pass; both halves share the mask, hence the order."""

    def predict(state: DecodeState) -> DecodeState:
        labels_2B = torch.cat([state.labels_B, torch.full_like(state.labels_B, -1)])
        z_2BLD = body.predict(state.tokens_BLC.repeat(2, 1, 1), state.mask_BL.repeat(2, 1), labels_2B).float()
        z_BLD, z_null_BLD = z_2BLD.chunk(2)
        return replace(state, z_BLD=z_BLD, z_null_BLD=z_null_BLD)

    return predict


def _cells(state: DecodeState, where_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Image number and cell of each True entry, raster order inside an image."""
    row_N, cell_N = where_BL.nonzero(as_tuple=True)
    return state.index_B[row_N], cell_N


def diffusion_draw(body: Body, solver: Solver, settings: Denoising, guidance: Guidance | None, channels: int) -> Draw:
    """Draw each token from the body's diffusion head; with guidance, the state holds z under no label too."""

    def draw(state: DecodeState, where_BL: Tensor) -> Tensor:
        index_N, cell_N = _cells(state, where_BL)
        assert state.z_BLD is not None
        denoise = _denoiser(body, state.z_BLD[where_BL])
        if guidance is not None:
            assert state.z_null_BLD is not None, "guidance needs with_null(body)"
            denoise = _guided(body, state.z_BLD[where_BL], state.z_null_BLD[where_BL], guidance(state, where_BL))
        return solver(denoise, lambda k: state.rng.noise(index_N, cell_N, k, channels), settings)

    return draw


def _denoiser(body: Body, z_ND: Tensor) -> Denoiser:
    return lambda x_NC, t_N: body.denoise(x_NC, t_N, z_ND).float()


def _guided(body: Body, z_ND: Tensor, z_null_ND: Tensor, g_N: Tensor) -> Denoiser:
    """epsilon pulled from no label towards the label by g; the variance is the label's."""
    z_2ND = torch.cat([z_ND, z_null_ND])

    def denoise(x_NC: Tensor, t_N: Tensor) -> Tensor:
        out_2N = body.denoise(x_NC.repeat(2, 1), t_N.repeat(2), z_2ND).float()
        (epsilon, variance), (null, _) = (half.chunk(2, dim=-1) for half in out_2N.chunk(2))
        return torch.cat([null + g_N[:, None] * (epsilon - null), variance], dim=-1)

    return denoise


def given_draw(tokens_BLC: Tensor) -> Draw:
    """Ground-truth injection: put the tokens of a real image."""
    return lambda state, where_BL: tokens_BLC[where_BL]


class Injected:
    """Another draw's values are kept in `drawn_BLC`, and the real image's tokens put: drawn from a perfect context."""

    def __init__(self, draw: Draw, tokens_BLC: Tensor) -> None:
        self._draw, self._tokens_BLC, self.drawn_BLC = draw, tokens_BLC, torch.zeros_like(tokens_BLC)

    def __call__(self, state: DecodeState, where_BL: Tensor) -> Tensor:
        self.drawn_BLC[where_BL] = self._draw(state, where_BL).to(self.drawn_BLC.dtype)
        return self._tokens_BLC[where_BL]
