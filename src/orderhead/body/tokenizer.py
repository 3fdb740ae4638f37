"""Images to tokens and back: diffusers' AutoencoderKL at two sizes, KL-16 and the small one that ships.

Legend: B batch, L cells, C latent channels, H W pixels.
"""

# Annotations stay real objects here: the hub mixin reads `config`'s to rebuild it from config.json.

from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from orderhead.core.grid import Grid
from orderhead.core.imports import hidden

with hidden("peft", "transformers"):  # diffusers imports both for loaders that nobody here asks for: seconds a start
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class TokenizerConfig:
    """An autoencoder's sizes. `latent_scale` times (latent - `latent_shift`) has about unit variance."""

    image_channels: int = 3
    image_size: int = 256
    channels: int = 16
    widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    layers: int = 2
    norm_groups: int = 32
    encoder_attention: bool = True
    mid_attention: bool = True
    latent_scale: float = 0.2325
    latent_shift: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list back

    @property
    def grid(self) -> Grid:
        cells = self.image_size // 2 ** (len(self.widths) - 1)
        return Grid(cells, cells)


# KL-16: LTH14/mar's vae (trained by the RCG authors), scale from its main_mar.py. fashion: ours.
TOKENIZERS = {
    "kl16": TokenizerConfig(),
    "fashion": TokenizerConfig(
        image_channels=1, image_size=32, channels=4, widths=(16, 32, 64), layers=1, norm_groups=8,
        encoder_attention=False, mid_attention=False, latent_scale=1.0,
    ),
}  # fmt: skip


class KLTokenizer(nn.Module, PyTorchModelHubMixin):
    """A KL autoencoder: `encode` maps images in [-1, 1] to tokens, `decode` maps tokens to images."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        depth = len(config.widths)
        last = "AttnDownEncoderBlock2D" if config.encoder_attention else "DownEncoderBlock2D"
        blocks: dict[str, Any] = {  # diffusers types these as tuples of one
            "down_block_types": ("DownEncoderBlock2D",) * (depth - 1) + (last,),
            "up_block_types": ("UpDecoderBlock2D",) * depth,
            "block_out_channels": config.widths,
        }
        self.vae = AutoencoderKL(
            in_channels=config.image_channels,
            out_channels=config.image_channels,
            layers_per_block=config.layers,
            latent_channels=config.channels,
            norm_num_groups=config.norm_groups,
            mid_block_add_attention=config.mid_attention,
            sample_size=config.image_size,
            **blocks,
        )

    @property
    def grid(self) -> Grid:
        return self.config.grid

    def moments(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, (B, C, h, w) each, not scaled, where the tokenizer is."""
        posterior = self.vae.encode(images_BCHW.to(next(self.parameters()).device)).latent_dist  # type: ignore[union-attr]
        return posterior.mean, posterior.logvar

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> tokens (B, L, C): the posterior's mean, scaled.

        ValueError for another size.
        """
        return self.posterior(images_BCHW)[0]

    def posterior(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] -> the mean and the standard deviation of their tokens, (B, L, C) each.

        ValueError for another size.
        """
        size, expected = tuple(images_BCHW.shape[1:]), self.config
        if size != (expected.image_channels, expected.image_size, expected.image_size):
            raise ValueError(f"this tokenizer reads {expected.image_channels} x {expected.image_size} x "
                             f"{expected.image_size} images, got {' x '.join(map(str, size))}")  # fmt: skip
        mean, log_var = self.moments(images_BCHW)
        std_BLC = ((0.5 * log_var).exp() * self.config.latent_scale).flatten(2).transpose(1, 2)
        return self.to_tokens(mean), std_BLC

    def to_tokens(self, latents_BChw: Tensor) -> Tensor:
        return ((latents_BChw - self.config.latent_shift) * self.config.latent_scale).flatten(2).transpose(1, 2)

    def decode(self, tokens_BLC: Tensor) -> Tensor:
        """Tokens (B, L, C) -> images (B, C, H, W), clamped to [-1, 1]."""
        B, _, C = tokens_BLC.shape
        latents = tokens_BLC.transpose(1, 2).reshape(B, C, self.grid.h, self.grid.w)
        latents = latents / self.config.latent_scale + self.config.latent_shift
        return self.vae.decode(latents).sample.clamp(-1, 1)  # type: ignore[union-attr]

    @torch.no_grad()
    def reconstruct(self, images_BCHW: Tensor) -> Tensor:
        return self.decode(self.encode(images_BCHW))
