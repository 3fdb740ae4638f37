"""OrderHead: a small transformer that reads the body's conditions and scores every cell, higher = revealed earlier.

Legend: B batch, L cells, D width of z, C token channels, W the head's width, R register tokens.
"""

# No `from __future__ import annotations` here: the hub's mixin reads the config's type off the signature.
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from huggingface_hub import PyTorchModelHubMixin
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from orderhead.core.assets import load
from orderhead.core.grid import Grid


@dataclass(frozen=True)
class OrderHeadConfig:
    """Sizes; the default is the study's at MAR-B, 13,280,769 parameters. `depth=8` is its deep variant.

    With `classes` > 0 the head also reads the image's class (the study's fifth alternative).
    """

    grid_h: int = 16
    grid_w: int = 16
    z_width: int = 768
    channels: int = 16
    width: int = 512
    depth: int = 4
    heads: int = 8
    mlp_ratio: float = 4.0
    registers: int = 4
    classes: int = field(default=0, repr=False)  # the weights tell it: heads from before it keep their fingerprints

    @property
    def grid(self) -> Grid:
        return Grid(self.grid_h, self.grid_w)


HEADS: Mapping[str, OrderHeadConfig] = {
    "base": OrderHeadConfig(),
    "tiny": OrderHeadConfig(grid_h=8, grid_w=8, z_width=128, channels=4, width=96, heads=4),
}
"""Body size -> the head that goes with it (the study's deep one is `replace(..., depth=8)`)."""


class OrderHead(nn.Module, PyTorchModelHubMixin):
    """Scores (B, L) from z (B, L, D): Linear, LayerNorm, registers in front, pre-norm ViT blocks, a two-layer MLP."""

    def __init__(self, config: OrderHeadConfig = OrderHeadConfig()) -> None:
        super().__init__()
        self.config, W = config, config.width
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.z_proj, self.z_norm = nn.Linear(config.z_width, W), norm(W)
        self.token_proj, self.token_norm = nn.Linear(config.channels, W), norm(W)
        self.registers = nn.Parameter(torch.randn(1, config.registers, W) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, config.registers + config.grid.L, W) * 0.02)
        self.blocks = nn.ModuleList(
            [
                Block(W, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=norm)  # type: ignore[arg-type]
                for _ in range(config.depth)
            ]
        )
        self.score = nn.Sequential(nn.Linear(W, W // 2), nn.GELU(), nn.Linear(W // 2, 1))
        self.class_emb = _class_embedding(config.classes, W) if config.classes else None

    def forward(
        self,
        z_BLD: Tensor,
        tokens_BLC: Tensor | None = None,
        given_BL: Tensor | None = None,
        labels_B: Tensor | None = None,
    ) -> Tensor:
        """Raw scores (B, L). Where `given_BL` is True, the clean token stands in for z (the ground-truth curriculum).

        `labels_B` (int64, -1 = no class) is read by heads with classes only. ValueError where z is of another body's
        width or grid, and where such a head is given no labels or others than its classes.
        """
        self._reads(*z_BLD.shape[1:])
        x = self.z_norm(self.z_proj(z_BLD))
        if self.class_emb is not None:
            x = x + self.class_emb(self._rows(labels_B))[:, None]
        if tokens_BLC is not None and given_BL is not None:
            x = torch.where(given_BL[..., None], self.token_norm(self.token_proj(tokens_BLC)), x)
        x = torch.cat([self.registers.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.score(x[:, self.config.registers :]).squeeze(-1)

    def _rows(self, labels_B: Tensor | None) -> Tensor:
        """Labels -> rows of the class embedding, the last one for no class."""
        classes = self.config.classes
        if labels_B is None or not bool(((labels_B >= -1) & (labels_B < classes)).all()):
            told = "none" if labels_B is None else f"{int(labels_B.min())} to {int(labels_B.max())}"
            raise ValueError(f"this head reads labels in [-1, {classes}), -1 for no class; got {told}")
        return torch.where(labels_B < 0, classes, labels_B)

    def fits(self, grid: Grid, z_width: int, classes: int) -> None:
        """ValueError unless the head reads a body of such a grid and decoder width and, where it reads the class, of so
        many classes."""
        own = self.config
        self._reads(grid.L, z_width)
        told = {
            "a grid of {} cells": [f"{g.h} x {g.w}" for g in (own.grid, grid)],
            "{} classes": [own.classes or classes, classes],
        }
        for what, (reads, has) in told.items():
            if reads != has:
                raise ValueError(
                    f"this head reads {what.format(reads)}, the body has {has}; take a head that was trained on this "
                    "body"
                )

    def _reads(self, cells: int, z_width: int) -> None:
        own = self.config
        if (cells, z_width) != (own.grid.L, own.z_width):
            raise ValueError(
                f"this head reads {own.grid.L} cells of width {own.z_width}, the body gives {cells} of {z_width}; "
                "take a head that was trained on this body"
            )


def _class_embedding(classes: int, width: int) -> nn.Embedding:
    """A row a class, and a last one for no class that stays 0: there the head goes by z alone (ours)."""
    rows = nn.Embedding(classes + 1, width, padding_idx=classes)
    with torch.no_grad():
        rows.weight.mul_(0.02)
    return rows


def load_head(name: str = "fashion-nonaligned") -> OrderHead:
    """A trained head: a shipped name (`orderhead list heads`), a folder (from `orderhead train`), or a hub id.

    ValueError for an unknown name (with the nearest match) or damaged files.
    """
    return load(OrderHead, "heads", name)
