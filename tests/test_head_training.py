"""Training heads: order losses, contexts, objectives, and the thirteen rows of the study."""

import itertools
import json
import math

import pytest
import torch
from test_head import TINY, _head
from worlds import bare_body as _body

from orderhead.core.checkpoint import load_tensors, save_model
from orderhead.core.rng import torch_generator
from orderhead.data.latents import fingerprint
from orderhead.training import contexts, objectives
from orderhead.training.heads import HeadAndBody, HeadRecipe, asked, head_loss, scales, warmup_images
from orderhead.training.loop import Batch, LoopConfig, train
from orderhead.training.order_losses import ORDER_LOSSES, gumbel_ranking, list_mle, ranking_nll
from orderhead.training.recipes import run_recipe
from orderhead.training.variants import HEAD_RECIPES, VARIANTS

TOKENS, LABELS = torch.randn(24, 16, 4, generator=torch_generator(0)), torch.arange(24) % 3
CPU = torch.device("cpu")


def _left(tokens_BLC, labels_B, *, scores_BL=None, rng):
    """An oracle to whom the left half matters."""
    return (torch.arange(16) % 4 < 2).float().expand(len(tokens_BLC), -1)


# Losses of an order.


def test_ranking_likelihood_sums_to_one_over_all_rankings():
    scores = torch.randn(1, 4, generator=torch_generator(0))
    every = [ranking_nll(scores, torch.tensor([p])) for p in itertools.permutations(range(4))]
    assert sum(math.exp(-4 * nll.item()) for nll in every) == pytest.approx(1, abs=1e-5)
    tops = [ranking_nll(scores, torch.tensor([p])) for p in itertools.permutations(range(4), 2)]
    assert sum(math.exp(-2 * nll.item()) for nll in tops) == pytest.approx(1, abs=1e-5)


def test_gumbel_rankings_are_plackett_luce_draws():
    weights = torch.tensor([0.5, 0.3, 0.2])
    drawn = gumbel_ranking(weights.log().expand(20_000, -1), torch_generator(0))
    assert drawn[:, 0].bincount() / 20_000 == pytest.approx(weights.numpy(), abs=0.01)
    after_first = drawn[drawn[:, 0] == 0][:, 1]
    assert (after_first == 1).float().mean().item() == pytest.approx(0.6, abs=0.015)


def test_list_mle_breaks_ties_at_random():
    scores, importance = torch.tensor([[3.0, 0.0]]), torch.ones(1, 2)
    found = {round(list_mle(scores, importance, torch_generator(k)).item(), 4) for k in range(20)}
    assert len(found) == 2


@pytest.mark.parametrize("name", ORDER_LOSSES)
def test_every_order_loss_is_least_for_the_right_ranking(name):
    importance = torch.linspace(0.02, 0.98, 16).expand(64, -1)
    right = importance.log() if name == "plackett_luce" else torch.logit(importance)
    wrong = right.flip(1)
    loss = [ORDER_LOSSES[name](scores, importance, torch_generator(0)).item() for scores in (right, 0 * right, wrong)]
    assert loss[0] < loss[1] < loss[2]


# Contexts.


def test_contexts_show_what_they_say():
    head, body, tokens, labels = _head(), _body(), TOKENS[:3], LABELS[:3]
    assert contexts.aligned(head, body, tokens, labels, torch_generator(0)).all()
    for k in range(20):
        masked = contexts.non_aligned(head, body, tokens, labels, torch_generator(k)).sum(1)
        assert (masked == masked[0]).all()
        assert masked[0] >= 0.7 * 16
    scores = head(body.predict(tokens, torch.ones(3, 16, dtype=torch.bool), labels))
    revealed = set()
    for k in range(20):
        mask = contexts.on_policy(head, body, tokens, labels, torch_generator(k))
        revealed.add(int((~mask).sum(1)[0]))
        shown, hidden = scores.masked_fill(mask, torch.inf).amin(1), scores.masked_fill(~mask, -torch.inf).amax(1)
        assert (shown >= hidden).all()
    assert len(revealed) > 1
    assert 0 in revealed


# Objectives.


def test_tau_falls_from_one_to_a_tenth():
    assert objectives.tau(0) == 1
    assert objectives.tau(1) == pytest.approx(0.1)


@pytest.mark.parametrize("name", [name for name in objectives.OBJECTIVES if name != "random_masks"])
def test_every_objective_reaches_the_scores_and_not_the_body(name):
    body, before = _body(), fingerprint(_body())
    scores = torch.randn(4, 16, requires_grad=True)
    loss, _ = objectives.OBJECTIVES[name](body, TOKENS[:4], LABELS[:4], scores, 0.5, torch_generator(0))
    loss.backward()
    assert scores.grad.isfinite().all()
    reached = 2 if name == "head_and_random" else 4  # the rest of its batch is under random masks
    assert (scores.grad.abs().sum(1) > 0).sum() == reached
    assert fingerprint(body) == before


def test_the_policy_gradient_is_that_of_the_expected_reward(monkeypatch):
    """A reward that counts whether cell 3 is visible: its score rises, whatever the other scores do."""
    monkeypatch.setattr(objectives, "_losses", lambda body, x, y, mask_NL, group, rng: mask_NL[:, 3].float())
    scores = torch.zeros(1, 16, requires_grad=True)
    total = torch.zeros(16)
    for k in range(60):
        loss, _ = objectives.policy_gradient(
            _body(), TOKENS[:1], LABELS[:1], scores + 0.01 * torch.randn(16, generator=torch_generator(k)), 0.0,
            torch_generator(k), group=16, entropy_weight=0.0, random_weight=0.0,
        )  # fmt: skip
        total -= torch.autograd.grad(loss, scores)[0][0]
    assert total.argmax() == 3
    assert total[3] > 3 * total.abs()[torch.arange(16) != 3].max()


def test_pick_entropy_is_that_of_a_uniform_choice_among_what_is_left():
    entropy = objectives._pick_entropy(torch.zeros(1, 4), torch.tensor([[2, 0]]))
    assert entropy.item() == pytest.approx((math.log(4) + math.log(3)) / 2)


# The whole loss.


@pytest.mark.parametrize("order_loss", ORDER_LOSSES)
@pytest.mark.parametrize("context", contexts.CONTEXTS)
def test_a_head_learns_its_oracle_and_the_body_stays(tmp_path, context, order_loss):
    body = _body()
    before = fingerprint(body)
    row = HeadRecipe("", context=context, order_loss=order_loss, order_loss_weight=10.0, ground_truth_share=0.5)
    loss = head_loss(row, body, asked(_left), TOKENS, LABELS, warmup_images=16)
    config = LoopConfig(images=320, batch=8, base_lr=0.2, warmup_images=8, ema_decay=0.9)
    head = train(_head(), loss, len(TOKENS), config, tmp_path, device=CPU)
    assert fingerprint(body) == before
    scores = head(body.predict(TOKENS, torch.ones(24, 16, dtype=torch.bool), LABELS)).mean(0)
    left = torch.arange(16) % 4 < 2
    assert scores[left].min() > scores[~left].max()
    assert {"score_std", "diffusion", "order"} <= set(json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1]))


def test_lambda_waits_for_its_warmup():
    row, body, head = HeadRecipe("", order_loss_weight=100.0), _body(), _head()
    loss = head_loss(row, body, asked(_left), TOKENS, LABELS, warmup_images=16)

    def at(seen):
        total, logs = loss(head, Batch(torch.arange(8), torch_generator(0), 0.5, seen))
        return total.item() - logs["diffusion"]

    assert at(15) == pytest.approx(0, abs=1e-6)
    assert at(16) > 1
    full = scales(row)["full"]
    assert warmup_images(row, full) == 200 * 256
    assert warmup_images(row, scales(row)["mini"]) == 200 * 256 // 800


def test_body_mode_full_trains_the_body_too(tmp_path):
    both, before = HeadAndBody(_head(), _body().requires_grad_(True)), fingerprint(_body())
    loss = head_loss(HeadRecipe("", body_mode="full"), None, asked(_left), TOKENS, LABELS, warmup_images=0)
    trained = train(both, loss, 24, LoopConfig(images=16, batch=8, warmup_images=8), tmp_path, device=CPU)
    assert fingerprint(trained.body) != before


# The rows.


def test_the_thirteen_rows_are_the_documents():
    assert len(VARIANTS) == 13
    reported = {name: tuple(row.reported.values()) for name, row in VARIANTS.items()}
    assert reported == {
        "nonaligned_oracle_10ep": (3.41, 2.94), "v3_oracle_aligned_k64": (3.16, 3.40), "oracle_aligned": (3.43, 3.19),
        "v3_oracle_phase1b": (3.42,), "v3_oracle_phase1b_k16": (3.34,), "oracle_low_lambda": (3.67, 4.04),
        "oracle_cumulative": (4.27, 4.24), "nonaligned_oracle_40ep": (4.48, 4.75), "oracle_unfrozen": (4.65, 4.90),
        "oracle_high_lr": (4.50, 5.02), "oracle_k32": (5.13, 6.35), "oracle_lambda5": (5.37, 6.11), "oracle_deep": (),
    }  # fmt: skip
    assert [VARIANTS[n].epochs for n in VARIANTS] == [10, 40, 40, 40, 40, 40, 20, 40, 40, 20, 40, 20, 20]
    assert VARIANTS["nonaligned_oracle_10ep"].clusters(64) == 16


@pytest.fixture
def fashion_ground(tmp_path, monkeypatch):
    """Eight training images, whose tokens are at hand."""
    tokens = torch.randn(48, 64, 4, generator=torch_generator(0))
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("orderhead.training.head_recipes.image_tokens", lambda *a: (tokens, torch.arange(48) % 10))


@pytest.mark.parametrize("name", HEAD_RECIPES)
def test_every_row_trains_at_smoke_scale(name, tmp_path, fashion_ground):
    run_recipe(
        name,
        "smoke",
        tmp_path,
        {"images": "8", "batch": "4"} | ({"oracle_images": "4"} if HEAD_RECIPES[name].oracle_images else {}),
    )
    saved = load_tensors(tmp_path / "model.safetensors")
    assert all(v.isfinite().all() for v in saved.values())
    assert (tmp_path / "body").exists() == (HEAD_RECIPES[name].body_mode != "frozen")


def test_a_run_with_another_recipe_is_not_continued(tmp_path, fashion_ground):
    few = {"images": "8", "batch": "4"}
    run_recipe("oracle_aligned", "smoke", tmp_path, few)
    with pytest.raises(ValueError, match="other settings"):
        run_recipe("oracle_aligned", "smoke", tmp_path, few | {"order_loss_weight": "2"})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"contxt": "aligned"}, "unknown recipe field 'contxt'; did you mean 'context'"),
        ({"context": "alignd"}, "unknown context 'alignd'; did you mean 'aligned'"),
        ({"order_loss": "mle"}, "unknown order loss"),
        ({"oracle": "cls"}, "unknown oracle 'cls'; did you mean 'cls_k'"),
        ({"order_loss_weight": "-1"}, "not negative"),
        ({"depth": "four"}, "depth is a int, got 'four'"),
        ({"cluster_size": "12"}, "cluster_size divides the 64 cells"),
    ],
)
def test_a_bad_field_is_told_in_one_line(overrides, says, tmp_path, fashion_ground):
    with pytest.raises(ValueError, match=says):
        run_recipe("oracle_aligned", "smoke", tmp_path, overrides)


def test_full_scale_asks_for_the_studys_ground(tmp_path):
    with pytest.raises(ValueError, match="give --body, --classifier and --train-images"):
        run_recipe("oracle_aligned", "full", tmp_path)


def test_a_trained_head_samples(tmp_path):
    import orderhead

    save_model(_head(TINY), tmp_path)
    settings = orderhead.Settings("learned_slow", steps=4, denoise_steps=2, head=str(tmp_path))
    settings.check(_body())
    from orderhead.sampling.sample import run

    samples = run(settings, _body(), torch.tensor([0, 1]), torch.arange(2))
    assert samples.trace.scores_BRL.shape == (2, 4, 16)
