"""Samples as files to look at: a grid, an animation of how it was revealed, arrays, single pictures.

Legend: B batch, N images, L cells, C channels, H W pixels, T steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid
from tqdm import tqdm

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR
from orderhead.body.watched import watched
from orderhead.core.files import read_json, replacing, write_json
from orderhead.core.grid import Grid
from orderhead.data.latents import fingerprint
from orderhead.orders.learned import Learned
from orderhead.sampling.frames import reveal_frames
from orderhead.sampling.sample import Sampler, Samples, pilot_passes
from orderhead.sampling.settings import Settings
from orderhead.sampling.threads import in_threads, shares_of

BATCH = 16
GIF_SECONDS, GIF_HOLD_SECONDS = 3.0, 1.5
SHOWN_SIDE = 128  # images smaller than this are enlarged where they are to be looked at


def batches(settings: Settings, body: MAR, labels_N: Tensor, start: int = 0, batch: int = BATCH) -> Iterator[Samples]:
    """The images numbered `start`, `start + 1`, ... (image i has label i of `labels_N`), at most `batch` at a time.

    `rng="official"` is one stream of numbers over one batch, so there all images come at once.
    """
    sampler = Sampler.of(settings, body)
    for index_B in _numbers(settings, start, len(labels_N), batch):
        yield in_threads(Sampler.__call__, sampler, labels_N[index_B.to(labels_N.device)], index_B)


def _numbers(settings: Settings, start: int, stop: int, batch: int = BATCH) -> list[Tensor]:
    """The images' numbers (B,) of each batch."""
    step = stop if settings.rng == "official" else batch
    return [torch.arange(first, min(first + step, stop)) for first in range(start, stop, step)]


def to_uint8(images: Tensor) -> np.ndarray:
    """Floats in [-1, 1] -> uint8 of the same shape, rounded."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def picture(images_NCHW: Tensor, padding: int = 2) -> Image.Image:
    """All images side by side in a near-square grid on white."""
    columns = math.ceil(math.sqrt(len(images_NCHW)))
    sheet = make_grid(torch.from_numpy(to_uint8(images_NCHW)), nrow=columns, padding=padding, pad_value=255)
    return Image.fromarray(sheet.permute(1, 2, 0).numpy())


def enlarged(images_NCHW: Tensor) -> Tensor:
    """Every pixel a square of pixels, as large as leaves an image's width at or below `SHOWN_SIDE`."""
    factor = max(1, SHOWN_SIDE // images_NCHW.shape[-1])
    return images_NCHW.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def save_png(samples: Samples, grid: Grid, path: Path) -> None:
    """All images in one picture."""
    picture(enlarged(samples.images_BCHW)).save(path, format="PNG")


def save_gif(samples: Samples, grid: Grid, path: Path) -> None:
    """The images as they are revealed, step by step; the last frame stays a while."""
    frames = reveal_frames(samples, grid)
    first, *rest = [picture(enlarged(frame)) for frame in frames]
    each = max(40, round(1000 * GIF_SECONDS / len(frames)))
    durations = [each] * len(rest) + [round(1000 * GIF_HOLD_SECONDS)]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def save_npz(samples: Samples, grid: Grid, path: Path) -> None:
    """`images` uint8 (N, H, W, C), `tokens` float32 (N, L, C), `order` (N, L), `counts` (T,), `labels` (N,)."""
    images = to_uint8(samples.images_BCHW).transpose(0, 2, 3, 1)
    tokens, trace = samples.tokens_BLC.float().cpu().numpy(), samples.trace
    with open(path, "wb") as file:  # to a path that ends in .NPZ, NumPy would append .npz
        np.savez_compressed(
            file, images=images, tokens=tokens, order=trace.order_BL, counts=trace.counts_T, labels=trace.labels_B
        )


def save_folder(samples: Samples, folder: Path, start: int = 0) -> None:
    """One PNG an image, `00000.png` upwards from number `start`; each is whole or absent."""
    for number, image in enumerate(to_uint8(samples.images_BCHW).transpose(0, 2, 3, 1), start):
        with replacing(folder / f"{number:05d}.png") as temporary:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(temporary, format="PNG")


EXPORTS: Mapping[str, Callable[[Samples, Grid, Path], None]] = {".png": save_png, ".gif": save_gif, ".npz": save_npz}
"""File ending -> how samples are written."""


def writer(out: str) -> Callable[[Settings, MAR, Tensor], None]:
    """What samples into `out`, by its ending: an export, or a PNG an image for a folder.

    ValueError for an ending of another kind.
    """
    path = Path(out)
    if out.endswith("/") or path.is_dir() or not path.suffix:
        return partial(_write_folder, path)
    if path.suffix.lower() not in EXPORTS:
        raise ValueError(f"--out ends in .png, .gif or .npz, or in / for a folder of PNG; got {out}")
    return partial(_write_file, path)


def _write_file(path: Path, settings: Settings, body: MAR, labels_N: Tensor) -> None:
    with replacing(path) as temporary:  # opened first: a folder that cannot be written is told at once
        EXPORTS[path.suffix.lower()](Samples.join(list(batches(settings, body, labels_N))), body.grid, temporary)


def _write_folder(folder: Path, settings: Settings, body: MAR, labels_N: Tensor) -> None:
    """One PNG an image. What a stopped run, or one of fewer images, has written is kept.

    ValueError where it was of other settings, of a body, tokenizer or head with other weights, or where nobody says of
    what it was.
    """
    models = {"body": body, "tokenizer": load_tokenizer(body.config.tokenizer)}
    if isinstance(policy := settings.policy(), Learned):
        models["head"] = policy.head
    record = {
        "body": asdict(body.config), "weights": {name: fingerprint(model) for name, model in models.items()},
        "settings": settings.record, "labels": labels_N.tolist(),
    }  # fmt: skip
    file, done = folder / "settings.json", 0
    if file.is_file() and not _continues(json.loads(json.dumps(record)), read_json(file)):
        raise ValueError(
            f"{folder} holds images of other settings or weights, or more images (settings.json); choose another --out"
        )
    if not file.is_file() and (folder / f"{done:05d}.png").is_file():
        raise ValueError(f"{folder} holds images and no settings.json that says of what; choose another --out")
    write_json(file, record)
    while settings.rng != "official" and (folder / f"{done:05d}.png").is_file():
        done += 1
    for samples in batches(settings, body, labels_N, done) if done < len(labels_N) else ():
        save_folder(samples, folder, done)
        done += len(samples.tokens_BLC)


def _continues(record: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether the images of `found` are the first ones of `record`: an image is a function of seed, number and label.

    Under the published stream of random numbers it is not: there each depends on how many there are.
    """
    labels = found.get("labels")
    if isinstance(labels, list) and record["settings"]["rng"] != "official":
        record = record | {"labels": record["labels"][: len(labels)]}
    return record == found


@contextmanager
def progress(settings: Settings, body: MAR, n: int) -> Iterator[MAR]:
    """A bar for what takes more than two seconds: it counts the passes of the body that it gives."""
    parts = sum(shares_of(settings, body, len(index_B)) for index_B in _numbers(settings, 0, n))
    passes = pilot_passes(settings) + parts * len(settings.counts(body.grid.L))
    with tqdm(total=passes, desc="sampling", unit="step", delay=2, leave=False) as bar:
        yield watched(body, bar.update)
