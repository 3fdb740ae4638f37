"""PartialVisClassifier: names the class from any subset of an image's tokens (DeiT on latents, one token a cell).

Legend: B batch, L cells, C channels, V visible cells, D width.
"""

# No `from __future__ import annotations` here: the hub's mixin reads the config's type off the signature.
from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from orderhead.core.cells import key_mask, take, visible
from orderhead.core.grid import Grid


@dataclass(frozen=True)
class ClassifierConfig:
    """The default is the study's: DeiT-S (Touvron et al. 2021) on 16 x 16 x 16 latents, 21.785 M parameters."""

    grid_h: int = 16
    grid_w: int = 16
    channels: int = 16
    classes: int = 1000
    width: int = 384
    depth: int = 12
    heads: int = 6


TINY = ClassifierConfig(grid_h=8, grid_w=8, channels=4, classes=10, width=128, depth=4, heads=4)


class PartialVisClassifier(nn.Module, PyTorchModelHubMixin):
    """Class logits from the visible tokens alone; masked tokens are not fed at all."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = Grid(config.grid_h, config.grid_w)
        self.embed = nn.Linear(config.channels, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid.L, config.width) * 0.02)
        self.blocks = nn.ModuleList([Block(config.width, config.heads, qkv_bias=True) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, config.classes)

    def embedded(self, tokens_BLC: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the first block reads: class token and visible tokens (B, 1 + V, D), and the mask of the padding."""
        index_BV, visible_BV = visible(mask_BL)
        x = self.embed(take(tokens_BLC, index_BV)) + take(self.pos_embed[:, 1:], index_BV)
        front = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([front, x], dim=1), key_mask(visible_BV, front=1)

    def forward(self, tokens_BLC: Tensor, mask_BL: Tensor) -> Tensor:
        """Tokens (B, L, C) and mask (B, L), True = masked -> logits (B, classes)."""
        x, attn_mask = self.embedded(tokens_BLC, mask_BL)
        for block in self.blocks:
            x = block(x, attn_mask=attn_mask)
        return self.head(self.norm(x[:, 0]))
