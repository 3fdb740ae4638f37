"""Orders side by side on one body: the same images (same noise, same labels) under each order, measured in pairs.

checkpoint -> samples/ -> results.jsonl, traces/, panels/, curves/ -> report.html; each stage skips what is there, so a
run that was stopped goes on when it is started again.

Legend: N images, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from orderhead.body.load import load_body
from orderhead.body.mar import MAR
from orderhead.core import dist, results
from orderhead.core.device import default_device
from orderhead.core.files import read_json, replacing, write_json
from orderhead.core.names import lookup
from orderhead.core.results import Result
from orderhead.data.latents import fingerprint
from orderhead.metrics import judge as judging
from orderhead.metrics.bundle import Judged
from orderhead.metrics.intervals import Estimate, paired, single
from orderhead.metrics.progressive import auac, auc
from orderhead.metrics.registry import METRICS, measure, named
from orderhead.metrics.registry import compare as differences
from orderhead.metrics.statistic import Statistic
from orderhead.oracles.load import load_classifier
from orderhead.orders.lint import lint_orders
from orderhead.orders.policy import POLICIES
from orderhead.sampling import stream
from orderhead.sampling.sample import Samples, Settings
from orderhead.studies import progress
from orderhead.studies.worlds import Jury, world_of

DEMO_ORDERS = (
    "random", "raster", "multiscale", "center_spiral", "edge_spiral", "center_perturbed", "blockwise", "halton",
    "checkerboard", "spread",
)  # fmt: skip
BASELINE = "random"
JUDGED_BY = ("fd", "kid", "is", "agreement", "precision", "recall")  # not cmmd, whose features are CLIP's
LEAST_IMAGES = 5  # what precision and recall need
CURVE_IMAGES = 64
SHOWN_IMAGES = 10


@dataclass(frozen=True)
class Comparison:
    """One run: a body, settings, orders, the number of images, and the folder that holds it all."""

    out: Path
    study: str
    body_name: str
    body: MAR
    orders: tuple[str, ...]
    images: int
    settings: Settings

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """Every setting that changes a number, as it stands in each result (and as JSON gives it back)."""
        settings = {k: v for k, v in asdict(replace(self.settings, order="")).items() if k != "order"}
        settings["schedule"] = list(counts) if isinstance(counts := settings["schedule"], tuple) else counts
        settings["x0_bound"] = "inf" if settings["x0_bound"] == math.inf else settings["x0_bound"]
        return {"body": self.body_name, "weights": fingerprint(self.body), "images": self.images, **settings}

    def policy_settings(self, order: str) -> Settings:
        return replace(self.settings, order=order)

    def samples(self, order: str) -> tuple[Samples, float]:
        return stream.read(self.out / "samples" / order, self.images, self.body.config.tokenizer)


def compare(
    out: str | Path,
    *,
    body: str = "fashion",
    orders: Sequence[str] = DEMO_ORDERS,
    images: int = 100,
    study: str = "compare",
    **settings: Any,
) -> Path:
    """Sample `images` images under each order, measure them against random, and write `out/report.html`.

    `settings` are fields of `sampling.sample.Settings`. The baseline is always among the orders. Run again in the same
    folder, it goes on where it stopped. ValueError for an unknown name or a setting out of range, and where `out` holds
    a run with other settings.
    """
    for order in orders:
        lookup("order", order, POLICIES)
    orders = tuple(dict.fromkeys((BASELINE, *orders)))
    model = load_body(body).to(default_device())
    run = Comparison(Path(out), study, body, model, orders, images, Settings(**settings))
    world_of(model.config)
    for order in orders:
        run.policy_settings(order).check(model)
    if images < LEAST_IMAGES:
        raise ValueError(f"a comparison takes at least {LEAST_IMAGES} images an order, got {images}")
    _claim(run)
    for order in tqdm(orders, desc="sampling", unit="order", delay=2):
        stream.write(run.policy_settings(order), model, images, run.out / "samples" / order, title=order)
    dist.barrier()
    if dist.rank() == 0:
        _measure_all(run)
    return run.out / "report.html"


def _claim(run: Comparison) -> None:
    """Write `run.json`. ValueError where the folder holds a run whose numbers would not belong with these."""
    path = run.out / "run.json"
    found = read_json(path) if path.exists() else {}
    if path.exists() and (found.get("study"), found.get("protocol")) != (run.study, run.protocol):
        raise ValueError(f"{run.out} holds a run with other settings; choose another --out, or remove it")
    if dist.rank() == 0:
        write_json(path, _description(run))


def _description(run: Comparison) -> dict[str, Any]:
    config = run.body.config
    return {
        "study": run.study,
        "title": f"{len(run.orders)} orders on the {run.body_name} body",
        "body": run.body_name,
        "grid": [config.grid_h, config.grid_w],
        "class_names": list(config.class_names) or [str(k) for k in range(config.classes)],
        "baseline": BASELINE,
        "orders": list(run.orders),
        "images": run.images,
        "shown": list(range(min(SHOWN_IMAGES, run.images))),
        "protocol": run.protocol,
    }


def _measure_all(run: Comparison) -> None:
    """Measure every order that is not in `results.jsonl` yet, the baseline first."""
    path = run.out / "results.jsonl"
    known = {(r.row, r.metric) for r in results.read(path)} if path.exists() else set()
    jury = Jury.of(world_of(run.body.config), run.images)
    real = {name: e.value for name, e in measure(jury.real, jury.reference, JUDGED_BY).items()}
    write_json(run.out / "run.json", _description(run) | {
        "reference": {"name": world_of(run.body.config).name, "n": len(jury.reference), "real": real}
    })  # fmt: skip
    baseline = _Row.of(run, BASELINE, jury)
    for order in tqdm(run.orders, desc="measuring", unit="order", delay=2):
        if (order, "seconds_per_image") not in known:
            row = baseline if order == BASELINE else _Row.of(run, order, jury)
            results.append(path, row.results(run, jury, baseline))


@dataclass(frozen=True)
class _Row:
    """One order, sampled and judged."""

    order: str
    samples: Samples
    seconds: float
    judged: Judged
    progress: Mapping[str, Statistic]

    @classmethod
    def of(cls, run: Comparison, order: str, jury: Jury) -> _Row:
        """Read the order's samples, write its trace, panels and curves, and judge its images."""
        samples, seconds = run.samples(order)
        samples.trace.save(run.out / "traces" / f"{order}.npz")
        judged = judging.judged(jury.judge, samples.images_BCHW, torch.from_numpy(samples.trace.labels_B))
        return cls(order, samples, seconds, judged, _write_progress(run, order, samples))

    def results(self, run: Comparison, jury: Jury, baseline: _Row) -> list[Result]:
        """Every number of this order; differences to the baseline are lines of their own."""
        line = lambda metric, value, ci=None, n=run.images: Result(  # noqa: E731
            run.study, self.order, metric, float(value), ci, n, run.protocol, round(self.seconds, 3)
        )
        labels = self.judged.labels_N
        estimates = dict(measure(self.judged, jury.reference, JUDGED_BY))
        estimates |= {k: single(s, labels[: len(s.influence_N)]) for k, s in self.progress.items()}
        lines = [line(_named(k, e.n), e.value, e.ci, e.n) for k, e in estimates.items()]
        if self.order != baseline.order:
            lines += [
                line(f"{_named(k, e.n)}_minus_{BASELINE}", e.value, e.ci, e.n)
                for k, e in self._against(baseline, jury).items()
            ]
        trace = self.samples.trace
        lint = lint_orders(trace.order_BL, run.body.grid, trace.counts_T.tolist(), run.settings.cfg_scale)
        lines += [line(k, getattr(lint, k)) for k in LINT_METRICS]
        if run.settings.cfg_schedule == "linear":  # the linter knows no other guidance
            lines += [line(k, getattr(lint, k)) for k in ("mean_guidance", "guidance_spread")]
        return [*lines, line("seconds_per_image", self.seconds / run.images)]

    def _against(self, baseline: _Row, jury: Jury) -> dict[str, Estimate]:
        found = dict(differences(self.judged, baseline.judged, jury.reference, JUDGED_BY))
        for name, statistic in self.progress.items():
            labels = self.judged.labels_N[: len(statistic.influence_N)]
            found[name] = paired(statistic, baseline.progress[name], labels)
        return found


LINT_METRICS = ("same_step_pairs", "visible_neighbours", "entropy_bits")


def _named(metric: str, n: int) -> str:
    """`fd` at 5,000 images is `fd5k`; areas under curves keep their name."""
    return named(metric, n) if metric in METRICS else metric


def _write_progress(run: Comparison, order: str, samples: Samples) -> dict[str, Statistic]:
    """Panels and curves of the first images; their areas under the curves."""
    n = min(CURVE_IMAGES, run.images)
    images, shown = progress.partial_images(samples, n), min(SHOWN_IMAGES, run.images)
    panels = progress.greyed(images[:shown], progress.masks_NTL(samples, shown), run.body.grid)
    confidence, correct = progress.recognition(load_classifier(world_of(run.body.config).classifier), samples, n)
    _save(run.out / "panels" / f"{order}.npz", images=panels, labels=samples.trace.labels_B[:shown])
    _save(
        run.out / "curves" / f"{order}.npz", confidence=confidence.astype(np.float32), correct=correct,
        mse=progress.mse_to_final(images).astype(np.float32),
    )  # fmt: skip
    return {"auc": auc(confidence), "auac": auac(correct, samples.trace.counts_T)}


def _save(path: Path, **arrays: np.ndarray) -> None:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
