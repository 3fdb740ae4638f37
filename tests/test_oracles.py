"""Oracles: hand-made classifiers and bodies whose importance is known, ranges, and the cache."""

import pytest
import torch
from torch import nn
from worlds import bare_body as _body

from orderhead.body import MAR
from orderhead.body.diffusion import Diffusion
from orderhead.core.grid import Grid
from orderhead.core.rng import torch_generator
from orderhead.oracles import cache, foresight, recognition
from orderhead.oracles.classifier import ClassifierConfig, PartialVisClassifier
from orderhead.oracles.importance import mean_where, unit_ranks
from orderhead.oracles.table import BODY_ORACLES, CLASSIFIER_ORACLES, ORACLES, make_oracle

CONFIG = ClassifierConfig(grid_h=4, grid_w=4, channels=4, classes=3, width=16, depth=2, heads=2)
TOKENS, LABELS = torch.randn(5, 16, 4, generator=torch_generator(0)), torch.tensor([0, 1, 2, 0, 1])
SCORES = torch.randn(5, 16, generator=torch_generator(1))


def _classifier() -> PartialVisClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PartialVisClassifier(CONFIG).eval().requires_grad_(False)


class _Additive(nn.Module):
    """p(class 0) = 0.1 + the sum of what the visible cells weigh: every oracle's answer is known."""

    def __init__(self, weight_L: torch.Tensor) -> None:
        super().__init__()
        self.grid, self.config, self.weight_L = Grid(4, 4), CONFIG, weight_L

    def forward(self, tokens_BLC, mask_BL):
        p_B = 0.1 + (~mask_BL * self.weight_L).sum(1)
        return torch.stack([p_B, (1 - p_B) / 2, (1 - p_B) / 2], 1).log()


def _options(name: str) -> dict:
    return {"cluster_size": 4} if name.startswith("cls_k") or name == "cumulative" else {}


@pytest.mark.parametrize("name", ORACLES)
def test_every_oracle_gives_importance_in_the_unit_interval_and_the_same_again(name):
    assert set(ORACLES) == {*CLASSIFIER_ORACLES, *BODY_ORACLES}
    oracle = make_oracle(name, classifier=_classifier(), body=_body(), **_options(name))
    found = oracle(TOKENS, LABELS, scores_BL=SCORES, rng=torch_generator(3))
    assert found.shape == (5, 16)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.std(1).min() > 0
    assert torch.equal(found, oracle(TOKENS, LABELS, scores_BL=SCORES, rng=torch_generator(3)))


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_without_its_network_is_refused(name):
    with pytest.raises(ValueError, match=rf"the oracle {name} asks"):
        make_oracle(name, **_options(name))


def test_an_unknown_oracle_gets_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'marginal'"):
        make_oracle("marginl", classifier=_classifier())


@pytest.mark.parametrize("size", [0, 3, 32])
def test_clusters_divide_the_cells(size):
    with pytest.raises(ValueError, match="cluster_size divides the 16 cells"):
        recognition.cls_k(_classifier(), size)


def test_chunks_of_a_ranking_need_a_ranking():
    with pytest.raises(ValueError, match="scores_BL"):
        recognition.cls_k(_classifier(), 4)(TOKENS, LABELS, rng=torch_generator(0))


def test_cls_k_is_the_confidence_in_the_cells_chunk():
    weight = torch.arange(16) / 200
    oracle = recognition.cls_k(_Additive(weight), 4)
    scores = torch.arange(16.0).flip(0)[None]  # cell 0 first: chunks are 0-3, 4-7, ...
    found = oracle(TOKENS[:1], torch.zeros(1, dtype=torch.long), scores_BL=scores, rng=torch_generator(0))
    expected = 0.1 + weight.unflatten(0, (4, 4)).sum(1).repeat_interleave(4)
    torch.testing.assert_close(found[0], expected)


def test_random_clusters_average_to_a_cells_own_share():
    weight = torch.arange(16) / 200
    oracle = recognition.cls_k(_Additive(weight), 4, recognition.at_random, draws=4000)
    found = oracle(TOKENS[:1], torch.zeros(1, dtype=torch.long), rng=torch_generator(0))[0]
    others = (weight.sum() - weight) / 15 * 3  # three cells of the fifteen others come along
    torch.testing.assert_close(found, 0.1 + weight + others, atol=0.01, rtol=0)


def test_quadrants_are_blocks():
    clusters = recognition.quadrants(Grid(4, 4), 4, None, 1, torch_generator(0))[0].reshape(4, 4)
    assert clusters.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    with pytest.raises(ValueError, match="do not tile"):
        recognition.quadrants(Grid(4, 4), 8, None, 1, torch_generator(0))


def test_cumulative_is_the_gain_of_each_chunk_and_losses_are_nothing():
    weight = torch.tensor([0.1] * 4 + [-0.05] * 4 + [0.02] * 4 + [0.0] * 4)
    oracle = recognition.cumulative(_Additive(weight), 4)
    scores = torch.arange(16.0).flip(0)[None]
    found = oracle(TOKENS[:1], torch.zeros(1, dtype=torch.long), scores_BL=scores, rng=torch_generator(0))[0]
    expected = torch.tensor([0.5 - 1 / 3, 0.0, 0.08, 0.0]).repeat_interleave(4)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_marginal_ranks_cells_by_what_they_add():
    weight = torch.randperm(16, generator=torch_generator(2)) / 200
    oracle = recognition.marginal(_Additive(weight), draws=4000)
    found = oracle(TOKENS[:1], torch.zeros(1, dtype=torch.long), rng=torch_generator(0))[0]
    assert torch.corrcoef(torch.stack([found, weight]))[0, 1] > 0.95


def test_saliency_is_what_the_last_block_attends_to():
    """Second source: the attention that PyTorch's own function puts on an identity of values."""
    classifier, seen = _classifier(), {}
    attn = classifier.blocks[-1].attn
    attn.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    found = recognition.saliency_attn(classifier)(TOKENS, LABELS, rng=torch_generator(0))
    classifier(TOKENS, torch.zeros(5, 16, dtype=torch.bool))
    q, k, _ = attn.qkv(seen["x"]).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    weights = nn.functional.scaled_dot_product_attention(q, k, torch.eye(17).expand(5, 2, -1, -1))
    expected = weights[:, :, 0, 1:].mean(1)
    torch.testing.assert_close(found, expected / expected.amax(1, keepdim=True))


class _Chain(MAR):
    """A body that knows token i + 1 exactly once cell i is seen, and nothing else (z carries the token and a flag)."""

    def predict(self, tokens_BLC, mask_BL, labels_B):
        known_BL = torch.cat([torch.zeros_like(mask_BL[:, :1]), ~mask_BL[:, :-1]], 1)
        return torch.cat([tokens_BLC, torch.ones_like(tokens_BLC[..., :1])], -1) * known_BL[..., None]

    def denoise(self, x_NC, t_N, z_ND):
        alpha_bar = torch.from_numpy(Diffusion.cosine().alpha_bar_K).float()[t_N][:, None]
        epsilon = (x_NC - alpha_bar.sqrt() * z_ND[:, :4]) / (1 - alpha_bar).sqrt()
        return torch.cat([epsilon * z_ND[:, 4:], -torch.ones_like(x_NC)], -1)


def _chain() -> MAR:
    return _Chain(_body().config).requires_grad_(False)


def test_gains_go_to_the_cell_that_tells_something():
    """In a chain every cell but the last tells of one other; the last tells nothing."""
    for oracle in (foresight.reconstruction(_chain()), foresight.future_gain(_chain(), draws=500)):
        found = oracle(TOKENS, LABELS, rng=torch_generator(0)).mean(0)
        assert found.argmin() == 15
        assert found[15] < 0.2


def test_the_first_cell_of_a_chain_is_the_hardest():
    tokens, labels = torch.randn(600, 16, 4, generator=torch_generator(5)), torch.zeros(600, dtype=torch.long)
    found = foresight.predictability(_chain(), draws=30)(tokens, labels, rng=torch_generator(0)).mean(0)
    assert found[0] < found[1:].min() - 0.02


def test_masks_lie_in_the_range_that_the_body_was_trained_on():
    masks = foresight._masks(torch.Size((3, 16)), 200, torch_generator(0))
    masked = masks.sum(2)
    assert (masked == masked[:, :1]).all()
    assert masked.min() >= round(0.7 * 16)
    assert masked.max() == 15


# The parts.


def test_unit_ranks_are_scipys():
    from scipy.stats import rankdata

    x = torch.randint(0, 6, (4, 16), generator=torch_generator(0)).float()
    expected = (rankdata(x.numpy(), axis=1) - 1) / 15
    torch.testing.assert_close(unit_ranks(x), torch.from_numpy(expected).float())


def test_mean_where_falls_back_to_the_row():
    values, where = torch.tensor([[1.0], [3.0]]), torch.tensor([[[True, False]], [[True, False]]])
    assert mean_where(values, where).tolist() == [[2.0, 2.0]]


def test_importance_is_asked_once_and_again_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path))
    asked = []

    def oracle(tokens_BLC, labels_B, *, scores_BL=None, rng):
        asked.append(len(tokens_BLC))
        return torch.rand(tokens_BLC.shape[:2], generator=rng)

    first = cache.cached_importance(oracle, "a", TOKENS, LABELS, batch=2)
    assert torch.equal(cache.cached_importance(oracle, "a", TOKENS, LABELS, batch=2), first)
    assert asked == [2, 2, 1]
    cache.cached_importance(oracle, "b", TOKENS, LABELS, batch=5)
    cache.cached_importance(oracle, "a", TOKENS + 1, LABELS, batch=5)
    cache.cached_importance(oracle, "a", TOKENS, LABELS.flip(0), batch=5)
    assert asked == [2, 2, 1, 5, 5, 5]
