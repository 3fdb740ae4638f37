"""How good a model that is being trained is, epoch by epoch: images under its head's own fast order, judged.

Legend: n images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from orderhead.core import results
from orderhead.core.results import Result
from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.judge import judged
from orderhead.metrics.registry import measure, named
from orderhead.orders.learned import learned
from orderhead.sampling import stream
from orderhead.sampling.sample import run as sampled
from orderhead.studies.compare import Comparison
from orderhead.studies.plan import Plan
from orderhead.studies.worlds import Jury
from orderhead.training.heads import HeadAndBody
from orderhead.training.loop import Evaluation

LOOKED_AT = ("fd", "kid")  # kid has no bias in n: the few images of a look can be compared with many
LOOK_IMAGES: Mapping[str, int] = {"smoke": 10, "mini": 64, "full": 5_000}
"""Scale -> images a look (the document's 5,000; ours at mini, where a look should cost less than its epoch)."""


def looking(run: Comparison, n: int) -> Evaluation:
    """An evaluation of a `HeadAndBody`: n images under the head's fast order, with the run's settings, noise and jury.

    It logs each metric of `LOOKED_AT`, its interval as NAME_lo and NAME_hi, and `look_images`. Every look has the same
    noise, so what changes from one to the next is the model.
    """
    reference = cache(lambda: Jury.of(run.world, run.images).reference)

    def look(model: nn.Module, seen: int) -> dict[str, float]:
        assert isinstance(model, HeadAndBody)
        return numbers(_judged(run, model, n), reference()) | {"look_images": n}

    return look


def numbers(images: Judged, reference: Reference) -> dict[str, float]:
    """Values and intervals, flat, as a log takes them."""
    found = measure(images, reference, LOOKED_AT)
    ends = {f"{k}_{end}": getattr(e, end) for k, e in found.items() for end in ("lo", "hi")}
    return {k: e.value for k, e in found.items()} | ends


@torch.no_grad()
def _judged(run: Comparison, model: HeadAndBody, n: int) -> Judged:
    """Images 0 .. n - 1 of the model as the judge sees them, a chunk at a time."""
    settings = replace(run.settings, order=learned(model.head), rescore="fast")
    parts = torch.arange(n).split(stream.CHUNK)
    labels = [stream.labels_of(index, run.body.config.classes) for index in parts]
    images = (
        sampled(settings, model.body, labels_B.to(model.body.device), index).images_BCHW
        for labels_B, index in zip(labels, parts, strict=True)
    )
    return judged(run.world.judge, images, torch.cat(labels).numpy())


@dataclass(frozen=True)
class Look:
    """One look: after how many epochs (of the row's own), metrics with intervals, the spread of the head's scores.

    `score_std` is the mean over the batches that were logged since the look before.
    """

    epoch: float
    n: int
    metrics: Mapping[str, tuple[float, tuple[float, float]]]
    score_std: float


def looks(folder: Path, epochs: int) -> list[Look]:
    """The looks in a trained row's log, first to last. ValueError where there is no log."""
    path = folder / "log.jsonl"
    if not path.is_file():
        raise ValueError(f"no {path.name} in {folder}; the row is not trained, run the study again")
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    whole = lines[-1]["images"] if lines else 1
    return [_look(lines[first : k + 1], epochs / whole) for first, k in _spans(lines)]


def _spans(lines: Sequence[Mapping[str, float]]) -> Iterator[tuple[int, int]]:
    """The first line after a look (or of all) and the line of the next look."""
    first = 0
    for k, line in enumerate(lines):
        if "look_images" in line:
            yield first, k
            first = k + 1


def _look(lines: Sequence[Mapping[str, float]], epochs_an_image: float) -> Look:
    last = lines[-1]
    metrics = {name: (last[name], (last[f"{name}_lo"], last[f"{name}_hi"])) for name in LOOKED_AT}
    spread = sum(line["score_std"] for line in lines) / len(lines)
    return Look(round(last["images"] * epochs_an_image, 2), int(last["look_images"]), metrics, spread)


def looks_at(plan: Plan, run: Comparison, epochs: Mapping[str, int]) -> dict[str, list[Look]]:
    """The looks at trained rows, by name, that took so many epochs each; written down where they are of this run."""
    found = {name: looks(plan.trained / "heads" / name, taken) for name, taken in epochs.items()}
    if plan.models is None:  # looks at another run's models were under that run's settings
        for name, each in found.items():
            write(run, name, plan.scale, each)
    return found


def write(run: Comparison, row: str, scale: str, found: Sequence[Look]) -> None:
    """Append the looks at a row to `results.jsonl`, each a line a number with `epoch` in its protocol; once.

    `scale` is the one at which the row was trained.
    """
    path = run.out / "results.jsonl"
    known = {(r.row, r.protocol.get("epoch")) for r in results.read(path)}
    results.append(path, [r for look in found if (row, look.epoch) not in known for r in _lines(run, row, scale, look)])


def _lines(run: Comparison, row: str, scale: str, look: Look) -> Iterator[Result]:
    """What was looked at has no weights on disk: its training (the seed is the run's) says which it was."""
    trained = {"recipe": row, "scale": scale, "epoch": look.epoch}
    shared = {name: value for name, value in run.protocol.items() if name != "weights"}  # the run's body, not this one
    protocol = shared | trained | {"images": look.n, "asked": "fast"}
    for name, (value, ci) in look.metrics.items():
        called = named(name, look.n, run.world.judge.named)
        yield Result(run.study, row, called, value, ci, look.n, protocol)
    yield Result(run.study, row, "score_std", look.score_std, None, look.n, protocol)
