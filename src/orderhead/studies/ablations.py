"""Section 4 of the study: four ablations, on held-out real images and in free generation.

1 do scores agree with an oracle (`agreement`), 2 what if the context were perfect (`injection`), 3 nine orders in free
generation, 4 how early images are recognised. 3 and 4 are one comparison; 1 and 2 add `spearman.npz`, `errors.npz`
and lines of results.jsonl. What is there is passed over.

Legend: N images, T steps, L cells, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderhead.core import dist, results
from orderhead.core.files import replacing, write_text
from orderhead.core.names import lookup
from orderhead.core.results import Result
from orderhead.data.latents import fingerprint
from orderhead.metrics.intervals import Estimate, paired, single
from orderhead.metrics.statistic import NOT_NEGATIVE, UNIT, Statistic
from orderhead.oracles.cache import cached_importance
from orderhead.oracles.table import make_oracle
from orderhead.orders.head import load_head
from orderhead.orders.learned import LEARNED
from orderhead.orders.policy import Given
from orderhead.sampling import stream
from orderhead.sampling.sample import Sampler, Samples
from orderhead.studies.agreement import INPUTS, Evidence, correlations
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.injection import image_errors, step_errors
from orderhead.studies.plan import Plan
from orderhead.studies.real import check_real, injecting, real_tokens
from orderhead.studies.rounds import baseline, trained
from orderhead.studies.told import Told
from orderhead.training.variants import HEAD_RECIPES

HEAD = "nonaligned_oracle_10ep"
FIXED = "oracle_random_clusters"  # trained as HEAD is, but for the clusters
ORDERS = (
    "random", "center_spiral", "edge_spiral", "multiscale", "blockwise", "ar_raster", "learned_fast", "learned_slow",
    "oracle_marginal",
)  # fmt: skip
INJECTED = ("random", "learned_slow", "learned_fast", "oracle_marginal")
MOST = 5000  # images, at any scale: an oracle is asked about each of them
DRAWS = 512  # at 64, two estimates of the same image agree by 0.3 only
ORACLES: Mapping[str, Callable[[int], dict[str, int]]] = {
    "marginal": lambda cells: {"draws": DRAWS},
    "cls_k_random": lambda cells: {"draws": 32, "cluster_size": HEAD_RECIPES[HEAD].clusters(cells)},
}
"""Oracle that scores are compared with -> its options on a grid of so many cells."""
NEAR = 0.05  # the document's "within 0.05 per image"

TOLD = (
    Told(
        "Ablation 1: scores and the oracle's importance",
        "Mean of Spearman's rho over held-out images (the document: over 8). slow is the order in which a head that is "
        "asked at every step drew an image of its own; the rest is ours. slow_revealed: the order in which it "
        "uncovered the real one. fixed: another head, whose clusters were drawn at random in training. class_mean: "
        "what the class's other images tell. oracle_again: a second estimate of the oracle. Which oracle it asks the "
        "document does not say; the head was trained to follow cls_k.",
        {"spearman": "marginal oracle", "spearman_cls_k": "the head's own, cls_k"},
        {name: {"spearman": {"fast": 0.267, "gt_aware": 0.267, "slow": 0.109}.get(name)} for name in INPUTS},
    ),
    Told(
        "Ablation 2: error to the real image",
        "Mean squared error of drawn tokens to a real image of the class, in squared token units (other tokens than "
        "the document's). kept: the order's own tokens are its context; injected: real ones are.",
        {"mse_kept": "kept", "mse_injected": "injected"},
        {
            name: {"mse_kept": error}
            for name, error in zip(INJECTED, (0.10448, 0.12945, 0.13413, 0.13454), strict=True)
        },
    ),
    Told(
        "Ablations 3 and 4: nine orders, and how early their images are recognised",
        "AUC is the area under a classifier's confidence over steps. The document gives no FID here.",
        {"fd": "Frechet distance", "auc": "AUC", "auac": "AUAC"},
        {
            name: {"auc": {"learned_slow": 0.568, "oracle_marginal": 0.487, "random": 0.484, "learned_fast": 0.454,
                           "center_spiral": 0.216}.get(name)}
            for name in ORDERS
        },
    ),
)  # fmt: skip


def ablations(plan: Plan) -> Path:
    """All four, about the head `nonaligned_oracle_10ep`, which is trained unless it is there; `only` names orders.

    ValueError for an unknown order, without a classifier of partial images, and where real images are too few.
    """
    for name in plan.only:
        lookup("order", name, dict.fromkeys(ORDERS))
    run = replace(baseline(plan, "ablations", {}), told=TOLD)
    run = replace(run, images=min(run.images, MOST))
    if run.world.classifier is None:
        raise ValueError("the ablations ask a classifier of partial images; give --classifier")
    if dist.world_size() > 1:
        raise ValueError("the ablations run in one process; start them without torchrun")
    check_real(run.world, run.images)
    names = [name for name in ORDERS if name in (BASELINE, *(plan.only or ORDERS))]
    study = Ablations(run, plan)
    study = Ablations(replace(run, arms={name: study.arm(name) for name in names}), plan)
    execute(study.run)
    study.inject([name for name in INJECTED if name in names])
    if {"learned_fast", "learned_slow"} <= set(names):
        study.correlate()
    write_text(run.out / "table.md", "\n".join(table.markdown(run.out) for table in TOLD))
    return run.out


@dataclass(frozen=True, eq=False)
class Ablations:
    """The comparison of orders, and how the section is run."""

    run: Comparison
    plan: Plan

    @cached_property
    def head(self) -> Path:
        """The head that it is about, trained where it is first needed."""
        return trained(self.plan, HEAD)

    @cached_property
    def fixed(self) -> Path:
        """One with a target that did not move."""
        return trained(self.plan, FIXED)

    @cached_property
    def labels_N(self) -> Tensor:
        return stream.labels_of(torch.arange(self.run.images), self.run.body.config.classes)

    @cached_property
    def real_NLC(self) -> Tensor:
        """Image i's real counterpart."""
        return real_tokens(self.run.world, self.run.body, slice(0, self.run.images), self.run.out)

    def importance(self, name: str = "marginal", seed: int = 0) -> Tensor:
        """What the oracle of that name says, (N, L); another seed, another estimate."""
        classifier, body = self.run.world.classifier, self.run.body
        assert classifier is not None
        options: dict[str, Any] = {**ORACLES[name](body.grid.L)}
        oracle = make_oracle(name, classifier=classifier.to(body.device).requires_grad_(False), **options)
        key = " ".join(map(str, (name, *options.values(), fingerprint(classifier))))
        return cached_importance(oracle, key, self.real_NLC, self.labels_N, body.device, seed=seed)

    def oracle(self, name: str) -> dict[str, Any]:
        """An oracle as it stands in a protocol."""
        return {"oracle": name, **ORACLES[name](self.run.body.grid.L)}

    def arm(self, name: str) -> Arm:
        """An order's; the oracle's order of image i is that of the i-th real image, which is of its class (ours)."""
        base = self.run.settings
        if name == "oracle_marginal":
            return Arm(replace(base, order=Given(self.importance())), about=self.oracle("marginal"))
        if name in LEARNED:
            return Arm(replace(base, order="learned", head=str(self.head), rescore=LEARNED[name] or 1))
        return Arm(replace(base, order=name))

    def samples(self, name: str, injected: bool) -> Samples:
        """An order's images with its own or with real tokens as context, sampled where they are not there yet."""
        run, folder = self.run, self.run.out / "samples" / (f"{name}, injected" if injected else name)
        make = injecting(self.real_NLC) if injected else Sampler.__call__
        stream.write(run.arms[name].settings, run.body, run.images, folder, title=folder.name, make=make)
        return stream.read(folder, run.images, run.body.config.tokenizer)[0]

    def inject(self, names: Sequence[str]) -> None:
        """Ablation 2: an order's errors, and their differences to random's."""
        if self._measured(names, ("mse_kept", "mse_injected"), "errors.npz"):
            return
        found, real = {}, self.real_NLC.numpy().astype(np.float64)
        for metric, injected in (("mse_kept", False), ("mse_injected", True)):
            samples = {name: self.samples(name, injected) for name in names}
            found |= {f"{name} {metric}": step_errors(s, real) for name, s in samples.items()}
            means = {name: Statistic.mean(image_errors(s, real), NOT_NEGATIVE) for name, s in samples.items()}
            for name, mean in means.items():
                numbers = _beside_random(metric, mean, means[BASELINE], self.labels_N.numpy())
                self._write(name, numbers, self.run.identity(name))
        _add(self.run.out / "errors.npz", found)

    def correlate(self) -> None:
        """Ablation 1: the head's scores and each oracle's importance."""
        if self._measured([*INPUTS], ("spearman", "spearman_cls_k"), "spearman.npz"):
            return
        free, revealed = (self.samples("learned_slow", injected).trace for injected in (False, True))
        head, fixed = (load_head(str(folder)).eval() for folder in (self.head, self.fixed))
        kept: dict[str, np.ndarray] = {}
        for metric, oracle in (("spearman", "marginal"), ("spearman_cls_k", "cls_k_random")):
            found = correlations(Evidence(
                head, fixed, self.run.body, self.real_NLC, self.labels_N, self.importance(oracle),
                self.importance(oracle, 1), free, revealed,
            ))  # fmt: skip
            self._correlated(metric, found, oracle)
            kept |= {f"{name} {metric}": rho_N for name, rho_N in found.items()}
        _add(self.run.out / "spearman.npz", kept)

    def _correlated(self, metric: str, found: Mapping[str, np.ndarray], oracle: str) -> None:
        labels, heads = self.labels_N.numpy(), {"head_weights": self.head, "fixed_weights": self.fixed}
        own = self.oracle(oracle) | {name: fingerprint(load_head(str(folder))) for name, folder in heads.items()}
        means = {name: Statistic.mean(rho_N, (-1.0, 1.0)) for name, rho_N in found.items()}
        for name, mean in means.items():
            self._write(name, {metric: single(mean, labels)}, own)
        near = Statistic.mean(np.abs(found["gt_aware"] - found["fast"]) <= NEAR, UNIT)
        self._write("gt_aware", {
            f"{metric}_minus_fast": paired(means["gt_aware"], means["fast"], labels),
            f"{metric}_near_fast": single(near, labels, proportion=True),
        }, own)  # fmt: skip

    def _measured(self, rows: Sequence[str], metrics: Sequence[str], file: str) -> bool:
        """Whether all of these numbers are there, and the file beside them: samples may have been taken away."""
        there = {(r.row, r.metric) for r in results.read(self.run.out / "results.jsonl")}
        return {(row, metric) for row in rows for metric in metrics} <= there and (self.run.out / file).is_file()

    def _write(self, row: str, numbers: Mapping[str, Estimate], own: Mapping[str, Any]) -> None:
        """Lines of results.jsonl, unless they are there; `own` is the row's part of their protocol."""
        path, run = self.run.out / "results.jsonl", self.run
        there, protocol = {(r.row, r.metric) for r in results.read(path)}, run.protocol | dict(own)
        new = {metric: e for metric, e in numbers.items() if (row, metric) not in there}
        results.append(path, [Result(run.study, row, m, e.value, e.ci, e.n, protocol) for m, e in new.items()])


def _beside_random(metric: str, mean: Statistic, random: Statistic, labels_N: np.ndarray) -> dict[str, Estimate]:
    found = {metric: single(mean, labels_N)}
    return found if mean is random else found | {f"{metric}_minus_{BASELINE}": paired(mean, random, labels_N)}


def _add(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, and those that the file holds under other names."""
    kept: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{**kept, **arrays})  # type: ignore[arg-type]
