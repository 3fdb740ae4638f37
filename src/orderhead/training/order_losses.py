"""How far a head's scores are from an oracle's importance: each maps (scores, importance, generator) to a scalar.

Legend: B batch, L cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

OrderLoss = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def mse(scores_BL: Tensor, importance_BL: Tensor, rng: torch.Generator) -> Tensor:
    """Mean of (sigmoid(s) - importance)^2: the study's."""
    return (scores_BL.sigmoid() - importance_BL).square().mean()


def ranking_nll(scores_BL: Tensor, ranking_BK: Tensor) -> Tensor:
    """-log p(ranking) / K, (B,), of the first K places under Plackett-Luce: each pick is a softmax over what is left.

    `ranking_BK[b, 0]` is the first cell; K <= L. Plackett 1975.
    """
    L, K = scores_BL.shape[1], ranking_BK.shape[1]
    picked_BK = scores_BL.gather(1, ranking_BK)
    if K < L:
        rest_BL = scores_BL.scatter(1, ranking_BK, -torch.inf)
        picked_and_rest = torch.cat([picked_BK, rest_BL.logsumexp(1, keepdim=True)], 1)
    else:
        picked_and_rest = picked_BK
    left_BK = picked_and_rest.flip(1).logcumsumexp(1).flip(1)[:, :K]
    return (left_BK - picked_BK).mean(1)


def gumbel_ranking(log_weights_BL: Tensor, rng: torch.Generator) -> Tensor:
    """A draw from Plackett-Luce with these log-weights, (B, L): sort them with Gumbel noise (Kool et al. 2019)."""
    uniform = torch.rand(log_weights_BL.shape, generator=rng).clamp(min=1e-20).to(log_weights_BL.device)
    return (log_weights_BL.detach() - (-uniform.log()).log()).argsort(dim=1, descending=True)


def list_mle(scores_BL: Tensor, importance_BL: Tensor, rng: torch.Generator) -> Tensor:
    """ListMLE (Xia et al. 2008): the likelihood of the ranking by importance; ties are broken at random."""
    shuffle_BL = torch.rand(scores_BL.shape, generator=rng).argsort(1).to(scores_BL.device)
    ranked = importance_BL.gather(1, shuffle_BL).argsort(dim=1, descending=True, stable=True)
    return ranking_nll(scores_BL, shuffle_BL.gather(1, ranked)).mean()


def plackett_luce(scores_BL: Tensor, importance_BL: Tensor, rng: torch.Generator) -> Tensor:
    """The likelihood of a ranking that is drawn from Plackett-Luce with the importance as weights.

    In expectation the cross-entropy between the two distributions of rankings: sure where the importance is, and not
    where cells are equally important.
    """
    return ranking_nll(scores_BL, gumbel_ranking(importance_BL.clamp(min=1e-6).log(), rng)).mean()


ORDER_LOSSES: Mapping[str, OrderLoss] = {"mse": mse, "list_mle": list_mle, "plackett_luce": plackett_luce}
