"""Denoising steps shared out among a step's cells: as many in all, more for those that need them."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from worlds import bare_body

from orderhead.body.mar import MAR
from orderhead.core.grid import Grid
from orderhead.core.rng import Paired
from orderhead.orders.state import DecodeState
from orderhead.sampling import flops
from orderhead.sampling.allocation import GROUPS, NEEDS, by_rank, contrast, parts, pull, score
from orderhead.sampling.sample import run
from orderhead.sampling.settings import Settings

BY = [name for name, need in NEEDS.items() if need is not None]


@pytest.fixture(scope="module")
def body() -> MAR:
    return bare_body(grid_h=8, grid_w=8)


def state(mask_BL: torch.Tensor, tokens_BLC: torch.Tensor, grid: Grid) -> DecodeState:
    B = len(mask_BL)
    start = DecodeState.start(grid, tokens_BLC.shape[-1], torch.zeros(B).long(), torch.arange(B), (2, 4), Paired(0))
    return replace(start, mask_BL=mask_BL, tokens_BLC=tokens_BLC, scores_BL=-torch.arange(grid.L).expand(B, -1).float())


class Given:
    """Conditions of a state that is made by hand."""

    def __init__(self, everywhere: torch.Tensor) -> None:
        self.everywhere = everywhere

    def at(self, where_BL: torch.Tensor) -> torch.Tensor:
        return self.everywhere[where_BL]


@pytest.mark.parametrize("steps", [1, 2, 6, 10, 25, 100, 1000])
@pytest.mark.parametrize("cells", [1, 2, 3, 4, 5, 29, 64])
def test_the_neediest_get_most_and_all_together_what_they_had(steps, cells):
    each = by_rank(steps, cells)
    assert list(each) == sorted(each, reverse=True)
    assert len(set(each)) <= GROUPS
    assert each[-1] >= 1
    assert each[0] <= 1000
    if 25 <= steps <= 100:
        assert sum(each) == pytest.approx(steps * cells, rel=0.04)
    assert by_rank(steps, 1) == (steps,)


def test_parts_are_all_cells_once_by_rank_within_each_image():
    """Two images of six cells, of which those with odd numbers are drawn: needs 5, 1, 3 and 2, 9, 4."""
    where = torch.tensor([[False, True] * 3] * 2)
    needs = torch.tensor([5.0, 1.0, 3.0, 2.0, 9.0, 4.0])
    found = parts(lambda state, where_BL: needs, state(where, torch.zeros(2, 6, 1), Grid(2, 3)), where, 9)
    assert [(sorted(part.tolist()), steps) for part, steps in found] == [([0, 4], 12), ([2, 5], 9), ([1, 3], 6)]


def test_ties_go_to_the_cell_that_the_order_scores_higher():
    where = torch.ones(1, 4, dtype=torch.bool)
    seen = replace(state(where, torch.zeros(1, 4, 1), Grid(2, 2)), scores_BL=torch.tensor([[1.0, 4.0, 2.0, 3.0]]))
    found = parts(lambda state, where_BL: torch.tensor([0.0, 0.0, 0.0, 9.0]), seen, where, 9)
    assert [part.tolist() for part, _ in found] == [[3], [1], [2], [0]]


def test_pull_and_score_are_what_they_say():
    where = torch.tensor([[True, False, True, True]])
    z, null = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]]), torch.zeros(1, 4, 2)
    seen = replace(state(where, null, Grid(2, 2)), conditions=Given(z), null_conditions=Given(null))
    assert pull(seen, where).tolist() == [5.0, 1.0, 2.0]
    assert score(seen, where).tolist() == [0.0, -2.0, -3.0]


def test_contrast_is_the_variance_of_the_known_neighbours():
    """On 3 x 3 cells, the first four known: the middle one has four around it, the one beside two, the corner none."""
    known = torch.tensor([[True] * 4 + [False] * 5])
    tokens = torch.randn(1, 9, 2, generator=torch.Generator().manual_seed(0))
    seen = state(~known, tokens * known[..., None], Grid(3, 3))
    where = torch.tensor([[False, False, False, False, True, True, False, False, True]])
    middle, beside, corner = contrast(seen, where).tolist()
    assert middle == pytest.approx(tokens[0, :4].var(0, correction=0).sum().item(), rel=1e-4)
    assert beside == pytest.approx(tokens[0, 1:3].var(0, correction=0).sum().item(), rel=1e-4)
    assert corner == float("inf")


@pytest.mark.parametrize("name", BY)
@pytest.mark.parametrize("solver", ["ancestral", "dpm"])
def test_an_image_is_the_same_in_any_batch(body, name, solver):
    settings = Settings(steps=6, denoise_steps=8, cfg_scale=3.0, solver=solver, x0_bound=3.0, denoise_by=name)
    labels, index = torch.tensor([0, 1, 2]), torch.tensor([4, 0, 9])
    together = run(settings, body, labels, index).tokens_BLC
    torch.testing.assert_close(
        run(settings, body, labels[1:2], index[1:2]).tokens_BLC[0], together[1], atol=1e-4, rtol=1e-3
    )
    assert not torch.allclose(together, run(replace(settings, denoise_by="even"), body, labels, index).tokens_BLC)


@pytest.mark.parametrize("name", BY)
def test_one_cell_a_step_has_nothing_to_share(body, name):
    settings = Settings(schedule="one_by_one", steps=64, denoise_steps=2, cfg_scale=3.0, x0_bound=3.0)
    image = torch.tensor([0])
    shared = run(replace(settings, denoise_by=name), body, image, image).tokens_BLC
    assert torch.equal(shared, run(settings, body, image, image).tokens_BLC)


def test_the_formula_counts_shared_steps(body):
    settings = Settings(steps=3, denoise_steps="12:6", cfg_scale=2.0, denoise_by="contrast")
    with FlopCounterMode(display=False) as counted:
        run(settings, body, torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert counted.get_total_flops() == flops.sampled(body.config, settings, images=2)
    assert flops.sampled(body.config, settings) == pytest.approx(
        flops.sampled(body.config, replace(settings, denoise_by="even")), rel=0.03
    )


def test_what_is_refused(body):
    one = torch.tensor([0])
    with pytest.raises(ValueError, match="unknown denoise_by 'pul'; did you mean 'pull'"):
        run(Settings(denoise_by="pul"), body, one, one)
    with pytest.raises(ValueError, match="pull is of guidance, and cfg_scale 1 is none"):
        run(Settings(denoise_by="pull"), body, one, one)
    with pytest.raises(ValueError, match=r"rng official gives the published code's images: solver ancestral.*by even"):
        run(Settings(rng="official", denoise_by="score"), body, one, one)
