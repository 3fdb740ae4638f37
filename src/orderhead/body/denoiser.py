"""The denoising network rearranged for sampling: the same numbers (to rounding) in half the operations.

A sampler asks about all rows at one timestep, under conditions that stay through its denoising steps. So conditions are
embedded once, timesteps once for all that is sampled, the rows of guidance's two halves share their input, and what is
added to a constant is added beforehand.

Legend: N tokens, M = N or 2N rows (guidance's halves), C channels, W width, D condition width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderhead.body.diffloss import DenoisingMLP, FinalLayer, ResBlock

Ask = Callable[[Tensor, int], Tensor]
"""x (N, C), t in [0, 1000) -> epsilon and variance fraction (M, 2C), both raw, float32."""


class SamplingDenoiser:
    """`DenoisingMLP` for sampling. It keeps views and copies of its weights: make a new one when they have changed."""

    @torch.no_grad()
    def __init__(self, net: DenoisingMLP) -> None:
        self._net, self._times = net, dict[int, Tensor]()
        self._blocks = [_Block.of(block) for block in net.res_blocks]  # type: ignore[arg-type]
        self._final, self._input = _Final.of(net.final_layer), _Linear.of(net.input_proj)

    def under(self, z_MD: Tensor) -> Ask:
        """The denoiser under these conditions. With M = 2N rows, each row of x stands for two."""
        c_MW = self._net.cond_embed(z_MD.to(self._net.cond_embed.weight.dtype))
        return lambda x_NC, t: self._ask(x_NC, t, c_MW)

    def _ask(self, x_NC: Tensor, t: int, c_MW: Tensor) -> Tensor:
        y_MW = F.silu(self._time(t, c_MW.device) + c_MW)
        x_MW = self._input(x_NC.to(c_MW.dtype))
        if len(c_MW) != len(x_MW):
            x_MW = x_MW.repeat(len(c_MW) // len(x_MW), 1)
        for block in self._blocks:
            x_MW = block(x_MW, y_MW)
        return self._final(x_MW, y_MW).float()

    def _time(self, t: int, device: torch.device) -> Tensor:
        """The embedding of a timestep, (1, W)."""
        if t not in self._times:
            self._times[t] = self._net.time_embed(torch.tensor([t], device=device))
        return self._times[t]


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
    """`ResBlock`, given SiLU of the conditions."""

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

    def __call__(self, x_MW: Tensor, y_MW: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(y_MW).chunk(3, dim=-1)
        inner = F.silu(self.up(torch.addcmul(shift, self.norm(x_MW), scale)))
        return torch.addcmul(x_MW, gate, self.down(inner))


@dataclass(frozen=True)
class _Final:
    """`FinalLayer`, given SiLU of the conditions."""

    norm: nn.LayerNorm
    modulation: _Linear
    out: _Linear

    @classmethod
    def of(cls, layer: FinalLayer) -> _Final:
        return cls(layer.norm_final, _modulation(layer.adaLN_modulation, 2), _Linear.of(layer.linear))

    def __call__(self, x_MW: Tensor, y_MW: Tensor) -> Tensor:
        shift, scale = self.modulation(y_MW).chunk(2, dim=-1)
        return self.out(torch.addcmul(shift, self.norm(x_MW), scale))
