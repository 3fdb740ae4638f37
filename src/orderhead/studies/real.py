"""Real images beside generated ones: for image i one of its class, whose tokens can be revealed instead of drawn.

Legend: N images, M real images, L cells, C channels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR
from orderhead.body.tokenizer import KLTokenizer
from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.core.device import default_device
from orderhead.data.latents import fingerprint
from orderhead.metrics.judge import BATCH
from orderhead.sampling import stream
from orderhead.sampling.threads import Make
from orderhead.studies.worlds import World, in_turn


def real_tokens(world: World, body: MAR, rows: slice, out: Path) -> Tensor:
    """Tokens (N, L, C), on the CPU, of the real images at these places, when classes are taken in turn.

    Kept in `out/real`, so that a run that goes on does not encode them again.
    """
    tokenizer = load_tokenizer(body.config.tokenizer)
    which = repr((world.real.key, world.real.identity, fingerprint(tokenizer), rows))
    path = out / "real" / f"{hashlib.sha256(which.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        save_tensors(path, {"tokens": _encoded(world, tokenizer, rows)})
    return load_tensors(path)["tokens"]


@torch.no_grad()
def _encoded(world: World, tokenizer: KLTokenizer, rows: slice) -> Tensor:
    assert world.labels_M is not None
    chosen = in_turn(world.labels_M)[rows].split(BATCH)
    tokenizer = tokenizer.to(device := default_device())
    images = (torch.cat([world.real[i : i + 1] for i in batch.tolist()]).to(device) for batch in chosen)
    bar = tqdm(images, "encoding", len(chosen), delay=2, leave=False)
    return torch.cat([tokenizer.encode(batch).cpu() for batch in bar])


def check_real(world: World, images: int) -> None:
    """ValueError unless there is a real image of the right class for each of so many generated ones."""
    labels_M, K = world.labels_M, world.classes
    needed_K = stream.labels_of(torch.arange(images), K).bincount(minlength=K)
    if labels_M is None or (labels_M.bincount(minlength=K) < needed_K).any():
        raise ValueError(
            f"this needs {images} real images, the classes in turn; give real images in one subfolder a class, or "
            "fewer --images"
        )


def injecting(real_NLC: Tensor) -> Make:
    """Sampling in which image i's cells are replaced by the i-th real tokens once they are drawn."""
    return lambda sampler, labels, index: sampler.injected(labels, index, real_NLC[index])
