"""A numbered stream of images on disk: chunks that any number of processes share, and that a killed run goes on from.

Legend: N images, L cells, C channels.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from orderhead.body.mar import MAR
from orderhead.core import dist
from orderhead.core.arrays import read_arrays
from orderhead.core.files import replacing
from orderhead.sampling.sample import Sampler, Samples
from orderhead.sampling.settings import Settings
from orderhead.sampling.threads import Make, in_threads
from orderhead.sampling.trace import Trace

CHUNK = 64
ARRAYS = ("tokens", "order", "counts", "scores", "labels", "seconds")


def labels_of(index_N: torch.Tensor, classes: int) -> torch.Tensor:
    """Image i has label i mod the number of classes, under every order."""
    return index_N % classes


def _chunk_path(folder: Path, first: int) -> Path:
    return folder / f"{first:07d}.npz"


def write(
    settings: Settings,
    body: MAR,
    n: int,
    folder: str | Path,
    chunk: int = CHUNK,
    title: str = "",
    make: Make = Sampler.__call__,
) -> None:
    """Sample this process's share of images 0 .. n - 1 into `folder`, skipping chunks that are there already.

    `make` is what samples. Chunk k goes to rank k mod world size. With `rng="paired"` the images do not depend on
    `chunk` or on the number of processes. ValueError for n < 1, settings out of range, and more images than a chunk
    with `rng="official"`, whose numbers begin again with every batch.
    """
    if n < 1:
        raise ValueError(f"at least one image must be asked for, got {n}")
    if settings.rng == "official" and n > chunk:
        raise ValueError(f"rng official gives one batch its noise, so at most {chunk} images, not {n}; take paired")
    folder = Path(folder)
    missing = [f for f in dist.share(range(0, n, chunk)) if not _chunk_path(folder, f).exists()]
    if not missing:
        return
    sampler = Sampler.of(settings, body)
    for first in tqdm(missing, desc=title or folder.name, unit="chunk", delay=2, leave=False):
        index = torch.arange(first, min(first + chunk, n))
        started = time.perf_counter()
        samples = in_threads(make, sampler, labels_of(index, body.config.classes).to(body.device), index)
        seconds = time.perf_counter() - started
        with replacing(_chunk_path(folder, first)) as temporary:
            trace = samples.trace
            np.savez(
                temporary, tokens=samples.tokens_BLC.cpu().numpy(), order=trace.order_BL, counts=trace.counts_T,
                scores=trace.scores_BRL, labels=trace.labels_B, seconds=seconds,
            )  # fmt: skip


def read(folder: str | Path, n: int, tokenizer: str, chunk: int = CHUNK) -> tuple[Samples, float]:
    """The whole stream, and the seconds of sampling that it took.

    ValueError where a chunk is missing, damaged, or of a stream with another number of images.
    """
    parts, seconds = [], 0.0
    for first in range(0, n, chunk):
        path = _chunk_path(Path(folder), first)
        found, order, counts, scores, labels, spent = read_arrays(path, *ARRAYS)
        if len(found) != (wanted := min(chunk, n - first)):
            raise ValueError(f"{path} holds {len(found)} images, not {wanted}; remove it and run again")
        parts.append(Samples(torch.from_numpy(found), Trace(order, counts, scores, labels), tokenizer))
        seconds += float(spent)
    return Samples.join(parts), seconds
