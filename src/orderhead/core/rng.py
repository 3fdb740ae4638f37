"""Randomness as a pure function of integers: the same (seed, image, cell) gives the same noise anywhere.

A counter-based generator has no state to carry, share, or resume: image 7 of seed 0 has the same noise alone, in a
batch of 64, on two processes, and after a restart; and two orders that reveal the same cell at different steps draw
its value from the same noise (common random numbers).

The generator is Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written in
int64 tensor arithmetic so that it runs on any device; the known-answer vectors of the paper's library are the test.

Legend: N rows, K numbers a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from orderhead.core.checks import check_seed

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Stream(IntEnum):
    """Independent streams of one image: what the numbers are used for."""

    ORDER = 1
    NOISE = 2


def philox(counter: Tensor, key: tuple[int, int], rounds: int = 10) -> Tensor:
    """Counters (..., 4) and a key -> (..., 4) words; all are int64 tensors that hold unsigned 32-bit values."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # the low 64 bits, as unsigned
        hi0, lo0, hi1, lo1 = (p0 >> 32) & _MASK, p0 & _MASK, (p1 >> 32) & _MASK, p1 & _MASK
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack([c0, c1, c2, c3], dim=-1)


def _words(seed: int, stream: Stream, index: Tensor, cell: Tensor, draw: Tensor | int, k: int) -> Tensor:
    """(..., k) words for `draw` of each (image, cell): the counter is (image, cell, draw, block)."""
    check_seed(seed)
    block = torch.arange((k + 3) // 4, device=index.device)
    draw = torch.as_tensor(draw, device=index.device)
    counter = torch.broadcast_tensors(index.long()[..., None], cell.long()[..., None], draw.long()[..., None], block)
    return philox(torch.stack(counter, -1), (seed, int(stream))).flatten(-2)


def normal(seed: int, stream: Stream, index: Tensor, cell: Tensor, draw: Tensor | int = 0, k: int = 1) -> Tensor:
    """(..., k) float32 standard normals (Box-Muller), a function of (seed, stream, image, cell, draw) alone.

    `index`, `cell` and `draw` are integers in [0, 2**32) and broadcast together to (...). The integers are the same on
    every device, the logarithm and the cosine to the last bit or two. ValueError for a seed out of range.
    """
    words = _words(seed, stream, index, cell, draw, k + k % 2)
    u = (words[..., : k + k % 2].float() + 0.5) / 2**32  # in (0, 1]
    radius, angle = (-2 * u[..., 0::2].log()).sqrt(), 2 * math.pi * u[..., 1::2]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-2)[..., :k]


def generator(seed: int, index: int) -> np.random.Generator:
    """A NumPy generator for the order of image `index`: for orders that shuffle, shift or swap."""
    return np.random.default_rng([seed, int(Stream.ORDER), index])


def torch_generator(seed: int, *what: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for (seed, what...): for training, where step t's randomness is a function of (seed, t)."""
    state = np.random.SeedSequence([seed, *what]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


class Randomness(Protocol):
    """What a sampler draws from. `draw` 0 is a cell's starting noise, k >= 1 the noise of its k-th denoising step.

    `replayable`: it is hashable, and its noise a function of the arguments, computed where those are without waiting: a
    graph of kernels can hold it.
    """

    replayable: ClassVar[bool]

    def generator(self, index: int) -> np.random.Generator | np.random.RandomState:
        """A generator for the order of image `index`; the same one whenever it is asked."""
        ...

    def noise(self, index_N: Tensor, cell_N: Tensor, draw: int, channels: int) -> Tensor:
        """Standard normals (N, channels), float32, for the cells `cell_N` of the images `index_N`."""
        ...

    def noises(self, index_N: Tensor, cell_N: Tensor, channels: int, last: int) -> Callable[[int], Tensor]:
        """`noise` of these cells as a function of `draw`, which is asked in order, up to `last`."""
        ...


AHEAD = {"cpu": 2**16, "cuda": 2**21}  # normals that are drawn at once: what fits a cache, or fills a GPU


@dataclass(frozen=True)
class Paired:
    """Noise that is a function of (seed, image, cell, draw): common random numbers for every order."""

    seed: int = 0
    replayable: ClassVar[bool] = True

    def generator(self, index: int) -> np.random.Generator:
        return generator(self.seed, index)

    def noise(self, index_N: Tensor, cell_N: Tensor, draw: int, channels: int) -> Tensor:
        return normal(self.seed, Stream.NOISE, index_N, cell_N, draw, channels)

    def noises(self, index_N: Tensor, cell_N: Tensor, channels: int, last: int) -> Callable[[int], Tensor]:
        at_once = max(1, AHEAD.get(index_N.device.type, AHEAD["cpu"]) // (len(index_N) * channels))
        drawn: dict[int, Tensor] = {}

        def noise(draw: int) -> Tensor:
            if draw not in drawn:
                draws = range(draw, min(draw + at_once, last + 1) if draw else 1)
                draw_K1 = torch.arange(draws.start, draws.stop, device=index_N.device)[:, None]
                block = normal(self.seed, Stream.NOISE, index_N, cell_N, draw_K1, channels)
                drawn.clear()
                drawn.update(zip(draws, block.unbind(), strict=True))
            return drawn[draw]

        return noise


class Official:
    """The stream of LTH14/mar after `torch.manual_seed(seed); np.random.seed(seed)` on a CPU: one batch, in order.

    Orders are NumPy's legacy shuffles, one after the other; noise is torch's global stream, row by row, and every
    denoising step draws for both guidance halves though the second half is thrown away.
    """

    replayable: ClassVar[bool] = False

    def __init__(self, seed: int, cells: int, guided: bool) -> None:
        self._seed, self._cells, self._halves = seed, cells, 2 if guided else 1
        self._torch = torch.Generator().manual_seed(seed)

    def generator(self, index: int) -> np.random.RandomState:
        legacy = np.random.RandomState(self._seed)
        for _ in range(index):
            legacy.permutation(self._cells)
        return legacy

    def noise(self, index_N: Tensor, cell_N: Tensor, draw: int, channels: int) -> Tensor:
        N, halves = len(index_N), 1 if draw == 0 else self._halves
        return torch.randn(halves * N, channels, generator=self._torch)[:N].to(index_N.device)

    def noises(self, index_N: Tensor, cell_N: Tensor, channels: int, last: int) -> Callable[[int], Tensor]:
        return lambda draw: self.noise(index_N, cell_N, draw, channels)
