"""A batch shared among threads: the images of one thread, and an end where one of them fails."""

import sys
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch
from worlds import bare_body

from orderhead.body.load import load_body
from orderhead.core.together import Stopped
from orderhead.sampling import stream
from orderhead.sampling.sample import Sampler, run
from orderhead.sampling.settings import Settings
from orderhead.sampling.threads import in_threads, shares_of
from orderhead.studies.real import injecting

SETTINGS = Settings("multiscale", steps=4, denoise_steps=3, cfg_scale=2.0)
INDEX = torch.arange(20, 41)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


EVENED = {"order": "random", "cfg_schedule": "equalized"}


def noting(seen):
    def make(sampler, labels, index):
        seen.append((len(index), torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return sampler(labels, index)

    return make


def same(found, expected):
    torch.testing.assert_close(found.tokens_BLC, expected.tokens_BLC, atol=1e-4, rtol=0)
    for name in ("order_BL", "counts_T", "labels_B"):
        assert (getattr(found.trace, name) == getattr(expected.trace, name)).all()


def test_each_thread_has_images_of_its_own_and_they_are_those_of_one(two_threads):
    body, seen = bare_body(), []
    found = in_threads(noting(seen), Sampler.of(SETTINGS, body), INDEX % 3, INDEX)
    assert sorted(seen) == [(10, 1, False), (11, 1, False)]
    same(found, run(SETTINGS, body, INDEX % 3, INDEX))


@pytest.mark.parametrize(
    "more", [{"full_every": 2, "null_every": 3}, {"denoise_by": "pull"}, {"order": "random"}, EVENED]
)
def test_so_with_any_option(two_threads, more):
    body, settings = bare_body(), replace(SETTINGS, steps=7, **more)
    same(
        in_threads(Sampler.__call__, Sampler.of(settings, body), INDEX % 3, INDEX),
        run(settings, body, INDEX % 3, INDEX),
    )


def test_so_with_real_contexts(two_threads):
    body, make = bare_body(), injecting(torch.randn(41, 16, 4, generator=torch.Generator().manual_seed(0)))
    sampler = Sampler.of(SETTINGS, body)
    same(in_threads(make, sampler, INDEX % 3, INDEX), make(sampler, INDEX % 3, INDEX))


def test_so_with_a_learned_order_and_stdout_is_left_alone(two_threads, capsys):
    body, before = load_body("fashion"), sys.stdout
    settings = Settings("learned_fast", 2, 2, 2.0, head="fashion-nonaligned")
    for _ in range(3):
        found = in_threads(Sampler.__call__, Sampler.of(settings, body), INDEX % 10, INDEX)
        assert sys.stdout is before
    same(found, run(settings, body, INDEX % 10, INDEX))


def test_a_stream_is_sampled_so(two_threads, tmp_path):
    body, seen = bare_body(), []
    stream.write(SETTINGS, body, 40, tmp_path, chunk=32, make=noting(seen))
    assert sorted(seen) == [(8, 2, True), (16, 1, False), (16, 1, False)]
    found = stream.read(tmp_path, 40, "", chunk=32)[0]
    index = torch.arange(40)
    same(found, run(SETTINGS, body, index % 3, index))


def test_most_threads_are_kept_busy(monkeypatch):
    shares = {}
    for threads_, images in ((1, 64), (2, 64), (8, 64), (12, 64), (15, 64), (64, 64), (4, 7), (4, 16), (3, 16)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads_: n)
        shares[threads_, images] = shares_of(SETTINGS, bare_body(), images)
    assert list(shares.values()) == [1, 2, 8, 6, 5, 8, 1, 2, 1]


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        (SETTINGS, 15),
        (Settings("random", 4, 3, 2.0, rng="official"), 21),
    ],
)
def test_few_images_and_the_published_stream_stay_in_one(two_threads, settings, images):
    seen, index = [], torch.arange(images)
    in_threads(noting(seen), Sampler.of(settings, bare_body()), index % 3, index)
    assert seen == [(images, 2, True)]


def endless(fails=lambda index: False, ended=None):
    """Samples for a minute or two, unless stopped; those of whom `fails` fail as soon as both are at it."""
    both = threading.Barrier(2, timeout=60)

    def make(sampler, labels, index):
        both.wait()
        if fails(index.tolist()):
            raise ValueError("no images today")
        passes = sampler.body.passes()
        try:
            for _ in range(20_000):
                passes(torch.zeros(1, 16, 4), torch.ones(1, 16, dtype=torch.bool), labels[:1])
        except Stopped:
            if ended is not None:
                ended.append(len(index))
            raise
        raise AssertionError("was not stopped")

    return make


@pytest.mark.parametrize("broken", [20, 40])
def test_what_fails_in_one_is_raised_and_stops_the_others(two_threads, broken):
    ended = []
    with pytest.raises(ValueError, match="no images today"):
        in_threads(endless(lambda index: broken in index, ended), Sampler.of(SETTINGS, bare_body()), INDEX % 3, INDEX)
    assert len(ended) == 1


def test_ctrl_c_stops_all(two_threads, monkeypatch):
    ended = []

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "exception", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_threads(endless(ended=ended), Sampler.of(SETTINGS, bare_body()), INDEX % 3, INDEX)
    assert len(ended) == 2
