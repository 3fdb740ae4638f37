"""MAR (Li et al. 2024, "Autoregressive image generation without vector quantization"), as published.

An encoder reads the visible tokens behind a buffer of class embeddings; a decoder fills in a condition z for every
cell; a small diffusion network turns z into a token. Parameter names are the published ones.

Legend: B batch, L cells, C token channels, D width, V visible cells, S buffer tokens.
"""

# Annotations stay real objects here: the hub mixin reads `config`'s to rebuild it from config.json.

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from orderhead.body.conditions import PassConditions, once_a_label
from orderhead.body.denoiser import SamplingDenoiser, denoiser_of
from orderhead.body.diffloss import DiffLoss
from orderhead.body.kept import KeptPasses
from orderhead.core.cells import key_mask, take, visible
from orderhead.core.conditions import BatchConditions, Passes
from orderhead.core.grid import Grid


@dataclass(frozen=True)
class MARConfig:
    """The sizes of a MAR body, and how its tokens are used.

    `tokenizer` names what turns tokens into images ("" where nothing is known). No token of its data lies outside
    [-token_bound, token_bound]: the sampler clamps what it predicts to that (None = no bound, as published).
    """

    grid_h: int = 16
    grid_w: int = 16
    channels: int = 16
    classes: int = 1000
    encoder_width: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    decoder_width: int = 768
    decoder_depth: int = 12
    decoder_heads: int = 12
    mlp_ratio: float = 4.0
    buffer_size: int = 64
    diffloss_width: int = 1024
    diffloss_depth: int = 6
    dropout: float = 0.0
    tokenizer: str = "kl16"
    token_bound: float | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))  # JSON gives a list back

    @property
    def grid(self) -> Grid:
        return Grid(self.grid_h, self.grid_w)


def _size(width: int, depth: int, heads: int, diffloss_width: int, diffloss_depth: int) -> MARConfig:
    return MARConfig(
        encoder_width=width, encoder_depth=depth, encoder_heads=heads,
        decoder_width=width, decoder_depth=depth, decoder_heads=heads,
        diffloss_width=diffloss_width, diffloss_depth=diffloss_depth,
    )  # fmt: skip


# B, L, H: the official README; S: the study's section 7 (ours: half of B); tiny: the shipped Fashion-MNIST body.
SIZES: Mapping[str, MARConfig] = {
    "tiny": replace(
        _size(128, 4, 4, 192, 3), encoder_depth=3, grid_h=8, grid_w=8, channels=4, classes=10, buffer_size=8,
        tokenizer="fashion",
    ),
    "small": _size(384, 12, 6, 768, 4),
    "base": _size(768, 12, 12, 1024, 6),
    "large": _size(1024, 16, 16, 1280, 8),
    "huge": _size(1280, 20, 16, 1536, 12),
}  # fmt: skip


def _blocks(width: int, depth: int, heads: int, config: MARConfig) -> nn.ModuleList:
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    options: dict[str, Any] = {"qkv_bias": True, "proj_drop": config.dropout, "attn_drop": config.dropout}
    return nn.ModuleList([Block(width, heads, config.mlp_ratio, norm_layer=norm, **options) for _ in range(depth)])


class MAR(nn.Module, PyTorchModelHubMixin):
    """The body. `predict` maps what is visible to conditions; `denoise` maps a noisy token and a condition to noise.

    Both are maps of tensors without state or randomness; the sampler and the losses bring those. A sampler asks for the
    same through `conditions` and `denoiser`, which leave out what it does not need.
    """

    def __init__(self, config: MARConfig) -> None:
        super().__init__()
        self.config = config
        grid_L, width, decoder_width = config.grid.L, config.encoder_width, config.decoder_width
        self.class_emb = nn.Embedding(config.classes, width)
        self.fake_latent = nn.Parameter(torch.zeros(1, width))
        self.z_proj = nn.Linear(config.channels, width)
        self.z_proj_ln = nn.LayerNorm(width, eps=1e-6)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, config.buffer_size + grid_L, width))
        self.encoder_blocks = _blocks(width, config.encoder_depth, config.encoder_heads, config)
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, config.buffer_size + grid_L, decoder_width))
        self.decoder_blocks = _blocks(decoder_width, config.decoder_depth, config.decoder_heads, config)
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, grid_L, decoder_width))
        self._initialize()
        self.diffloss = DiffLoss(config.channels, decoder_width, config.diffloss_width, config.diffloss_depth)

    def _initialize(self) -> None:
        """Normal(0, 0.02) for embeddings, Xavier for linear layers, as published."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for parameter in (
            self.class_emb.weight, self.fake_latent, self.mask_token, self.encoder_pos_embed_learned,
            self.decoder_pos_embed_learned, self.diffusion_pos_embed_learned,
        ):  # fmt: skip
            nn.init.normal_(parameter, std=0.02)

    @property
    def grid(self) -> Grid:
        return self.config.grid

    @property
    def device(self) -> torch.device:
        return self.fake_latent.device

    def predict(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> Tensor:
        """Conditions z (B, L, D) for every cell, from the visible tokens (mask False) and the labels.

        `labels_B` is int64; -1 is the null embedding (no class). Values of masked tokens are not read. ValueError
        where shapes do not fit the body's grid, or a label is none of its classes.
        """
        return self.conditions(tokens_BLC, mask_BL, labels_B).everywhere

    def conditions(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> PassConditions:
        """`predict` up to the decoder's last block, which runs for the cells that z is then asked of."""
        self.check_inputs(tokens_BLC, mask_BL, labels_B)
        return self._pass(tokens_BLC, mask_BL, labels_B)

    def _pass(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> PassConditions:
        index_BV, visible_BV = visible(mask_BL)
        x = self._encode(tokens_BLC, index_BV, visible_BV, labels_B)
        *blocks, last = self.decoder_blocks
        x = self._decoder_input(x, index_BV, visible_BV, mask_BL)
        for block in blocks:
            x = block(x)
        return PassConditions(x, last, self.decoder_norm, self.diffusion_pos_embed_learned)

    def passes(self, full_every: int = 1) -> Passes:
        """`conditions` for one batch, step by step; every so many-th pass is a full one (`body.kept`)."""
        return self._distinct if full_every == 1 else KeptPasses(self, full_every)

    def _distinct(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> BatchConditions:
        """`conditions`, where rows that are the same are computed once."""
        self.check_inputs(tokens_BLC, mask_BL, labels_B)
        return once_a_label(self._pass, tokens_BLC, mask_BL, labels_B)

    def check_inputs(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> None:
        """ValueError where shapes do not fit the body's grid, or a label is none of its classes."""
        B, L, config = len(mask_BL), self.config.grid.L, self.config
        if tokens_BLC.shape != (B, L, config.channels) or mask_BL.shape != (B, L) or mask_BL.dtype != torch.bool:
            raise ValueError(
                f"this body reads tokens (B, {L}, {config.channels}) and a bool mask (B, {L}); "
                f"got {tuple(tokens_BLC.shape)} and {mask_BL.dtype} {tuple(mask_BL.shape)}"
            )
        if labels_B.shape != (B,) or labels_B.dtype != torch.int64:
            raise ValueError(f"labels are int64 ({B},); got {labels_B.dtype} {tuple(labels_B.shape)}")
        wrong = labels_B[(labels_B < -1) | (labels_B >= config.classes)]
        if len(wrong):
            raise ValueError(f"labels lie in [-1, {config.classes}), -1 for no class; got {int(wrong[0])}")

    def denoise(self, x_NC: Tensor, t_N: Tensor, z_ND: Tensor) -> Tensor:
        """Raw epsilon and variance halves (N, 2C) of noisy tokens x at t in [0, 1000) under conditions z."""
        return self.diffloss.net(x_NC, t_N, z_ND)

    def denoiser(self) -> SamplingDenoiser:
        """`denoise` as a sampler asks it: all rows at one timestep, under conditions that stay. For frozen weights."""
        return denoiser_of(self.diffloss.net)

    def class_embedding(self, labels_B: Tensor) -> Tensor:
        """(B, D) of each label; -1 is the null embedding."""
        return torch.where(labels_B[:, None] < 0, self.fake_latent, self.class_emb(labels_B.clamp(min=0)))

    def embedded(self, tokens_BLC: Tensor, labels_B: Tensor) -> Tensor:
        """What enters the encoder if everything is visible, (B, S + L, D): class embeddings, then tokens."""
        buffer = self.class_embedding(labels_B)[:, None].expand(-1, self.config.buffer_size, -1)
        cells = self.z_proj(tokens_BLC.to(buffer.dtype))
        return self.z_proj_ln(torch.cat([buffer, cells], dim=1) + self.encoder_pos_embed_learned)

    def _encode(self, tokens_BLC: Tensor, index_BV: Tensor, visible_BV: Tensor, labels_B: Tensor) -> Tensor:
        picked = take(tokens_BLC, index_BV)
        position = take(self.encoder_pos_embed_learned[:, self.config.buffer_size :], index_BV)
        buffer = self.class_embedding(labels_B)[:, None] + self.encoder_pos_embed_learned[:, : self.config.buffer_size]
        x = self.z_proj_ln(torch.cat([buffer, self.z_proj(picked.to(position.dtype)) + position], dim=1))
        attn_mask = key_mask(visible_BV, front=self.config.buffer_size)
        for block in self.encoder_blocks:
            x = block(x, attn_mask=attn_mask)
        return self.encoder_norm(x)

    def _decoder_input(self, x: Tensor, index_BV: Tensor, visible_BV: Tensor, mask_BL: Tensor) -> Tensor:
        S, x = self.config.buffer_size, self.decoder_embed(x)
        cells = self.mask_token.to(x.dtype).expand(*mask_BL.shape, -1)
        known = torch.where(visible_BV[..., None], x[:, S:], self.mask_token.to(x.dtype))
        cells = cells.scatter(1, index_BV[..., None].expand(-1, -1, x.shape[-1]), known)
        return torch.cat([x[:, :S], cells], dim=1) + self.decoder_pos_embed_learned
