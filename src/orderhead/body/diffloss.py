"""The small network that denoises one token given its condition z (MAR section 3.2; AdaLN as in DiT).

Parameter names are the published ones, so that official checkpoints load without a map.

Legend: N tokens, C channels, W width, D condition width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimestepEmbedder(nn.Module):
    """t (N,) in [0, 1000) -> (N, W): 256 sinusoids of base 10,000 (Vaswani et al. 2017), then a two-layer MLP."""

    frequencies = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t_N: Tensor) -> Tensor:
        half = self.frequencies // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t_N.device) / half)
        angles = t_N[:, None].float() * rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(next(self.mlp.parameters()).dtype))


class ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x_NW: Tensor, y_NW: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(y_NW).chunk(3, dim=-1)
        return x_NW + gate * self.mlp(self.in_ln(x_NW) * (1 + scale) + shift)


class FinalLayer(nn.Module):
    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_NW: Tensor, y_NW: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(y_NW).chunk(2, dim=-1)
        return self.linear(self.norm_final(x_NW) * (1 + scale) + shift)


class DenoisingMLP(nn.Module):
    """x_NC, t_N, z_ND -> (N, 2C): epsilon and the variance fraction, both raw."""

    def __init__(self, channels: int, z_channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.time_embed = TimestepEmbedder(width)
        self.cond_embed = nn.Linear(z_channels, width)
        self.input_proj = nn.Linear(channels, width)
        self.res_blocks = nn.ModuleList([ResBlock(width) for _ in range(depth)])
        self.final_layer = FinalLayer(width, 2 * channels)
        self._initialize()

    def _initialize(self) -> None:
        """Xavier everywhere, small time embedding, zero modulation and output: the block starts as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for i in (0, 2):
            nn.init.normal_(self.time_embed.mlp[i].weight, std=0.02)  # type: ignore[arg-type]
        modulations = [m.adaLN_modulation[-1] for m in self.modules() if isinstance(m, (ResBlock, FinalLayer))]
        for parameter in nn.ModuleList([*modulations, self.final_layer.linear]).parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_NC: Tensor, t_N: Tensor, z_ND: Tensor) -> Tensor:
        x_NW = self.input_proj(x_NC)
        y_NW = self.time_embed(t_N) + self.cond_embed(z_ND)
        for block in self.res_blocks:
            x_NW = block(x_NW, y_NW)
        return self.final_layer(x_NW, y_NW)


class DiffLoss(nn.Module):
    """The published module's outer name: checkpoints hold `diffloss.net.*`."""

    def __init__(self, channels: int, z_channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.net = DenoisingMLP(channels, z_channels, width, depth)
