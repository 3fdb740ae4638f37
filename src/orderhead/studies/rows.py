"""One order of a comparison: its images judged, its panels and curves written, its numbers as lines of results.

Legend: N images, T steps, L cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from orderhead.core.files import replacing
from orderhead.core.grid import Grid
from orderhead.metrics.bundle import Judged
from orderhead.metrics.intervals import Estimate, paired, single
from orderhead.metrics.judge import BATCH, judged
from orderhead.metrics.progressive import auac, auc
from orderhead.metrics.registry import METRICS, measure, named
from orderhead.metrics.registry import compare as differences
from orderhead.metrics.statistic import Statistic
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.orders.lint import lint_orders
from orderhead.sampling.sample import Samples
from orderhead.studies import progress
from orderhead.studies.worlds import Jury

CURVE_IMAGES = 64
SHOWN_IMAGES = 10
PROGRESS_BATCH = 8  # images whose every step is decoded at once: 0.4 GB at 64 steps of 256 x 256 pixels
LINTED = {
    "linear": ("same_step_pairs", "visible_neighbours", "entropy_bits", "mean_guidance", "guidance_spread"),
    "constant": ("same_step_pairs", "visible_neighbours", "entropy_bits"),
    "equalized": ("same_step_pairs", "visible_neighbours", "entropy_bits"),
}
"""Guidance schedule -> the linter's figures: it knows no guidance but the linear one."""


@dataclass(frozen=True, eq=False)
class Row:
    """One order, sampled and judged. `progress`: areas under the curves of its first images."""

    order: str
    samples: Samples
    seconds: float
    judged: Judged
    progress: Mapping[str, Statistic]

    @classmethod
    def of(cls, order: str, samples: Samples, seconds: float, jury: Jury, out: Path, grid: Grid) -> Row:
        """Write the order's trace, panels and curves into `out`, and judge its images."""
        samples.trace.save(out / "traces" / f"{order}.npz")
        progressive = _write_progress(samples, jury.world.classifier, out, order, grid)
        return cls(order, samples, seconds, _judged(order, samples, jury), progressive)

    def estimates(self, jury: Jury) -> dict[str, Estimate]:
        """Every metric with its interval; those that count images carry the number in their name."""
        found = measure(self.judged, jury.reference, jury.world.metrics)
        found |= {k: single(s, self._labels(s)) for k, s in self.progress.items()}
        return {_name(k, e, jury): e for k, e in found.items()}

    def minus(self, baseline: Row, jury: Jury) -> dict[str, Estimate]:
        """Every metric's paired difference to the baseline's."""
        found = differences(self.judged, baseline.judged, jury.reference, jury.world.metrics)
        found |= {k: paired(s, baseline.progress[k], self._labels(s)) for k, s in self.progress.items()}
        return {f"{_name(k, e, jury)}_minus_{baseline.order}": e for k, e in found.items()}

    def figures(self, grid: Grid, cfg_schedule: str, cfg_scale: float) -> dict[str, float]:
        """What the order does, told without a network, and what it costs."""
        trace = self.samples.trace
        lint = lint_orders(trace.order_BL, grid, trace.counts_T.tolist(), cfg_scale)
        figures = {name: float(getattr(lint, name)) for name in LINTED[cfg_schedule]}
        return figures | {"seconds_per_image": self.seconds / len(trace.order_BL)}

    def _labels(self, statistic: Statistic) -> np.ndarray:
        return self.judged.labels_N[: len(statistic.influence_N)]


def _name(metric: str, estimate: Estimate, jury: Jury) -> str:
    """`fd` at 5,000 images is `fd5k`, or `fid5k`; areas under curves keep their name."""
    return named(metric, estimate.n, jury.world.judge.named) if metric in METRICS else metric


def _judged(order: str, samples: Samples, jury: Jury) -> Judged:
    labels_N = samples.trace.labels_B
    batches = samples.image_batches(BATCH)
    bar = tqdm(batches, f"judging {order}", -(-len(labels_N) // BATCH), unit="batch", delay=2, leave=False)
    return judged(jury.world.judge, bar, labels_N)


def _write_progress(
    samples: Samples, classifier: PartialVisClassifier | None, out: Path, order: str, grid: Grid
) -> dict[str, Statistic]:
    """Panels and curves of the first images; the areas under those that a classifier gives."""
    labels_N = samples.trace.labels_B
    n, shown = (min(k, len(labels_N)) for k in (CURVE_IMAGES, SHOWN_IMAGES))
    panels, mse = zip(*_steps(samples, n, shown, grid), strict=True)
    curves = {"mse": np.concatenate(mse).astype(np.float32)}
    areas = {}
    if classifier is not None:
        confidence, correct = progress.recognition(classifier, samples, n)
        curves |= {"confidence": confidence.astype(np.float32), "correct": correct}
        areas = {"auc": auc(confidence), "auac": auac(correct, samples.trace.counts_T)}
    _save(out / "panels" / f"{order}.npz", images=np.concatenate(panels), labels=labels_N[:shown])
    _save(out / "curves" / f"{order}.npz", **curves)
    return areas


def _steps(samples: Samples, n: int, shown: int, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Panels of those of the first `shown` images that are in a batch, and the error of all to the final image."""
    for first in range(0, n, PROGRESS_BATCH):
        part = samples.take(slice(first, min(first + PROGRESS_BATCH, n)))
        images = progress.partial_images(part, len(part.tokens_BLC))
        k = min(max(shown - first, 0), len(images))
        yield progress.greyed(images[:k], progress.masks_NTL(part, k), grid), progress.mse_to_final(images)


def _save(path: Path, **arrays: np.ndarray) -> None:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
