"""The masks of training: what each row shows a body, and that the recipes train under what they say."""

import pytest
import torch
from scipy import stats

from orderhead.body.mar import SIZES
from orderhead.core.grid import Grid
from orderhead.core.rng import generator, torch_generator
from orderhead.orders.spatial import SPATIAL
from orderhead.training import masks, recipes
from orderhead.training.ground import Ground
from orderhead.training.loop import Batch
from orderhead.training.masks import MASKS, TRAINED_ORDERS

GRID = Grid(4, 6)


def draws(name: str, B: int = 6, n: int = 300) -> list[torch.Tensor]:
    return [MASKS[name](B, GRID, torch_generator(0, k)) for k in range(n)]


@pytest.mark.parametrize("name", MASKS)
def test_every_row_masks_as_many_cells_and_at_least_one(name):
    """The law of `Masks`; an odd batch and a batch of one too."""
    for B in (1, 5, 6):
        for mask in draws(name, B, 100):
            assert mask.shape == (B, GRID.L)
            assert mask.dtype == torch.bool
            assert len(mask.sum(1).unique()) == 1
            assert mask.sum() >= B


def test_mask_ratios_follow_the_truncated_normal():
    ratios = [masks.mask_ratio(torch_generator(0, i)) for i in range(3000)]
    assert stats.kstest(ratios, stats.truncnorm(-0.3 / 0.25, 0, loc=1.0, scale=0.25).cdf).pvalue > 0.01


def test_published_masks_hide_at_least_seventy_percent():
    assert min(int(mask[0].sum()) for mask in draws("published")) >= 0.7 * GRID.L


@pytest.mark.parametrize("name", ["uniform", "ordered"])
def test_any_number_of_masked_cells_is_as_likely(name):
    counts = torch.tensor([int(mask[0].sum()) for mask in draws(name, 1, 2400)]).bincount(minlength=GRID.L + 1)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:].numpy()).pvalue > 0.01


@pytest.mark.parametrize("name", ["published", "uniform"])
def test_any_cell_is_masked_as_often(name):
    masked = torch.cat(draws(name)).double()
    share = masked.mean()
    assert (masked.mean(0) - share).abs().max() < 4 * (share * (1 - share) / len(masked)).sqrt()


def test_half_of_ordered_sees_the_first_cells_of_an_order():
    orders = [SPATIAL[name](GRID, generator(0, 0), (1,) * GRID.L).tolist() for name in TRAINED_ORDERS]
    met = set()
    for mask in draws("ordered"):
        for row in mask[:3]:
            seen = set((~row).nonzero().flatten().tolist())
            fits = [name for name, order in zip(TRAINED_ORDERS, orders, strict=True) if set(order[: len(seen)]) == seen]
            assert fits
            met |= set(fits) if len(fits) == 1 else set()
    assert met == set(TRAINED_ORDERS)


def count_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches that the masks of this name are asked for from now on."""
    asked = []
    monkeypatch.setitem(MASKS, name, lambda B, grid, rng: asked.append(B) or torch.ones(B, grid.L, dtype=torch.bool))
    return asked


@pytest.mark.parametrize("name", MASKS)
def test_a_recipe_trains_under_the_masks_of_its_name(name, monkeypatch):
    recipe = recipes.RECIPES["fashion-body" + ("" if name == "published" else f"-{name}")]
    monkeypatch.setattr(recipes, "image_tokens", lambda _: (torch.randn(8, 64, 4), torch.zeros(8, dtype=torch.long)))
    asked = count_asked(name, monkeypatch)
    n, loss, _ = recipe.task(recipe.scales["smoke"])
    loss(recipe.build(), Batch(torch.arange(n), torch_generator(0)))
    assert asked == [8]
    assert recipe.about == {"masks": name}


@pytest.mark.parametrize("name", MASKS)
def test_bodies_of_one_s_own_are_trained_under_them_too(name, monkeypatch):
    row = recipes.RECIPES["latent-body" + ("" if name == "published" else f"-{name}")]
    asked = count_asked(name, monkeypatch)
    body = SIZES["tiny"]
    n, loss, _ = row.task(torch.randn(8, 64, 4), torch.zeros(8, dtype=torch.long))
    loss(row.build(body), Batch(torch.arange(n), torch_generator(0)))
    assert asked == [8]
    assert row.on(Ground()).about["masks"] == name
