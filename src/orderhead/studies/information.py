"""A body's information curve on real images, and what schedules cost under it.

OUT/run.json, OUT/bits/ (bits of a cell of each image, by how many are known) -> OUT/schedules.json ->
OUT/report.html. Run again, it goes on where it stopped.

Legend: N images, L cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.body.load import load_body, load_tokenizer, with_tokenizer
from orderhead.body.mar import MAR
from orderhead.core import dist
from orderhead.core.arrays import kept_arrays
from orderhead.core.device import default_device
from orderhead.core.files import write_json
from orderhead.data.images import RealImages
from orderhead.data.latents import fingerprint
from orderhead.metrics.intervals import paired, single
from orderhead.metrics.statistic import Statistic
from orderhead.sampling.bits import context_bits
from orderhead.sampling.information import cost, curve, informed, sizes
from orderhead.sampling.presets import filled
from orderhead.sampling.schedule import SCHEDULES, counts_of
from orderhead.studies.folders import claim
from orderhead.studies.worlds import WORLDS, Sources, real_images

IMAGES, PART = 200, 20  # images, images in one file
PROBES = 16  # cells whose bits are averaged
LEAST = 4  # images: two halves of two


def schedules(
    out: Path,
    body: str = "fashion",
    steps: int | None = None,
    images: int = IMAGES,
    real: str | None = None,
    tokenizer: str = "auto",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What an image costs under the schedule that costs least in so many steps, and under the named ones: a row each.

    Bits are the body's likelihood bound on `images` real images, drawn at random. Half of them choose the counts, the
    other half say what the schedules cost, and how much more than cosine with its 95 % interval. `real` as in
    `worlds.Sources`: by default what ships for the tokenizer.

    ValueError for an unknown body, images that do not fit it or have no classes, too few of them, steps out of range.
    """
    if images < LEAST:
        raise ValueError(f"two halves take at least {LEAST} images, got {images}")
    if dist.world_size() > 1:
        raise ValueError("this runs in one process; start it without torchrun")
    model = load_body(body).to(default_device()).requires_grad_(False)
    model.config = with_tokenizer(model.config, tokenizer)
    name, L = real or WORLDS.get(model.config.tokenizer, Sources()).real, model.grid.L
    if name is None:
        raise ValueError(f"no real images ship for the tokenizer {model.config.tokenizer!r}; give --real FOLDER")
    steps = int(filled(model.config, L, {"steps": steps})["steps"])
    named = {each: counts_of(each, steps, L) for each in SCHEDULES}
    bits_NL = curves(out, model, real_images(name, model.config), images, seed)
    chosen_NL, held_NL = np.array_split(bits_NL, 2)
    rows = _rows({"informed": informed(chosen_NL.mean(0), steps)} | named, held_NL)
    write_json(out / "schedules.json", {"body": body, "images": images, **_above_least(bits_NL), "schedules": rows})
    return rows


def _above_least(bits_NL: np.ndarray) -> dict[str, list[float]]:
    """The curve, how far it lies above its least, and half of that difference's 95 % interval, paired by image."""
    above_NL = bits_NL - bits_NL[:, [int(bits_NL.mean(0).argmin())]]
    found = [single(Statistic.mean(above_N)) for above_N in above_NL.T]
    return {
        "curve": bits_NL.mean(0).tolist(), "above_least": above_NL.mean(0).tolist(),
        "half": [(each.hi - each.lo) / 2 for each in found],
    }  # fmt: skip


def curves(out: Path, body: MAR, real: RealImages, images: int, seed: int = 0) -> np.ndarray:
    """Bits (N, L) of a cell of each real image when 0, 1, ..., L - 1 are known; kept in `out`."""
    if real.labels_M is None or int(real.labels_M.max()) + 1 != body.config.classes:
        raise ValueError(f"these images need their classes: one subfolder for each of the body's {body.config.classes}")
    if images > len(real):
        raise ValueError(f"there are {len(real)} real images, fewer than {images}")
    models = {"weights": body, "tokenizer": load_tokenizer(body.config.tokenizer)}
    protocol = {name: fingerprint(model) for name, model in models.items()}
    claim(
        out, {"study": "information", "protocol": protocol | {"real": real.identity, "seed": seed}, "rows": {}}, "rows"
    )
    chosen_N, kept = torch.from_numpy(np.random.default_rng(seed).permutation(len(real))[:images]), []
    for part in tqdm(torch.arange(images).split(PART), "bits of real images", unit="part", delay=2):
        path = out / "bits" / f"{int(part[0]):05d}-{len(part)}.npz"
        kept += kept_arrays(path, partial(_bits, body, real, chosen_N[part], part, seed), "bits")
    return curve(np.concatenate(kept), body.grid.L)


@torch.no_grad()
def _bits(body: MAR, real: RealImages, chosen_B: Tensor, index_B: Tensor, seed: int) -> dict[str, np.ndarray]:
    assert real.labels_M is not None
    images_BCHW = torch.cat([real[i : i + 1] for i in chosen_B.tolist()])
    tokens_BLC = load_tokenizer(body.config.tokenizer).to(body.device).encode(images_BCHW.to(body.device))
    labels_B, index_B = (x.to(body.device) for x in (real.labels_M[chosen_B], index_B))
    bits_BS = context_bits(body, labels_B, index_B, tokens_BLC, sizes(body.grid.L), PROBES, seed)
    return {"bits": bits_BS.cpu().numpy()}


def _rows(schedules: Mapping[str, Sequence[int]], held_NL: np.ndarray) -> list[dict[str, Any]]:
    rows, base = [], Statistic.mean(cost(held_NL, schedules["cosine"]))
    for name, counts in schedules.items():
        ours = Statistic.mean(cost(held_NL, counts))
        gap = paired(ours, base)
        rows.append({
            "schedule": name, "bits": round(ours.value, 2), "minus_cosine": round(gap.value, 2),
            "lo": round(gap.lo, 2), "hi": round(gap.hi, 2),
            "counts": name if name == "one_by_one" else ",".join(map(str, counts)),
        })  # fmt: skip
    return rows
