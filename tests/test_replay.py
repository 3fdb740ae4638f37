"""What is recorded, when, and for how long; a recording is a stand-in here, graphs themselves are tests of the GPU."""

import gc
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch

from orderhead.sampling import replay


class Owner:
    pass


@pytest.fixture
def recorded(monkeypatch):
    """The shapes that were recorded, in order; recordings compute as their function does."""
    made = []

    class Recording:
        @classmethod
        def of(cls, function, inputs):
            made.append(tuple(inputs[0].shape))
            return lambda given: function(*given)

    monkeypatch.setattr(replay, "_Recording", Recording)
    monkeypatch.setattr(replay, "_recordable", lambda device: True)
    return made


@dataclass(frozen=True)
class Times:
    factor: int

    def __call__(self, owner, x):
        return self.factor * x


def ask(owner, n, factor=2):
    x = torch.arange(float(n))
    assert torch.equal(replay.replayed(owner, Times(factor), x), factor * x)


def test_the_second_time_is_recorded_and_the_third_replayed(recorded):
    owner = Owner()
    for _ in range(4):
        ask(owner, 3)
    assert recorded == [(3,)]
    ask(owner, 3, factor=5)
    ask(owner, 5)
    assert recorded == [(3,)]  # another argument, another shape: asked once
    ask(Owner(), 3)
    assert recorded == [(3,)]  # another owner
    ask(owner, 3, factor=5)
    ask(owner, 5)
    assert recorded == [(3,), (3,), (5,)]


def test_no_more_than_so_many_are_kept_and_the_oldest_goes_first(recorded, monkeypatch):
    monkeypatch.setattr(replay, "MOST", 3)
    owner = Owner()
    for n in (1, 2, 3, 1, 2, 3, 1, 4, 4):  # 4 takes the place of 2, which was not used for longest
        ask(owner, n)
    kept = replay._KEPT[owner].recordings
    assert [key[1][0][0] for key in kept] == [1, 3, 4]
    for n in range(20):
        ask(owner, n)
        assert len(kept) <= 3


def test_shapes_in_turn_do_not_push_each_other_out(recorded, monkeypatch):
    """Five shapes where three are kept: three are replayed from then on, two computed, none recorded again."""
    monkeypatch.setattr(replay, "MOST", 3)
    owner = Owner()
    for _ in range(10):
        for n in range(1, 6):
            ask(owner, n)
    assert recorded == [(1,), (2,), (3,)]
    for _ in range(2):  # other shapes, and the old ones no more
        for n in range(6, 9):
            ask(owner, n)
    assert recorded[3:] == [(6,), (7,), (8,)]


def test_what_was_asked_long_ago_is_forgotten(recorded, monkeypatch):
    monkeypatch.setattr(replay, "REMEMBERED", 4)
    owner = Owner()
    for n in (1, 1, 2, 3, 4, 5, 1):
        ask(owner, n)
    kept = replay._KEPT[owner]
    assert [key[1][0][0] for key in kept.asked] == [3, 4, 5, 1]
    assert not kept.recordings  # 1 was recorded, and asked as if for the first time at the end


def test_what_failed_the_first_time_was_not_asked(recorded):
    owner, broken = Owner(), [True]

    @dataclass(frozen=True)
    class Broken(Times):
        def __call__(self, owner, x):
            if broken:
                broken.pop()
                raise KeyboardInterrupt
            return x

    for raised in (pytest.raises(KeyboardInterrupt), nullcontext()):
        with raised:
            replay.replayed(owner, Broken(2), torch.zeros(3))
    assert not recorded  # it was asked once
    replay.replayed(owner, Broken(2), torch.zeros(3))
    assert recorded == [(3,)]


def test_nothing_is_kept_of_an_owner_that_is_gone(recorded):
    owner = Owner()
    ask(owner, 3)
    before = len(replay._KEPT)
    del owner
    gc.collect()
    assert len(replay._KEPT) == before - 1


def test_off_cuda_everything_is_computed():
    owner = Owner()
    for _ in range(3):
        ask(owner, 3)
    assert owner not in replay._KEPT
