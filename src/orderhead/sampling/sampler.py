"""The loop: where, what, keep. Everything that makes one order, body or trace differ from another is passed in.

Legend: B batch, L cells, C channels, D condition width, N revealed cells of all images, P some of these, X = 1 or 2
(guidance's halves), M = X N.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orderhead.body.conditions import ShiftedConditions
from orderhead.body.denoiser import Ask, SamplingDenoiser
from orderhead.core.conditions import Passes
from orderhead.core.rng import Randomness
from orderhead.orders.policy import Policy, ask
from orderhead.orders.state import DecodeState, top_masked
from orderhead.sampling.allocation import Need, parts
from orderhead.sampling.guidance import Guidance
from orderhead.sampling.replay import replayed
from orderhead.sampling.solvers import Denoise, Denoising, Solver

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


def plain(passes: Passes) -> Predict:
    """Conditions under the labels alone."""
    return lambda state: replace(
        state, conditions=passes(state.tokens_BLC, state.mask_BL, state.labels_B), null_conditions=None
    )


def with_null(passes: Passes) -> Predict:
    """Conditions under the labels and under no label, in one pass; both halves share the mask, hence the order."""

    def predict(state: DecodeState) -> DecodeState:
        labels_2B = torch.cat([state.labels_B, torch.full_like(state.labels_B, -1)])
        both = passes(state.tokens_BLC.repeat(2, 1, 1), state.mask_BL.repeat(2, 1), labels_2B)
        with_label, without = both.halves()
        return replace(state, conditions=with_label, null_conditions=without)

    return predict


def with_null_kept(passes: Passes, every: int) -> Predict:
    """`with_null` at every so many-th step; in between no label stays as far from the labels as it was, cell by cell.

    Half of encoder and decoder is saved there (LazyMAR's condition cache, Yan et al. 2025). With 1 it is `with_null`.
    """
    both, alone, shift_BLD = with_null(passes), plain(passes), torch.empty(0)

    def predict(state: DecodeState) -> DecodeState:
        nonlocal shift_BLD
        if state.step % every == 0:
            state = both(state)
            assert state.conditions is not None
            assert state.null_conditions is not None
            if every > 1 and state.step + 1 < len(state.counts):
                shift_BLD = state.null_conditions.everywhere - state.conditions.everywhere
            return state
        state = alone(state)
        assert state.conditions is not None
        return replace(state, null_conditions=ShiftedConditions(state.conditions, shift_BLD))

    return predict


@dataclass(frozen=True)
class _Solve:
    """Tokens of cells that are revealed at once: by which solver, and with whose noise. Equal ones do the same."""

    solver: Solver
    settings: Denoising
    rng: Randomness
    images: int
    channels: int

    def __call__(
        self, denoiser: SamplingDenoiser, z_MD: Tensor, index_N: Tensor, cell_N: Tensor, *g_N: Tensor
    ) -> Tensor:
        """(N, C) under conditions z of the cells `cell_N` of the images `index_N`; guidance where there is any."""
        steps = self.settings.steps
        ask = denoiser.under(z_MD, self.solver.timesteps(steps), self.images)
        noises = self.rng.noises(index_N, cell_N, self.channels, steps)
        return self.solver.solve(_guided(ask, *g_N) if g_N else _plain(ask), noises, self.settings)


def diffusion_draw(
    denoiser: SamplingDenoiser,
    solver: Solver,
    settings: Sequence[Denoising],
    guidance: Guidance | None,
    channels: int,
    need: Need | None = None,
) -> Draw:
    """Draw each token from a body's diffusion head; with guidance, the state holds conditions under no label too.

    `settings` are the solver's, one for each unmasking step; `need` shares out the steps among its cells.
    """

    def drawn(own: Denoising, state: DecodeState, *inputs: Tensor) -> Tensor:
        solve = _Solve(solver, own, state.rng, len(state.index_B), channels)
        return replayed(denoiser, solve, *inputs) if state.rng.replayable else solve(denoiser, *inputs)

    def draw(state: DecodeState, where_BL: Tensor) -> Tensor:
        assert state.conditions is not None
        z_MD, g_N = state.conditions.at(where_BL), ()
        if guidance is not None:
            assert state.null_conditions is not None, "guidance needs with_null"
            z_MD, g_N = torch.cat([z_MD, state.null_conditions.at(where_BL)]), (guidance(state, where_BL),)
        row_N, cell_N = where_BL.nonzero(as_tuple=True)
        own, each = settings[state.step], (state.index_B[row_N], cell_N, *g_N)
        if need is None:
            return drawn(own, state, z_MD, *each)
        z_XND, values_NC = z_MD.unflatten(0, (-1, len(cell_N))), torch.empty(len(cell_N), channels, device=z_MD.device)
        for part_P, steps in parts(need, state, where_BL, own.steps):
            inputs = z_XND[:, part_P].flatten(0, 1), *(of_N[part_P] for of_N in each)
            values_NC[part_P] = drawn(replace(own, steps=steps), state, *inputs)
        return values_NC

    return draw


def _plain(ask: Ask) -> Denoise:
    def denoise(x_NC: Tensor, t: int) -> tuple[Tensor, Tensor]:
        epsilon_NC, fraction_NC = ask(x_NC, t).chunk(2, dim=-1)
        return epsilon_NC, fraction_NC

    return denoise


def _guided(ask: Ask, g_N: Tensor) -> Denoise:
    """epsilon pulled from no label towards the label by g; the variance is the label's."""
    g_N1 = g_N[:, None]

    def denoise(x_NC: Tensor, t: int) -> tuple[Tensor, Tensor]:
        with_label, without = ask(x_NC, t).chunk(2)
        epsilon_NC, fraction_NC = with_label.chunk(2, dim=-1)
        return torch.lerp(without[:, : x_NC.shape[1]], epsilon_NC, g_N1), fraction_NC

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
