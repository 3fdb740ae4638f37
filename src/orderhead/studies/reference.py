"""The published code (LTH14/mar), run unmodified from a checkout of the user's own, with the weights of a body of ours.

It moves tensors to a GPU by `Tensor.cuda`; without one that call puts them where the body is. Nothing of it is copied
here.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orderhead.body.mar import MAR
from orderhead.sampling.settings import Settings

PACKAGES = ("models", "diffusion")
FILES = ("models/mar.py", "models/diffloss.py", "diffusion/__init__.py")
SCALE = 8  # image pixels a token: any number, the latents' size is what matters


def load(checkout: str | Path, body: MAR, denoise_steps: int) -> Any:
    """The published MAR with the body's weights, in eval mode. ValueError where the folder is no such checkout."""
    published, c = _module(Path(checkout)), body.config
    if c.grid_h != c.grid_w:
        raise ValueError(f"the published code knows square grids only; this body has {c.grid_h} x {c.grid_w} cells")
    model = published.MAR(
        img_size=SCALE * c.grid_h, vae_stride=SCALE, patch_size=1, vae_embed_dim=c.channels, class_num=c.classes,
        encoder_embed_dim=c.encoder_width, encoder_depth=c.encoder_depth, encoder_num_heads=c.encoder_heads,
        decoder_embed_dim=c.decoder_width, decoder_depth=c.decoder_depth, decoder_num_heads=c.decoder_heads,
        mlp_ratio=c.mlp_ratio, norm_layer=partial(nn.LayerNorm, eps=1e-6), buffer_size=c.buffer_size,
        diffloss_d=c.diffloss_depth, diffloss_w=c.diffloss_width, num_sampling_steps=str(denoise_steps),
    )  # fmt: skip
    try:
        model.load_state_dict(body.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the MAR of {checkout} is another model: {' '.join(str(error).split())[:200]}") from None
    return model.to(body.device).eval()  # frozen weights would be cast anew by every operation under autocast


def _module(checkout: Path) -> Any:
    missing = [name for name in FILES if not (checkout / name).is_file()]
    if missing:
        raise ValueError(f"{checkout} has no {missing[0]}; give a checkout of github.com/LTH14/mar")
    sys.path.insert(0, str(checkout))
    _forget()
    try:
        return importlib.import_module("models.mar")
    except ImportError as error:
        raise ValueError(f"{checkout} cannot be imported here: {error}") from None
    finally:
        sys.path.remove(str(checkout))
        _forget()


def _forget() -> None:
    """Let no module of one checkout stand for another's."""
    for name in list(sys.modules):
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]


@torch.no_grad()
def sample(
    model: Any, settings: Settings, labels_B: Tensor, pause: Callable[[], None], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Tokens (B, L, C) of the published sampler; `pause` is called at the start of every unmasking step.

    With another dtype it runs under autocast, which is how the published evaluation runs.
    """
    encode = model.forward_mae_encoder

    def paused(*args: Tensor) -> Tensor:
        pause()
        return encode(*args)

    model.forward_mae_encoder = paused
    try:
        cast = torch.autocast(labels_B.device.type, dtype, enabled=dtype != torch.float32)
        with _global_streams(settings.seed), _without_gpu(labels_B.device), cast:
            images_BCHW = model.sample_tokens(
                len(labels_B), num_iter=settings.steps, cfg=settings.cfg_scale, cfg_schedule=settings.cfg_schedule,
                labels=labels_B, temperature=settings.temperature,
            )  # fmt: skip
    finally:
        del model.forward_mae_encoder
    return images_BCHW.flatten(2).transpose(1, 2)


@contextmanager
def _global_streams(seed: int) -> Iterator[None]:
    """torch's and NumPy's global streams from a seed, and afterwards as they were."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@contextmanager
def _without_gpu(device: torch.device) -> Iterator[None]:
    """Where there is no CUDA, `Tensor.cuda` puts a tensor on the device that there is."""
    if device.type == "cuda":
        yield
        return
    cuda = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *args, **kwargs: self.to(device)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = cuda  # type: ignore[method-assign]


def reordered(body: MAR) -> MAR:
    """The same function in other sums: the hidden units of every MLP in another order.

    What the published code's result changes by when its weights are so reordered is float32's own noise: no two ways
    to compute it can be expected to agree better.
    """
    other = copy.deepcopy(body)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for first, second in _mlps(other):
            order = torch.randperm(first.out_features, generator=rng).to(first.weight.device)
            first.weight.copy_(first.weight[order])
            first.bias.copy_(first.bias[order])
            second.weight.copy_(second.weight[:, order])
    return other


def _mlps(body: MAR) -> Iterator[tuple[nn.Linear, nn.Linear]]:
    for block in [*body.encoder_blocks, *body.decoder_blocks]:
        yield block.mlp.fc1, block.mlp.fc2  # type: ignore[misc]
    for block in body.diffloss.net.res_blocks:
        yield block.mlp[0], block.mlp[2]  # type: ignore[misc]
