"""How to read each number: its name on the page, which way is better, one sentence of explanation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """`short` heads a column, `title` names it in prose; `higher` = higher is better."""

    short: str
    title: str
    higher: bool
    explain: str


READINGS: dict[str, Reading] = {
    "fd": Reading(
        "FD", "Frechet distance", False,
        "Distance between two Gaussians fitted to the features of generated and of real images; 0 = same statistics.",
    ),
    "reported": Reading(
        "Study", "the study's own number", False,
        "What the study reports for this row: FID of 50,000 images of MAR-B at 64 steps (random 2.33). Another body, "
        "other features: compare rankings, not values.",
    ),
    "agreement": Reading(
        "Agreement", "class agreement", True,
        "Share of images in which an independent network sees the class that was asked for. Guidance makes images "
        "typical of their class, so generated ones may pass more often than real ones.",
    ),
    "is": Reading(
        "IS", "Inception-style score", True,
        "Effective number of classes that are both recognised with certainty and used evenly.",
    ),
    "kid": Reading(
        "KID", "kernel distance", False,
        "Kernel MMD between the features of generated and of real images, by an estimator that is right on average for "
        "images drawn independently. Here every class comes equally often, which is more even than chance, so it falls "
        "below 0; the row of real images shows where it lies without a difference.",
    ),
    "mmd_rbf": Reading(
        "MMD", "Gaussian kernel distance", False,
        "Kernel MMD by CMMD's formula, 1000 times with a Gaussian kernel, on this judge's features scaled to norm 1.",
    ),
    "clip_score": Reading(
        "CLIP score", "CLIP score", True,
        "100 times the cosine between the image and 'a photo of a CLASS.', as CLIP embeds them; its level depends on "
        "which CLIP.",
    ),
    "precision": Reading(
        "Precision", "precision", True,
        "Share of generated images that lie among the real ones in feature space: fidelity.",
    ),
    "recall": Reading(
        "Recall", "recall", True,
        "Share of real images that lie among the generated ones in feature space: diversity.",
    ),
    "auc": Reading(
        "AUC", "area under confidence", True,
        "Mean confidence of a classifier in the true class during generation, over the fraction of steps.",
    ),
    "auac": Reading(
        "AUAC", "area under accuracy", True,
        "Mean top-1 accuracy of that classifier during generation, over the fraction of tokens revealed.",
    ),
}  # fmt: skip

OFFICIAL: dict[str, tuple[str, Reading]] = {
    "fid": ("fd", Reading(
        "FID", "Frechet Inception distance", False,
        "Frechet distance on the features of the official Inception of 2015; 0 = same statistics.",
    )),
    "cmmd": ("mmd_rbf", Reading(
        "CMMD", "CLIP maximum mean discrepancy", False,
        "1000 times the kernel MMD between CLIP ViT-L/14-336 embeddings of generated and of real images.",
    )),
}  # fmt: skip
"""A metric that official weights gave a name of its own -> the metric that it is, and how to read it then."""


def readings(metrics: Iterable[str]) -> dict[str, Reading]:
    """The readings of a run with these metrics. MMD is left out where it is not CMMD: KID says the same as much."""
    metrics = list(metrics)
    named = dict(row for name, row in OFFICIAL.items() if any(metric.startswith(name) for metric in metrics))
    return {key: named.get(key, reading) for key, reading in READINGS.items() if key != "mmd_rbf" or key in named}


LINTER: dict[str, tuple[str, str]] = {
    "same_step_pairs": ("same-step neighbours", "pairs of adjacent cells drawn in one step, blind to each other"),
    "visible_neighbours": (
        "visible neighbours",
        "mean number of the 8 neighbours that are visible when a cell is drawn",
    ),
    "mean_guidance": ("mean guidance", "guidance scale that a cell gets, averaged over cells"),
    "guidance_spread": (
        "guidance spread",
        "standard deviation over cells of a cell's mean guidance; 0 = position does not decide who gets it",
    ),
    "entropy_bits": ("order entropy", "bits: how much the order varies from image to image; 0 = always the same"),
}
