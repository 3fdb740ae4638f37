"""Importance from a partial-visibility classifier: how much a cell helps to recognise the image.

Legend: B batch, L cells, C token channels, K clusters, M draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from orderhead.core.grid import Grid
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.oracles.importance import Oracle, mean_where, unit_ranks

Clusters = Callable[[Grid, int, Tensor | None, int, torch.Generator], Tensor]
"""Grid, cluster size, scores (B, L) or None, B, generator -> the cluster of each cell, int64 (B, L)."""


@torch.no_grad()
def confidence(classifier: PartialVisClassifier, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> Tensor:
    """p(true class), (B,), when only the cells with mask False are shown."""
    return classifier(tokens_BLC, mask_BL).softmax(-1).gather(1, labels_B[:, None]).squeeze(1)


def by_rank(grid: Grid, size: int, scores_BL: Tensor | None, B: int, rng: torch.Generator) -> Tensor:
    """Consecutive chunks of the ranking by score (the study's default, as we read it)."""
    if scores_BL is None:
        raise ValueError("clusters by rank cut up a ranking: give scores_BL")
    return scores_BL.argsort(dim=1, descending=True, stable=True).argsort(1) // size


def at_random(grid: Grid, size: int, scores_BL: Tensor | None, B: int, rng: torch.Generator) -> Tensor:
    """A fresh random partition of each image."""
    return torch.rand(B, grid.L, generator=rng).argsort(1) // size


def quadrants(grid: Grid, size: int, scores_BL: Tensor | None, B: int, rng: torch.Generator) -> Tensor:
    """Square blocks of `size` cells: the four quadrants, at a quarter of the cells."""
    side = math.isqrt(size)
    if side * side != size or grid.h % side or grid.w % side:
        raise ValueError(f"blocks of {size} cells do not tile {grid.h} x {grid.w}")
    row, col = torch.arange(grid.h) // side, torch.arange(grid.w) // side
    return (row[:, None] * (grid.w // side) + col).flatten().expand(B, -1)


def _chunk_confidence(classifier: PartialVisClassifier, tokens: Tensor, labels: Tensor, cluster_BL: Tensor) -> Tensor:
    """(B, K): p(true class) of each cluster alone."""
    K = int(cluster_BL.max()) + 1
    mask_BKL = cluster_BL[:, None] != torch.arange(K, device=cluster_BL.device)[:, None]
    shown = confidence(classifier, tokens.repeat_interleave(K, 0), mask_BKL.flatten(0, 1), labels.repeat_interleave(K))
    return shown.unflatten(0, (-1, K))


def _sized(classifier: PartialVisClassifier, cluster_size: int) -> None:
    L = classifier.grid.L
    if not 1 <= cluster_size <= L or L % cluster_size:
        raise ValueError(f"cluster_size divides the {L} cells, got {cluster_size}")


def cls_k(
    classifier: PartialVisClassifier, cluster_size: int = 64, clusters: Clusters = by_rank, draws: int = 1
) -> Oracle:
    """A cell's importance = p(true class) when its cluster alone is shown, averaged over `draws` partitions.

    Source: the study's oracle (its K = `cluster_size`; one draw gives L / K levels). ValueError unless it divides L.
    """
    _sized(classifier, cluster_size)

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        total_BL = torch.zeros(tokens_BLC.shape[:2], device=tokens_BLC.device)
        for _ in range(draws):
            cluster_BL = clusters(classifier.grid, cluster_size, scores_BL, len(tokens_BLC), rng).to(tokens_BLC.device)
            p_BK = _chunk_confidence(classifier, tokens_BLC, labels_B, cluster_BL)
            total_BL += p_BK.gather(1, cluster_BL)
        return total_BL / draws

    return importance


def cumulative(classifier: PartialVisClassifier, cluster_size: int = 64) -> Oracle:
    """The gain in p(true class) when a chunk of the ranking joins all chunks before it; losses count as 0.

    The study's oracle by name, formula ours; nothing shown counts as 1 / classes.
    """
    _sized(classifier, cluster_size)

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        cluster_BL = by_rank(classifier.grid, cluster_size, scores_BL, len(tokens_BLC), rng)
        before = torch.full((len(tokens_BLC),), 1 / classifier.config.classes, device=tokens_BLC.device)
        gains = []
        for k in range(classifier.grid.L // cluster_size):
            shown = confidence(classifier, tokens_BLC, cluster_BL > k, labels_B)
            gains.append((shown - before).clamp(min=0))
            before = shown
        return torch.stack(gains, 1).gather(1, cluster_BL)

    return importance


def marginal(classifier: PartialVisClassifier, draws: int = 64) -> Oracle:
    """Mean over random visible sets S of p(y | S + cell) - p(y | S), as unit ranks.

    Every draw serves every cell (Wang and Jia 2023, "Data Banzhaf", maximum sample reuse): with each cell in S with
    probability 1/2 independently, the mean over sets with the cell minus that over sets without it is that mean.
    """

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        shape = (draws, *tokens_BLC.shape[:2])
        seen_MBL = (torch.rand(shape, generator=rng) < 0.5).to(tokens_BLC.device)
        p_MB = torch.stack([confidence(classifier, tokens_BLC, ~seen_BL, labels_B) for seen_BL in seen_MBL])
        return unit_ranks(mean_where(p_MB, seen_MBL) - mean_where(p_MB, ~seen_MBL))

    return importance


def saliency_attn(classifier: PartialVisClassifier) -> Oracle:
    """The class token's attention to each cell with all cells shown: last block, mean of its heads, largest = 1."""

    @torch.no_grad()
    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        nothing_BL = torch.zeros(tokens_BLC.shape[:2], dtype=torch.bool, device=tokens_BLC.device)
        x, _ = classifier.embedded(tokens_BLC, nothing_BL)
        *blocks, last = cast(Sequence[Any], classifier.blocks)
        for block in blocks:
            x = block(x)
        attn = last.attn
        qkv = attn.qkv(last.norm1(x)).unflatten(-1, (3, attn.num_heads, attn.head_dim))
        q_BHD, k_BNHD = qkv[:, 0, 0], qkv[:, :, 1]
        weight_BHN = torch.einsum("bhd,bnhd->bhn", q_BHD, k_BNHD).mul(attn.head_dim**-0.5).softmax(-1)
        to_cells = weight_BHN.mean(1)[:, 1:]
        return to_cells / to_cells.amax(1, keepdim=True)

    return importance
