"""How the diffusion loss teaches a head where to look first: through a soft mask, or by trial and reward.

Legend: B batch, L cells, C token channels, G samples an image, K visible cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.body.soft import cell_losses, predict_soft, random_levels
from orderhead.orders.straight_through import straight_through_mask, z_scored
from orderhead.training.masks import mar_mask, mask_ratio
from orderhead.training.order_losses import gumbel_ranking, ranking_nll

Objective = Callable[[MAR, Tensor, Tensor, Tensor, float, torch.Generator], tuple[Tensor, dict[str, float]]]
"""Body, tokens (B, L, C), labels (B,), scores (B, L), progress, generator -> scalar, further numbers to log."""

VISIBLE_SHARE = 4  # one cell in four is context (the study's k = L / 4)
TAU = (1.0, 0.1)
LABEL_DROP = 0.1  # of the images of a body in training, as MAR's own training drops them


def tau(progress: float) -> float:
    """The soft mask's temperature: from 1 to 0.1, geometrically (the study gives the ends)."""
    start, end = TAU
    return start * (end / start) ** progress


def masked_loss(body: MAR, tokens: Tensor, labels: Tensor, mask_BL: Tensor, rng: torch.Generator) -> Tensor:
    """The diffusion loss under a float mask (1 = masked), mean over what is masked: MAR's, differentiable in the mask.

    It depends on the mask twice: the context that the body sees, and the cells that are counted.
    """
    t_BL, noise_BLC = (x.to(tokens.device) for x in random_levels(tokens.shape, rng))
    losses_BL = cell_losses(body, tokens, predict_soft(body, tokens, mask_BL, labels), t_BL, noise_BLC)
    return (losses_BL * mask_BL).sum() / mask_BL.sum()


def straight_through(
    body: MAR, tokens_BLC: Tensor, labels_B: Tensor, scores_BL: Tensor, progress: float, rng: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """The study's Stage 2: the top quarter of the cells is visible, hard forwards and soft backwards."""
    mask_BL = straight_through_mask(z_scored(scores_BL), scores_BL.shape[1] // VISIBLE_SHARE, tau(progress))
    return masked_loss(body, tokens_BLC, labels_B, mask_BL, rng), {"tau": tau(progress)}


def policy_gradient(
    body: MAR,
    tokens_BLC: Tensor,
    labels_B: Tensor,
    scores_BL: Tensor,
    progress: float,
    rng: torch.Generator,
    *,
    group: int = 4,
    entropy_weight: float = 0.01,
    random_weight: float = 0.01,
) -> tuple[Tensor, dict[str, float]]:
    """REINFORCE on sampled contexts: reward = minus the diffusion loss of what stays masked.

    An image's `group` rankings are Gumbel top-k draws of its scores; the baseline is the group's mean, and advantages
    are over the group's standard deviation (Shao et al. 2024, GRPO). Two terms keep the draws open: the entropy of each
    pick, and each pick's KL divergence to random order (log n - entropy for n cells left; they differ by a constant).
    """
    B, L = scores_BL.shape
    K = L // VISIBLE_SHARE
    wide = z_scored(scores_BL).repeat_interleave(group, 0)
    ranking_NK = gumbel_ranking(wide, rng)[:, :K]
    mask_NL = torch.ones_like(wide, dtype=torch.bool).scatter(1, ranking_NK, False)
    reward_BG = -_losses(body, tokens_BLC, labels_B, mask_NL, group, rng).unflatten(0, (B, group))
    spread = reward_BG.std(1, keepdim=True).clamp(min=1e-6)
    advantage_N = ((reward_BG - reward_BG.mean(1, keepdim=True)) / spread).flatten()
    entropy = _pick_entropy(wide, ranking_NK)
    to_random = sum(math.log(L - k) for k in range(K)) / K - entropy
    objective = (advantage_N * ranking_nll(wide, ranking_NK)).mean()
    loss = objective - entropy_weight * entropy + random_weight * to_random
    return loss, {"reward": reward_BG.mean().item(), "entropy": entropy.item()}


@torch.no_grad()
def _losses(body: MAR, tokens: Tensor, labels: Tensor, mask_NL: Tensor, group: int, rng: torch.Generator) -> Tensor:
    """Mean loss of the masked cells of each draw, (B G,); the draws of an image share timesteps and noise."""
    levels = [x.to(tokens.device).repeat_interleave(group, 0) for x in random_levels(tokens.shape, rng)]
    tokens, labels = tokens.repeat_interleave(group, 0), labels.repeat_interleave(group)
    losses_NL = cell_losses(body, tokens, body.predict(tokens, mask_NL, labels), *levels)
    return (losses_NL * mask_NL).sum(1) / mask_NL.sum(1)


def _pick_entropy(scores_NL: Tensor, ranking_NK: Tensor) -> Tensor:
    """Mean entropy, in nats, of each of the K picks given those before it."""
    K, N = ranking_NK.shape[1], len(scores_NL)
    place_NL = torch.full(scores_NL.shape, K, device=scores_NL.device)
    place_NL = place_NL.scatter(1, ranking_NK, torch.arange(K, device=scores_NL.device).expand(N, -1))
    gone_NKL = place_NL[:, None] < torch.arange(K, device=scores_NL.device)[:, None]
    log_p = scores_NL[:, None].masked_fill(gone_NKL, -torch.inf).log_softmax(-1)
    return -(log_p.exp() * log_p.masked_fill(gone_NKL, 0.0)).sum(-1).mean()


def straight_through_varied(
    body: MAR, tokens_BLC: Tensor, labels_B: Tensor, scores_BL: Tensor, progress: float, rng: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Stage 2 with as many masked cells as MAR's training has, 70 to 100 %, one draw a batch (ours).

    The study's quarter of visible cells never shows a body the empty image that generation starts from. A batch in
    which nothing is visible teaches the head nothing.
    """
    L = scores_BL.shape[1]
    visible = L - math.ceil(L * mask_ratio(rng))
    if visible == 0:
        return masked_loss(body, tokens_BLC, labels_B, torch.ones_like(scores_BL), rng), {"tau": tau(progress)}
    mask_BL = straight_through_mask(z_scored(scores_BL), visible, tau(progress))
    return masked_loss(body, tokens_BLC, labels_B, mask_BL, rng), {"tau": tau(progress)}


def random_masks(
    body: MAR, tokens_BLC: Tensor, labels_B: Tensor, scores_BL: Tensor, progress: float, rng: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """MAR's own loss, under random masks: the body is trained as it always was, and the scores are not asked (ours)."""
    B, L = scores_BL.shape
    mask_BL = mar_mask(B, L, rng).to(scores_BL)
    return masked_loss(body, tokens_BLC, labels_B, mask_BL, rng), {}


def head_and_random(
    body: MAR, tokens_BLC: Tensor, labels_B: Tensor, scores_BL: Tensor, progress: float, rng: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Half the batch under the scores' mask (Stage 2), the other half under random masks, as the body was trained.

    For a body that learns the head's masks and is to keep its own (the study's second alternative; the mixture is
    ours). An odd batch has one more under the scores' mask.
    """
    B, L = scores_BL.shape
    half = (B + 1) // 2
    headed = straight_through_mask(z_scored(scores_BL[:half]), L // VISIBLE_SHARE, tau(progress))
    random = mar_mask(B - half, L, rng).to(headed)
    return masked_loss(body, tokens_BLC, labels_B, torch.cat([headed, random]), rng), {"tau": tau(progress)}


def with_dropped_labels(objective: Objective) -> Objective:
    """The objective where a tenth of the images have no label, so that a body in training keeps its null embedding.

    MAR's training does so, and guidance needs it; the study does not say whether its joint training did (ours).
    """

    def dropped(
        body: MAR, tokens_BLC: Tensor, labels_B: Tensor, scores_BL: Tensor, progress: float, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        gone_B = (torch.rand(len(labels_B), generator=rng) < LABEL_DROP).to(labels_B.device)
        return objective(body, tokens_BLC, labels_B.masked_fill(gone_B, -1), scores_BL, progress, rng)

    return dropped


OBJECTIVES: Mapping[str, Objective] = {
    "straight_through": straight_through,
    "policy_gradient": policy_gradient,
    "joint": with_dropped_labels(straight_through),
    "joint_varied": with_dropped_labels(straight_through_varied),
    "random_masks": with_dropped_labels(random_masks),
    "head_and_random": with_dropped_labels(head_and_random),
}
"""The last four are for bodies in training."""
