"""Why an order wins or loses: its gap to random taken apart by switching one thing at a time, on common noise.

checkpoint -> samples/ARM (resumable), real/ (encoded once), judged/ARM.npz, bits/ARM.npz -> results.jsonl, run.json ->
report.html.

Legend: N images, L cells, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.body.load import load_body, with_tokenizer
from orderhead.body.mar import MAR
from orderhead.core import dist, results
from orderhead.core.arrays import kept_arrays
from orderhead.core.device import default_device
from orderhead.core.results import Result
from orderhead.metrics.bundle import Judged
from orderhead.metrics.frechet import fd
from orderhead.metrics.intervals import Estimate, contrast
from orderhead.metrics.judge import BATCH, judged
from orderhead.metrics.registry import named
from orderhead.metrics.statistic import Statistic
from orderhead.metrics.tokens import token_distance
from orderhead.sampling import stream
from orderhead.sampling.bits import image_bits, undrawn
from orderhead.sampling.export import to_uint8
from orderhead.sampling.sample import Sampler, Samples
from orderhead.sampling.settings import Settings
from orderhead.studies.causes import ARMS, BITS, DISTANCE, TOKENS, Arm, Cause, arms_of, left_out, possible
from orderhead.studies.compare import common_protocol, head_identity
from orderhead.studies.folders import claim
from orderhead.studies.real import check_real, injecting, real_tokens
from orderhead.studies.rows import SHOWN_IMAGES
from orderhead.studies.worlds import LEAST_IMAGES, Jury, World

BITS_IMAGES = 128  # likelihoods need fewer images than distances
BITS_BATCH = 32  # of them at once, on a CPU; elsewhere all
OTHERS = 4000  # real images that drawn tokens are compared with, at most
Statistics = Mapping[str, tuple[Statistic, np.ndarray]]


@dataclass(frozen=True)
class Diagnosis:
    """One run: a body, orders with their settings, images an arm, who judges them, and the folder that holds it all.

    `sampled` False leaves out what images are sampled and judged for: bits of real images remain.
    """

    out: Path
    body_name: str
    body: MAR
    orders: Mapping[str, Settings]
    random: Settings
    images: int
    world: World
    given: Mapping[str, str] = field(default_factory=dict)
    sampled: bool = True

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """Everything that changes a number of any order, as JSON gives it back."""
        common = common_protocol(self.body_name, self.body, self.images, self.random, ("order", "head", "rescore"))
        if not self.sampled:
            return common | {"real": self.world.identity["real"], "bits": "alone"}
        return common | {name: which for name, which in self.world.identity.items() if name != "classifier"}

    @cached_property
    def real_NLC(self) -> Tensor:
        """Tokens of a real image for each generated one, of the same class."""
        return real_tokens(self.world, self.body, slice(0, self.images), self.out)

    @cached_property
    def others_MLC(self) -> Tensor:
        """Tokens of real images that are no contexts, classes in turn: what drawn tokens are compared with."""
        return real_tokens(self.world, self.body, slice(self.images, self.images + OTHERS), self.out)

    def metric(self, cause: str) -> str:
        """A share's name carries the distance and its number of images: `gap_fd`, `gap_fid5k`."""
        return f"{cause}_{named('fd', self.images, self.world.judge.named)}"

    def metrics(self, order: str) -> list[str]:
        """The names of all its numbers."""
        return [*map(self.metric, possible(self.orders[order])), *TOKENS, *BITS] if self.sampled else [*BITS]

    @property
    def description(self) -> dict[str, Any]:
        """What `run.json` says before anything is measured."""
        distance = "FID" if "fd" in self.world.judge.named else "Frechet distance"
        families = [(f"bits of a real image ({min(self.images, BITS_IMAGES)} images)", 1, BITS)]
        if self.sampled:
            families = [
                (distance, 2, {self.metric(name): cause for name, cause in DISTANCE.items()}),
                ("distance of a cell's tokens to real ones", 3, TOKENS),
                *families,
            ]
        return {
            "study": "diagnose", "title": "Why an order wins or loses", "body": self.body_name,
            "grid": [self.body.grid.h, self.body.grid.w], "images": self.images, "classes": self.body.config.classes,
            "protocol": self.protocol, "given": dict(self.given),
            "orders": list(self.orders),
            "heads": {order: head_identity(settings) for order, settings in self.orders.items()},
            "left_out": {order: left_out(s) if self.sampled else [] for order, s in self.orders.items()},
            "arms": {name: arm.random for name, arm in ARMS.items()},
            "families": [
                {"unit": unit, "digits": digits, "causes": {m: [c.title, c.says] for m, c in causes.items()}}
                for unit, digits, causes in families
            ],
        }  # fmt: skip

    def settings(self, order: str, arm: Arm) -> Settings:
        return arm.switch(self.random if arm.random else self.orders[order])

    def check(self, order: str) -> None:
        """ValueError for a setting out of range in any of the order's arms, which switch steps and guidance."""
        for name in arms_of(BITS):
            undrawn(self.settings(order, ARMS[name])).check(self.body)
        for name in arms_of({**possible(self.orders[order]), **TOKENS}) if self.sampled else ():
            self.settings(order, ARMS[name]).check(self.body)

    def folder(self, order: str, name: str) -> str:
        """Where an arm's samples lie: those of random serve every order."""
        return name if ARMS[name].random else f"{order}, {name}"


def diagnose(
    out: str | Path,
    *,
    body: str = "fashion",
    orders: Sequence[str] = ("raster",),
    images: int = 400,
    judging: Mapping[str, str] = MappingProxyType({}),
    tokenizer: str = "auto",
    sampled: bool = True,
    **settings: Any,
) -> Path:
    """Take the gap of each order to random apart, and write all but the page into `out`.

    `sampled` False measures bits of real images alone: minutes for many orders. Other arguments as for
    `studies.compare.compare`. Run again in the same folder, it goes on where it stopped. ValueError for an unknown
    name, a setting out of range, a source that does not fit, or real images of unknown classes or too few of them,
    and where `out` holds a run with other settings.
    """
    model = load_body(body).to(default_device())
    model.config = with_tokenizer(model.config, tokenizer)
    images = images if sampled else min(images, BITS_IMAGES)
    if images < LEAST_IMAGES:
        raise ValueError(f"a diagnosis takes at least {LEAST_IMAGES} images an arm, got {images}")
    base = Settings(**settings)
    own = {order: replace(base, order=order) for order in orders if order != "random"}
    if not own:
        raise ValueError("a diagnosis is of an order that is not random; name one (`orderhead list orders`)")
    given = {**judging, **({} if tokenizer == "auto" else {"tokenizer": tokenizer})}
    random = replace(base, order="random", head=None, rescore=1)
    run = Diagnosis(Path(out), body, model, own, random, images, World.of(model.config, judging), given, sampled)
    return execute(run)


def execute(run: Diagnosis) -> Path:
    """Sample and measure every arm of every order, going on from what the folder holds."""
    if dist.world_size() > 1:
        raise ValueError("a diagnosis runs in one process; start it without torchrun")
    for order in run.orders:
        run.check(order)
    check_real(run.world, 2 * run.images if run.sampled else run.images)  # as many again to compare with
    claim(run.out, run.description, "heads", ("orders", "left_out"))
    path = run.out / "results.jsonl"
    found = {(r.row, r.metric) for r in results.read(path)} if path.exists() else set()
    missing = [order for order in run.orders if not {(order, metric) for metric in run.metrics(order)} <= found]
    jury = Jury.of(run.world, run.images) if missing and run.sampled else None
    for order in missing:
        results.append(path, _lines(run, order, jury))
    return run.out


def _lines(run: Diagnosis, order: str, jury: Jury | None) -> list[Result]:
    """Every number of an order: its shares in distance and in tokens, where a jury is given, and in bits."""
    found: dict[str, Estimate] = {}
    if jury is not None:
        distances = _shares(possible(run.orders[order]), _distances(run, order, jury))
        found |= {run.metric(name): e for name, e in distances.items()} | _shares(TOKENS, _tokens(run, order))
    found |= _shares(BITS, _likelihoods(run, order))
    protocol = run.protocol | head_identity(run.orders[order])
    return [Result("diagnose", order, name, e.value, e.ci, e.n, protocol) for name, e in found.items()]


def _shares(causes: Mapping[str, Cause], found: Statistics) -> dict[str, Estimate]:
    """Every cause's weighted sum over its arms."""
    labels = next(iter(found.values()))[1]
    return {
        name: contrast([(weight, found[arm][0]) for arm, weight in cause.weights.items()], labels)
        for name, cause in causes.items()
    }


def _distances(run: Diagnosis, order: str, jury: Jury) -> Statistics:
    """Each arm's Frechet distance."""
    found = {}
    for name in tqdm(arms_of(possible(run.orders[order])), desc=f"taking {order} apart", unit="arm", delay=2):
        seen = _seen(run, order, name, jury)
        found[name] = fd(seen, jury.reference), seen.labels_N
    return found


def _seen(run: Diagnosis, order: str, name: str, jury: Jury) -> Judged:
    """An arm's images as the judge sees them, kept in `judged/`, the first ones to be shown too."""

    def look() -> dict[str, np.ndarray]:
        samples = _sampled(run, order, name)
        seen = judged(jury.world.judge, samples.image_batches(BATCH), samples.trace.labels_B)
        shown = np.moveaxis(to_uint8(samples.take(slice(SHOWN_IMAGES)).images_BCHW), 1, -1)
        return {"features": seen.features_NF, "logits": seen.logits_NK, "labels": seen.labels_N, "shown": shown}

    path = run.out / "judged" / f"{run.folder(order, name)}.npz"
    return Judged(*kept_arrays(path, look, "features", "logits", "labels"))


def _sampled(run: Diagnosis, order: str, name: str) -> Samples:
    """An arm's images, sampled where they are not there yet."""
    arm, where = ARMS[name], run.out / "samples" / run.folder(order, name)
    make = injecting(run.real_NLC) if arm.real else Sampler.__call__
    stream.write(run.settings(order, arm), run.body, run.images, where, title=name, make=make)
    return stream.read(where, run.images, run.body.config.tokenizer)[0]


def _tokens(run: Diagnosis, order: str) -> Statistics:
    """Each arm's distance of tokens to those of other real images."""
    found, others_MLC = {}, run.others_MLC.numpy()
    for name in tqdm(arms_of(TOKENS), desc=f"tokens of {order}", unit="arm", delay=2):
        samples = _sampled(run, order, name)
        found[name] = token_distance(samples.tokens_BLC.cpu().numpy(), others_MLC), samples.trace.labels_B
    return found


def _likelihoods(run: Diagnosis, order: str) -> Statistics:
    """Bits of the first real images under the order and under random, at the run's steps and at one cell a step."""
    found = {}
    for name in arms_of(BITS):
        path = run.out / "bits" / f"{run.folder(order, name)}.npz"
        (bits_NL,) = kept_arrays(path, partial(_bits, run, order, name), "bits")
        labels = stream.labels_of(torch.arange(len(bits_NL)), run.body.config.classes).numpy()
        found[name] = Statistic.mean(bits_NL.sum(1)), labels
    return found


def _bits(run: Diagnosis, order: str, name: str) -> dict[str, np.ndarray]:
    """Bits of each cell of the first real images, and the step in which it is revealed; (N, L) each."""
    at_once = BITS_BATCH if run.body.device.type == "cpu" else BITS_IMAGES
    parts, each = torch.arange(min(run.images, BITS_IMAGES)).split(at_once), []
    settings = run.settings(order, ARMS[name])
    for index in tqdm(parts, desc=f"bits, {name}", unit="batch", delay=2, leave=False):
        labels = stream.labels_of(index, run.body.config.classes).to(run.body.device)
        each.append(image_bits(settings, run.body, labels, index.to(run.body.device), run.real_NLC[index]))
    bits, steps = (torch.cat(column).cpu().numpy() for column in zip(*each, strict=True))
    return {"bits": bits, "step": steps}
