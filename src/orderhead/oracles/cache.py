"""An oracle asked once about a whole dataset, its answers kept in the user's cache.

Only for oracles that read no scores: one that cuts up a head's ranking changes with the head.

Legend: N images, L cells, C token channels.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.core.rng import torch_generator
from orderhead.data.fashion import cache_folder
from orderhead.oracles.importance import Oracle


def _digest(key: str, *tensors: Tensor) -> str:
    digest = hashlib.sha256(key.encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def cached_importance(
    oracle: Oracle,
    key: str,
    tokens_NLC: Tensor,
    labels_N: Tensor,
    device: torch.device | str = "cpu",
    batch: int = 128,
    seed: int = 0,
) -> Tensor:
    """Importance (N, L) of every image, on the CPU; batch b draws from the generator (seed, b).

    `key` says which oracle on which network: its name, options and `data.latents.fingerprint`. The file's name changes
    with it and with the tokens and labels; a run that is stopped keeps nothing.
    """
    path = (
        cache_folder() / f"importance-{_digest(key + (f' {seed}' if seed else ''), tokens_NLC, labels_N)}.safetensors"
    )
    if path.exists():
        return load_tensors(path)["importance"]
    chunks = list(zip(tokens_NLC.split(batch), labels_N.split(batch), strict=True))
    found = [
        oracle(tokens.to(device), labels.to(device), rng=torch_generator(seed, b)).float().cpu()
        for b, (tokens, labels) in enumerate(tqdm(chunks, desc="importance", unit="batch", delay=2))
    ]
    importance = torch.cat(found)
    save_tensors(path, {"importance": importance})
    return importance
