"""Real images beside generated ones: for image i one of its class, whose tokens can be revealed instead of drawn.

Legend: N images, M real images, L cells, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR
from orderhead.metrics.judge import BATCH
from orderhead.sampling import stream
from orderhead.sampling.sample import inject
from orderhead.studies.worlds import World, in_turn


@torch.no_grad()
def real_tokens(world: World, body: MAR, rows: slice) -> Tensor:
    """Tokens (N, L, C), on the CPU, of the real images at these places, when classes are taken in turn."""
    assert world.labels_M is not None
    chosen = in_turn(world.labels_M)[rows].split(BATCH)
    tokenizer = load_tokenizer(body.config.tokenizer)
    images = (torch.cat([world.real[i : i + 1] for i in batch.tolist()]) for batch in chosen)
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


def injecting(real_NLC: Tensor) -> stream.Make:
    """Sampling in which image i's cells are replaced by the i-th real tokens once they are drawn."""
    return lambda settings, body, labels, index: inject(settings, body, labels, index, real_NLC[index])
