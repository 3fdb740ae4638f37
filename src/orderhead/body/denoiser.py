"""The denoising network rearranged for sampling: the same numbers (to rounding) in half the operations.

A sampler asks about all rows at one timestep, under conditions that stay through its denoising steps. So conditions are
embedded once, timesteps once for all that is sampled, the rows of guidance's two halves share their input, what is
added to a constant is added beforehand, and modulations, which do not depend on x, are computed for several timesteps
at once.

Legend: N tokens, M = N or 2N rows (guidance's halves), R = S M rows at S timesteps, C channels, W width, D condition
width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderhead.body.diffloss import DenoisingMLP, FinalLayer, ResBlock

Ask = Callable[[Tensor, int], Tensor]
"""x (N, C), t in [0, 1000) -> epsilon and variance fraction (M, 2C), both raw, float32."""


TIMES, BYTES, CUDA_ROWS = 3, 24 * 2**20, 64


def rows_ahead(width: int, depth: int, rows: int, images: int, device: str) -> int:
    """How many rows of modulations are computed at once: a product of more rows takes less time for each.

    An image may hold `few` of them: a quarter of the width, or what fits 24 MB, which is what a pass of the body holds.
    So few are computed, or three timesteps of the `rows` that there are, within what up to three images may hold. On
    CUDA 64, since graphs are recorded with them.
    """
    if device == "cuda":
        return CUDA_ROWS
    few = min(width // 4, BYTES // (4 * width * (3 * depth + 2)))
    return min(max(few, TIMES * rows), few * min(images, TIMES))


class SamplingDenoiser:
    """`DenoisingMLP` for sampling. It keeps views and copies of its weights: make a new one when they have changed."""

    @torch.no_grad()
    def __init__(self, net: DenoisingMLP) -> None:
        self._cond_embed, self._time_embed, self._times = net.cond_embed, net.time_embed, dict[int, Tensor]()
        self._blocks = [_Block.of(block) for block in net.res_blocks]  # type: ignore[arg-type]
        self._final, self._input = _Final.of(net.final_layer), _Linear.of(net.input_proj)

    def under(self, z_MD: Tensor, times: Sequence[int], images: int = 1) -> Ask:
        """The denoiser under these conditions, to be asked about these timesteps in this order.

        With M = 2N rows, each row of x stands for two. They are of so many images: the more, the more is held at once.
        """
        c_MW = self._cond_embed(z_MD.to(self._cond_embed.weight.dtype))
        ahead = self._ahead(c_MW, times, images)
        return lambda x_NC, t: self._ask(x_NC, len(c_MW), ahead(t))

    def _ask(self, x_NC: Tensor, rows: int, modulations: Sequence[Tensor]) -> Tensor:
        x_MW = self._input(x_NC.to(self._input.bias_W.dtype))
        if rows != len(x_MW):
            x_MW = x_MW.repeat(rows // len(x_MW), 1)
        *inner, last = modulations
        for block, modulation in zip(self._blocks, inner, strict=True):
            x_MW = block(x_MW, modulation)
        return self._final(x_MW, last).float()

    def _ahead(self, c_MW: Tensor, times: Sequence[int], images: int) -> Callable[[int], Sequence[Tensor]]:
        """t -> the modulation of every layer, (M, 3W) or (M, 2W): a matter of t and the conditions, not of x.

        Those of the next timesteps are computed with it.
        """
        M, W = c_MW.shape
        at_once = max(1, rows_ahead(W, len(self._blocks), M, images, c_MW.device.type) // M)
        ready = dict[int, Sequence[Tensor]]()

        def modulations(t: int) -> Sequence[Tensor]:
            if t not in ready:
                ready.clear()
                first = times.index(t)
                following = times[first : first + at_once]
                each = self._modulations(torch.cat([self._time(s, c_MW.device) for s in following]), c_MW)
                ready.update(zip(following, zip(*each, strict=True), strict=True))
            return ready[t]

        return modulations

    def _modulations(self, time_SW: Tensor, c_MW: Tensor) -> list[Sequence[Tensor]]:
        """Of every layer, at each of S timesteps."""
        y_RW = F.silu(time_SW[:, None] + c_MW).flatten(0, 1)
        return [layer.modulation(y_RW).chunk(len(time_SW)) for layer in (*self._blocks, self._final)]

    def _time(self, t: int, device: torch.device) -> Tensor:
        """The embedding of a timestep, (1, W)."""
        if t not in self._times:
            with torch.autocast(device.type, enabled=False):  # it is kept, for others too
                self._times[t] = self._time_embed(torch.tensor([t], device=device))
        return self._times[t]


_KEPT: WeakKeyDictionary[DenoisingMLP, tuple[Hashable, SamplingDenoiser]] = WeakKeyDictionary()


def denoiser_of(net: DenoisingMLP) -> SamplingDenoiser:
    """A new one; on CUDA that of the last call unless the weights have changed, for the sake of what is kept with it.

    Weights that are written through `.data`, or by a fused optimizer, do not count as changed.
    """
    parameters = list(net.parameters())
    if parameters[0].device.type != "cuda" or any(p.is_inference() for p in parameters):
        _KEPT.pop(net, None)
        return SamplingDenoiser(net)
    weights = tuple((p.data_ptr(), p._version, p.dtype) for p in parameters)
    if net not in _KEPT or _KEPT[net][0] != weights:
        _KEPT[net] = weights, SamplingDenoiser(net)
    return _KEPT[net][1]


@dataclass(frozen=True)
class _Linear:
    bias_W: Tensor
    weight_VW: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> _Linear:
        return cls(layer.bias, layer.weight.t())

    def __call__(self, x_MV: Tensor) -> Tensor:
        return torch.addmm(self.bias_W, x_MV, self.weight_VW)


def _modulation(layers: nn.Sequential, parts: int) -> _Linear:
    """The layer that gives shift, 1 + scale (, gate): `modulate` is then one multiplication and one addition."""
    layer = layers[-1]
    assert isinstance(layer, nn.Linear)
    one = torch.zeros_like(layer.bias).unflatten(0, (parts, -1))
    one[1] = 1
    return _Linear(layer.bias + one.flatten(), layer.weight.t())


@dataclass(frozen=True)
class _Block:
    """`ResBlock`, given its modulation."""

    norm: nn.LayerNorm
    modulation: _Linear
    up: _Linear
    down: _Linear

    @classmethod
    def of(cls, block: ResBlock) -> _Block:
        up, _, down = block.mlp
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        return cls(block.in_ln, _modulation(block.adaLN_modulation, 3), _Linear.of(up), _Linear.of(down))

    def __call__(self, x_MW: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate = modulation.chunk(3, dim=-1)
        inner = F.silu(self.up(torch.addcmul(shift, self.norm(x_MW), scale)))
        return torch.addcmul(x_MW, gate, self.down(inner))


@dataclass(frozen=True)
class _Final:
    """`FinalLayer`, given its modulation."""

    norm: nn.LayerNorm
    modulation: _Linear
    out: _Linear

    @classmethod
    def of(cls, layer: FinalLayer) -> _Final:
        return cls(layer.norm_final, _modulation(layer.adaLN_modulation, 2), _Linear.of(layer.linear))

    def __call__(self, x_MW: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.chunk(2, dim=-1)
        return self.out(torch.addcmul(shift, self.norm(x_MW), scale))
