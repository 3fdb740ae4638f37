"""Randomness: Philox against the known answers of its authors, and what a pure function of integers promises."""

import numpy as np
import pytest
import torch
from scipy import stats

from orderhead.core import rng
from orderhead.core.rng import Official, Paired, Stream
from orderhead.data.loader import batch_indices

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's kat_vectors, philox4x32 with 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    assert tuple(rng.philox(torch.tensor([counter]), key)[0].tolist()) == expected


def _noise(seed=0, index=(0, 1, 2), cell=(5, 6, 7), draw=0, k=4):
    return rng.normal(seed, Stream.NOISE, torch.tensor(index), torch.tensor(cell), draw, k)


def test_noise_does_not_depend_on_the_company():
    assert torch.equal(_noise()[1:2], _noise(index=(1,), cell=(6,)))
    assert torch.equal(_noise(k=3), _noise(k=8)[:, :3])


@pytest.mark.parametrize("change", [{"seed": 1}, {"index": (3, 4, 5)}, {"cell": (8, 9, 10)}, {"draw": 1}])
def test_every_coordinate_matters(change):
    assert not (_noise() == _noise(**change)).any()


def test_normals_are_normal_and_independent():
    index, cell = torch.arange(500).repeat_interleave(64), torch.arange(64).repeat(500)
    x = rng.normal(0, Stream.NOISE, index, cell, 0, 4).double().numpy()
    assert stats.kstest(x.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 0.02
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.02


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(ValueError, match="seed"):
        _noise(seed=-1)


def test_the_global_generators_are_not_touched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    _noise(), Paired(0).generator(3).permutation(5), Official(0, 16, guided=True).generator(2)
    Official(0, 16, guided=True).noise(torch.tensor([0]), torch.tensor([1]), 0, 4)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_official_orders_are_numpys_legacy_shuffles_one_after_the_other():
    legacy = np.random.RandomState(7)
    expected = []
    for _ in range(3):
        order = np.arange(64)
        legacy.shuffle(order)
        expected.append(order)
    official = Official(7, 64, guided=False)
    assert all((official.generator(i).permutation(64) == expected[i]).all() for i in (2, 0, 1))


@pytest.mark.parametrize("guided", [False, True])
def test_official_noise_is_torchs_stream_with_both_halves_drawn(guided):
    torch_stream = torch.Generator().manual_seed(5)
    official, rows = Official(5, 64, guided), torch.arange(3)
    assert torch.equal(official.noise(rows, rows, 0, 4), torch.randn(3, 4, generator=torch_stream))
    expected = torch.randn(6 if guided else 3, 4, generator=torch_stream)[:3]
    assert torch.equal(official.noise(rows, rows, 1, 4), expected)


@pytest.mark.parametrize("batch", [1, 7, 10, 23])
def test_every_item_appears_once_an_epoch(batch):
    seen = torch.cat([batch_indices(10, batch, 0, step) for step in range(10)])[: 10 * (10 * batch // 10)]
    for epoch in seen[: len(seen) // 10 * 10].view(-1, 10):
        assert sorted(epoch.tolist()) == list(range(10))


def test_noise_drawn_ahead_is_the_noise_of_each_draw(monkeypatch):
    """Also where the draws fill several blocks, the last of them in part."""
    monkeypatch.setitem(rng.AHEAD, "cpu", 70)
    rows, cells = torch.tensor([0, 3, 9]), torch.tensor([5, 5, 1])
    noise = Paired(4).noises(rows, cells, 4, last=13)
    for draw in range(14):
        assert torch.equal(noise(draw), Paired(4).noise(rows, cells, draw, 4))
