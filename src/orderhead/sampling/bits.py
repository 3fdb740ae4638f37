"""How many bits a real image costs under an order: the body's likelihood bound, cell by cell, teacher-forced.

A cell's bits are those of its value given what was revealed before it. If the body's conditionals belonged to one joint
distribution, their sum under one cell a step would be the same for every order (the chain rule). So what an order costs
more than random there is mismatch: contexts that the body handles worse than those that it was trained on. What it
costs more at several cells a step is their dependence, which a step ignores.

Legend: B batch, L cells, C channels, N cells of all images, M timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from orderhead.body.diffusion import TIMESTEPS, Diffusion, bound_terms
from orderhead.body.mar import MAR
from orderhead.core.rng import Paired, Randomness
from orderhead.orders.spatial import random
from orderhead.orders.state import DecodeState
from orderhead.sampling.sampler import decode, given_draw, plain
from orderhead.sampling.schedule import rescore_steps
from orderhead.sampling.settings import EXACT, Settings

LEVELS = 32  # timesteps a cell, at most
NOBODY = 2**32 - 1  # the number of a cell that no image has


def spans(levels: int) -> list[int]:
    """The edges of at most `levels` spans of timesteps: 0, 1, ..., 1000, each wider than the one before by one factor.

    Terms are large and differ most at little noise, so there every timestep is a span of its own.
    """
    return [0, *np.unique(np.geomspace(1, TIMESTEPS, levels).round().astype(int)).tolist()]


@dataclass
class BitsRecorder:
    """A save that costs each cell when it is revealed: the sum of the bound's terms over all timesteps, from M of them.

    One timestep from each of M spans, at a place that is drawn for each image (so the sum is unbiased) and is the same
    for its cells; it and the noise are functions of (seed, image, cell), so that orders differ by their contexts alone.
    """

    body: MAR
    bits_BL: Tensor
    step_BL: Tensor
    levels: int

    def __call__(self, state: DecodeState, where_BL: Tensor) -> None:
        assert state.conditions is not None
        z_ND, x0_NC = state.conditions.at(where_BL), state.tokens_BLC[where_BL]
        self.bits_BL[where_BL] = _cell_bits(self.body, z_ND, x0_NC, where_BL, state.index_B, state.rng, self.levels)
        self.step_BL[where_BL] = state.step - 1


def _cell_bits(
    body: MAR, z_ND: Tensor, x0_NC: Tensor, where_BL: Tensor, index_B: Tensor, rng: Randomness, levels: int
) -> Tensor:
    """Bits (N,) of the cells where `where_BL` is True under their conditions."""
    (row_N, cell_N), total_N = where_BL.nonzero(as_tuple=True), torch.zeros(len(z_ND), device=z_ND.device)
    place_N = torch.special.ndtr(rng.noise(index_B, torch.full_like(index_B, NOBODY), 0, 1))[row_N, 0]
    for m, (first, last) in enumerate(pairwise(spans(levels))):
        t_N = first + (place_N * (last - first)).long().clamp(max=last - first - 1)
        noise_NC = rng.noise(index_B[row_N], cell_N, 1 + m, x0_NC.shape[1])
        total_N += (last - first) * bound_terms(
            Diffusion.cosine(), lambda x, t: body.denoise(x, t, z_ND.float()), x0_NC, t_N, noise_NC
        )
    return total_N


def undrawn(settings: Settings) -> Settings:
    """The same order and steps without what draws tokens: guidance, denoising steps, and what is kept between steps."""
    return replace(settings, cfg_scale=1.0, denoise_steps=1, **EXACT)


@torch.no_grad()
def image_bits(
    settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, real_BLC: Tensor, levels: int = LEVELS
) -> tuple[Tensor, Tensor]:
    """Bits of each cell of real images (B, L, C) revealed in the settings' order, and its step; (B, L) each.

    This is about the body's own conditionals: of the settings, order and steps count. `levels` timesteps a cell, at
    most 1000. ValueError as for `Settings.check`.
    """
    settings = undrawn(settings)
    settings.check(body)
    body.eval()
    grid, counts = body.grid, settings.counts(body.grid.L)
    start = DecodeState.start(grid, body.config.channels, labels_B, index_B, counts, Paired(settings.seed))
    bits_BL = torch.zeros(len(labels_B), grid.L, device=body.device)
    recorder = BitsRecorder(body, bits_BL, torch.zeros_like(bits_BL, dtype=torch.long), levels)
    asked = rescore_steps(settings.rescores(), len(counts))
    decode(start, plain(body.conditions), settings.policy(), given_draw(real_BLC.to(body.device)), recorder, asked)
    return recorder.bits_BL, recorder.step_BL


@torch.no_grad()
def context_bits(
    body: MAR, labels_B: Tensor, index_B: Tensor, real_BLC: Tensor, sizes: Sequence[int], probes: int, seed: int = 0
) -> Tensor:
    """What a cell of real images (B, L, C) costs in bits when `sizes` cells chosen at random are known, (B, S).

    The mean over the `probes` cells that a random order reveals last, fewer (down to one, and noisy) where fewer are
    masked: the order being random, each of them stands for any masked cell. Up to L - probes known cells they are the
    same at every size, with the same noise.
    """
    body.eval()
    rng, L = Paired(seed), body.grid.L
    orders_BL = np.stack([random(body.grid, rng.generator(int(i)), ()) for i in index_B])
    rank_BL = torch.from_numpy(orders_BL.argsort(1)).to(body.device)
    tokens_BLC, found = real_BLC.to(body.device), []
    for known in sizes:
        where_BL = rank_BL >= max(known, L - probes)
        z_ND = body.conditions(tokens_BLC, rank_BL >= known, labels_B).at(where_BL)
        bits_N = _cell_bits(body, z_ND, tokens_BLC[where_BL], where_BL, index_B, rng, LEVELS)
        found.append(bits_N.unflatten(0, (len(labels_B), -1)).mean(1))
    return torch.stack(found, 1)
