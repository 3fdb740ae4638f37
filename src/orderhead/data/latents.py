"""Tokens of a dataset, computed once and kept in the user's cache under a key of the encoder's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.core.names import lookup
from orderhead.data import fashion
from orderhead.data.images import IMAGES


def fingerprint(model: torch.nn.Module) -> str:
    """Sixteen hex digits that change with any weight of a model, and with its config."""
    digest = hashlib.sha256(repr(getattr(model, "config", None)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def cached_tokens(
    dataset: str, encode: Callable[[Tensor], Tensor], key: str, batch: int = 250
) -> tuple[Tensor, Tensor]:
    """Tokens (N, L, C) and labels (N,) of a dataset of `data.images.IMAGES`, through `encode`; `key` names the encoder.

    ValueError for an unknown dataset, or one whose images are nowhere.
    """
    path = fashion.cache_folder() / f"{dataset}-{key}.safetensors"
    if path.exists():
        cached = load_tensors(path)
        return cached["tokens"], cached["labels"]
    found = lookup("data set", dataset, IMAGES)()
    chunks = tqdm(found.images_MCHW.split(batch), desc=f"encoding {dataset}", unit="batch", delay=2)
    tokens = torch.cat([encode(chunk).float().cpu() for chunk in chunks])
    save_tensors(path, {"tokens": tokens, "labels": found.labels_M})
    return tokens, found.labels_M
