"""OrderHead, the learned policy, and the straight-through mask. Second sources: a count of parameters, finite
differences, `MAR.predict`."""

import dataclasses

import pytest
import torch
from worlds import bare_body as _body

import orderhead
from orderhead.body.soft import cell_losses, predict_soft, random_levels
from orderhead.orders.head import HEADS, OrderHead, OrderHeadConfig
from orderhead.orders.learned import learned
from orderhead.orders.straight_through import hard_mask, soft_mask, straight_through_mask, z_scored
from orderhead.sampling.settings import Settings

TINY = OrderHeadConfig(grid_h=4, grid_w=4, z_width=64, channels=4, width=32, depth=1, heads=2)


def _head(config: OrderHeadConfig = TINY) -> OrderHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return OrderHead(config).eval()


def _count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_study_head_has_its_number_of_parameters():
    assert _count(OrderHead()) == 13_280_769
    block = 512 * 4 + 3 * 512 * 513 + 512 * 513 + 2048 * 513 + 512 * 2049
    assert _count(OrderHead(dataclasses.replace(HEADS["base"], depth=8))) == 13_280_769 + 4 * block


def test_a_head_comes_back_from_its_folder(tmp_path):
    head, z = _head(), torch.randn(2, 16, 64)
    orderhead.core.checkpoint.save_model(head, tmp_path)
    assert torch.equal(orderhead.load_head(str(tmp_path))(z), head(z))


def test_a_head_is_kept_until_it_is_trained_again(tmp_path):
    orderhead.core.checkpoint.save_model(_head(), tmp_path)
    policy = Settings("learned", head=str(tmp_path)).policy()
    assert Settings("learned_slow", head=str(tmp_path)).policy() is policy
    again = _head()
    torch.nn.init.ones_(again.registers)
    orderhead.core.checkpoint.save_model(again, tmp_path)
    assert torch.equal(Settings("learned", head=str(tmp_path)).policy().head.registers, again.registers)


def test_a_head_of_another_grid_of_as_many_cells_is_refused():
    config = dataclasses.replace(TINY, grid_h=2, grid_w=8)
    with pytest.raises(ValueError, match="reads a grid of 2 x 8 cells, the body has 4 x 4"):
        OrderHead(config).fits(_body().grid, config.z_width, 3)


def test_clean_tokens_stand_in_where_they_are_given():
    head, z, tokens = _head(), torch.randn(2, 16, 64), torch.randn(2, 16, 4)
    nowhere = torch.zeros(2, 16, dtype=torch.bool)
    assert torch.equal(head(z, tokens, nowhere), head(z))
    assert torch.equal(head(z, tokens, ~nowhere), head(torch.randn_like(z), tokens, ~nowhere))
    assert not torch.allclose(head(z, tokens, ~nowhere), head(z))


@pytest.mark.parametrize("rescore", [1, 2, "semifast-8", "slow"])
def test_a_head_is_asked_as_often_as_rescore_says(rescore):
    asked = []

    class Counting(OrderHead):
        def forward(self, z_BLD, tokens_BLC=None, given_BL=None, labels_B=None):
            asked.append(z_BLD)
            return super().forward(z_BLD)

    head = Counting(TINY)
    body = _body()
    samples = orderhead.sample(body, [0, 1, 2], learned(head), steps=8, denoise_steps=2, cfg_scale=2.0, rescore=rescore)
    assert len(asked) == samples.trace.scores_BRL.shape[1] == {"semifast-8": 8, "slow": 8}.get(rescore, rescore)
    assert (samples.trace.rank_BL.argsort(1) == samples.trace.order_BL).all()
    assert all(len(z) == 3 for z in asked)  # the labelled half alone
    expected = body.predict(torch.zeros(3, 16, 4), torch.ones(3, 16, dtype=torch.bool), torch.arange(3))
    torch.testing.assert_close(asked[0], expected)


def test_slow_reveals_what_scores_highest_now():
    samples = orderhead.sample(_body(), [0, 1], learned(_head()), steps=8, denoise_steps=2, rescore="slow")
    trace, start = samples.trace, 0
    for step, count in enumerate(trace.counts_T):
        left, chosen = trace.order_BL[0, start:], trace.order_BL[0, start : start + count]
        assert trace.scores_BRL[0, step, chosen].min() >= max(
            (trace.scores_BRL[0, step, cell] for cell in left if cell not in chosen), default=-torch.inf
        )
        start += count


def test_score_std_and_rank_change_are_of_the_scores():
    trace = orderhead.sample(_body(), [0, 1], learned(_head()), steps=8, denoise_steps=2, rescore="slow").trace
    assert trace.score_std_BR.shape == (2, 8)
    assert trace.score_std_BR[1, 3] == pytest.approx(trace.scores_BRL[1, 3].std())
    assert trace.rank_change_BR.shape == (2, 7)
    assert ((trace.rank_change_BR >= 0) & (trace.rank_change_BR <= 1)).all()
    steady = dataclasses.replace(trace, scores_BRL=trace.scores_BRL[:, :1].repeat(8, 1))
    assert (steady.rank_change_BR == 0).all()
    turned = dataclasses.replace(trace, scores_BRL=trace.scores_BRL[:, [0, 0]] * [[[1], [-1]]])
    assert turned.rank_change_BR[:, 0] == pytest.approx(1.0)


def test_a_head_of_another_body_is_refused():
    with pytest.raises(ValueError, match="this head reads 16 cells of width 32, the body gives 16 of 64"):
        orderhead.sample(_body(), [0], learned(_head(dataclasses.replace(TINY, z_width=32))), steps=4, denoise_steps=2)
    with pytest.raises(ValueError, match="this head reads 64 cells"):
        orderhead.sample(_body(), [0], learned(_head(HEADS["tiny"])), steps=4, denoise_steps=2)


def test_a_diverged_head_is_refused():
    head = _head()
    head.score[2].bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="its head has diverged"):
        orderhead.sample(_body(), [0], learned(head), steps=4, denoise_steps=2)


def test_a_learned_order_needs_a_head():
    settings = orderhead.Settings("learned_slow", steps=4)
    with pytest.raises(ValueError, match="orderhead list heads"):
        settings.check(_body())


# The straight-through mask.


def test_the_hard_mask_shows_the_top_cells():
    scores = torch.tensor([[0.1, 0.4, 0.4, 0.2]])
    assert hard_mask(scores, 1).tolist() == [[True, False, True, True]]
    assert hard_mask(scores, 2).tolist() == [[True, False, False, True]]


def test_forward_hard_backward_soft():
    scores = torch.randn(3, 16, requires_grad=True)
    weight = torch.randn(3, 16)
    mask = straight_through_mask(scores, 4, 0.3)
    torch.testing.assert_close(mask, hard_mask(scores, 4).float())
    (mask * weight).sum().backward()
    soft = soft_mask(scores.detach(), 4, 0.3)
    torch.testing.assert_close(scores.grad, -weight * soft * (1 - soft) / 0.3)


@pytest.mark.parametrize(("visible", "tau"), [(0, 1.0), (16, 1.0), (4, 0.0)])
def test_a_mask_needs_something_to_show_and_a_temperature(visible, tau):
    with pytest.raises(ValueError, match="visible"):
        soft_mask(torch.randn(1, 16), visible, tau)


def test_z_scores_are_standardised_and_constant_rows_are_zero():
    scores = torch.cat([torch.randn(2, 16) * 5 + 3, torch.full((1, 16), 7.0)])
    found = z_scored(scores)
    torch.testing.assert_close(found.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:2].std(1, correction=0), torch.ones(2))
    assert (found[2] == 0).all()


def test_the_soft_body_is_the_body_where_the_mask_is_hard():
    body, tokens, labels = _body(), torch.randn(4, 16, 4), torch.tensor([0, 1, 2, -1])
    mask = hard_mask(torch.randn(4, 16), 5)
    torch.testing.assert_close(
        predict_soft(body, tokens, mask.float(), labels), body.predict(tokens, mask, labels), atol=1e-4, rtol=1e-4
    )


def _mask_loss():
    """A smooth loss of a mask (1, 16) in float64: what the body predicts for the masked cells, against fixed targets.

    Not the diffusion loss itself: its variational term stops a gradient by design, which finite differences do not.
    """
    body, tokens, labels = _body().double(), torch.randn(1, 16, 4).double(), torch.tensor([1])
    target = torch.randn(1, 16, 64).double()

    def loss(mask):
        errors = (predict_soft(body, tokens, mask, labels) - target).square().mean(-1)
        return (errors * mask).sum() / mask.sum()

    return loss


def test_the_gradient_through_the_soft_mask_is_the_finite_difference():
    loss, threshold = _mask_loss(), torch.tensor(0.2).double()
    scores = torch.randn(1, 16).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s: loss(torch.sigmoid((threshold - s) / 0.7)), (scores,), rtol=1e-4)


def test_the_straight_through_gradient_is_the_soft_masks_chain_rule():
    """d loss / d mask at the hard mask (by finite differences) times d soft mask / d scores reaches the scores."""
    loss, scores = _mask_loss(), torch.randn(1, 16).double().requires_grad_(True)
    loss(straight_through_mask(scores, 4, 0.5)).backward()
    hard, soft = hard_mask(scores, 4).double(), soft_mask(scores.detach(), 4, 0.5)
    step = 1e-8  # small beside the 1e-6 that keeps the logarithm finite
    slopes = torch.stack([(loss(hard + step * one) - loss(hard - step * one)) / (2 * step) for one in torch.eye(16)])
    torch.testing.assert_close(scores.grad[0], slopes.detach() * -(soft * (1 - soft))[0] / 0.5, atol=1e-6, rtol=0.01)


def test_the_diffusion_loss_reaches_the_scores():
    body, tokens, labels = _body(), torch.randn(2, 16, 4), torch.tensor([1, 2])
    t, noise = random_levels(tokens.shape, torch.Generator().manual_seed(0))
    scores = torch.randn(2, 16, requires_grad=True)
    mask = straight_through_mask(z_scored(scores), 4, 0.5)
    cell_losses(body, tokens, predict_soft(body, tokens, mask, labels), t, noise).mean().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() > 0
