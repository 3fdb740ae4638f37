"""Tokens of a folder of images, encoded once, kept in the user's cache and read from there a batch at a time.

A KL autoencoder gives an image not tokens but a normal distribution over tokens, its posterior. MAR is trained on
samples of it, drawn anew at each step, of the image or of its mirror image (LTH14/mar's engine_mar.py and
util/loader.py, which keep both images' moments as one file an image). So the mean and the standard deviation of both
are kept here too, as half floats: 33 kB an image of 16 x 16 x 16 tokens, 42 GB for ImageNet, half of what MAR's own
cache takes. Whatever is trained on a folder, a body, a head or a classifier, sees the same draws, since that is what
the body was made for.

They lie in parts, none larger than a class, each named by its own files' names, sizes and times and by the tokenizer's
weights: a run that was killed goes on with the parts that are missing, and a picture that is changed costs its class.

Legend: N images, B batch, L cells, C token channels, 2 x 2 (image, its mirror image) x (mean, standard deviation).
"""

from __future__ import annotations

import math
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.core import dist
from orderhead.core.files import replacing
from orderhead.data.fashion import cache_folder
from orderhead.data.images import ImageFolder

BATCH, PART = 64, 2048  # images encoded at once, images kept in one file at most

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (B, C, H, W) in [-1, 1] -> mean and standard deviation of their tokens, (B, L, C) each."""


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Normal distributions over the tokens of N images, on disk: `parts[k]` holds the images from `starts[k]` on.

    `starts` ends with N; a part is half floats (images, 2, 2, L, C) and no header.
    """

    parts: tuple[Path, ...]
    starts: tuple[int, ...]
    cells: tuple[int, int]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """The means, (B, L, C) float32 in memory: what the tokenizer's `encode` gives, to half precision."""
        index_B = torch.arange(len(self))[rows]
        return self._moments(index_B, torch.zeros(len(index_B), dtype=torch.bool))[:, 0]

    def draw(self, index_B: Tensor, rng: torch.Generator) -> Tensor:
        """A sample (B, L, C) of each image's posterior, or with probability 1/2 of its mirror image's."""
        mirrored_B = torch.rand(len(index_B), generator=rng) < 0.5
        mean_BLC, std_BLC = self._moments(index_B, mirrored_B).unbind(1)
        return mean_BLC + std_BLC * torch.randn(mean_BLC.shape, generator=rng)

    def _moments(self, index_B: Tensor, mirrored_B: Tensor) -> Tensor:
        found = [self._read(i, m) for i, m in zip(index_B.tolist(), mirrored_B.tolist(), strict=True)]
        return torch.from_numpy(np.stack(found).astype(np.float32)).unflatten(1, (2, *self.cells))

    def _read(self, image: int, mirrored: bool) -> np.ndarray:
        """Mean and standard deviation of one image. No file stays open: there may be more parts than a process may."""
        part, numbers = bisect_right(self.starts, image) - 1, 2 * math.prod(self.cells)
        row = 2 * (image - self.starts[part]) + mirrored
        return np.fromfile(self.parts[part], np.float16, numbers, offset=2 * numbers * row)


Tokens = Tensor | Posteriors
"""Tokens (N, L, C) of a data set: in memory, or to be drawn."""


def drawn(tokens: Tokens, index_B: Tensor, rng: torch.Generator) -> Tensor:
    """Tokens (B, L, C) of a batch, float32 on the CPU: as they are, or a draw of their posteriors."""
    return tokens[index_B] if isinstance(tokens, Tensor) else tokens.draw(index_B, rng)


def cached_posteriors(images: ImageFolder, encode: Encode, key: str, cells: tuple[int, int]) -> Posteriors:
    """The posteriors of a folder whose images have labels, through `encode`, which `key` names; `cells` = (L, C).

    Parts that are in the cache are not encoded again. Under torchrun each process encodes its share of them; where
    processes have no cache in common, each then encodes what it lacks. ValueError where the disk has no room.
    """
    assert images.labels_M is not None
    spans = _spans(images.labels_M)
    places = {_place(images, span, key): span for span in spans}
    _check_room([s for p, s in places.items() if not _whole(p, s, cells)], cells)
    shares = list(dist.share(list(places.items())))
    _encode(images, shares, encode, cells)
    dist.barrier()
    _encode(images, places.items(), encode, cells)
    return Posteriors(tuple(places), (0, *(span.stop for span in spans)), cells)


def _spans(labels_N: Tensor) -> list[slice]:
    """Rows that follow each other and have one label, at most PART together."""
    edges = [0, *(labels_N.diff().nonzero().flatten() + 1).tolist(), len(labels_N)]
    return [slice(k, min(k + PART, end)) for start, end in pairwise(edges) for k in range(start, end, PART)]


def _place(images: ImageFolder, span: slice, key: str) -> Path:
    return cache_folder() / f"posteriors-{key}" / f"{images.key_of(span)}.float16"


def _size(span: slice, cells: tuple[int, int]) -> int:
    """Bytes of a part."""
    return (span.stop - span.start) * 2 * 2 * math.prod(cells) * 2


def _whole(path: Path, span: slice, cells: tuple[int, int]) -> bool:
    return path.is_file() and path.stat().st_size == _size(span, cells)


def _check_room(missing: list[slice], cells: tuple[int, int]) -> None:
    """ValueError where the disk does not hold what is still to be encoded."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    need, free = sum(_size(span, cells) for span in missing), shutil.disk_usage(folder).free
    if need > free:
        raise ValueError(
            f"the tokens of these images take {need / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; make "
            "room, or set ORDERHEAD_CACHE to a folder on a larger disk"
        )


def _encode(images: ImageFolder, places: Iterable[tuple[Path, slice]], encode: Encode, cells: tuple[int, int]) -> None:
    """Write those parts that are not there."""
    missing = [(path, span) for path, span in places if not _whole(path, span, cells)]
    total = sum(span.stop - span.start for _, span in missing)
    with tqdm(
        total=total, desc=f"encoding {images.folder.name}", unit="image", delay=2, disable=dist.rank() > 0
    ) as bar:
        for path, span in missing:
            part = _part(images, span, encode, cells, bar)
            with replacing(path) as temporary:
                part.tofile(temporary)


@torch.no_grad()
def _part(images: ImageFolder, span: slice, encode: Encode, cells: tuple[int, int], bar: tqdm) -> np.ndarray:
    """Half floats (images, 2, 2, L, C)."""
    part = np.empty((span.stop - span.start, 2, 2, *cells), np.float16)
    for first in range(span.start, span.stop, BATCH):
        last = min(first + BATCH, span.stop)
        pixels = images[first:last]
        for mirrored, seen in enumerate((pixels, pixels.flip(-1))):
            for moment, values_BLC in enumerate(encode(seen)):
                part[first - span.start : last - span.start, mirrored, moment] = values_BLC.half().cpu().numpy()
        bar.update(last - first)
    return part
