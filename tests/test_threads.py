"""A batch shared among threads: the images of one thread, and an end where one of them fails."""

import threading

import pytest
import torch
from worlds import bare_body

from orderhead.sampling.sample import Settings, run
from orderhead.sampling.threads import in_threads

SETTINGS = Settings("multiscale", steps=4, denoise_steps=3, cfg_scale=2.0)
INDEX = torch.arange(20, 41)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def noting(seen):
    def make(settings, body, labels, index):
        seen.append((len(index), torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return run(settings, body, labels, index)

    return make


def test_each_thread_has_images_of_its_own_and_they_are_those_of_one(two_threads):
    body, seen = bare_body(), []
    found = in_threads(noting(seen), SETTINGS, body, INDEX % 3, INDEX)
    assert sorted(seen) == [(10, 1, False), (11, 1, False)]
    expected = run(SETTINGS, body, INDEX % 3, INDEX)
    torch.testing.assert_close(found.tokens_BLC, expected.tokens_BLC, atol=1e-4, rtol=0)
    for name in ("order_BL", "counts_T", "labels_B"):
        assert (getattr(found.trace, name) == getattr(expected.trace, name)).all()


@pytest.mark.parametrize(("settings", "images"), [(SETTINGS, 15), (Settings("random", 4, 3, 2.0, rng="official"), 21)])
def test_few_images_and_the_published_stream_stay_in_one(two_threads, settings, images):
    seen, index = [], torch.arange(images)
    in_threads(noting(seen), settings, bare_body(), index % 3, index)
    assert seen == [(images, 2, True)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("broken", [20, 40])
def test_what_fails_in_one_is_raised_and_stops_the_others(two_threads, broken, error):
    both, passes = threading.Barrier(2, timeout=60), []

    def make(settings, body, labels, index):
        both.wait()
        if broken in index.tolist():
            raise error("no images today")
        state = body.passes()
        while True:  # until it is stopped
            passes.append(1)
            state(torch.zeros(1, 16, 4), torch.ones(1, 16, dtype=torch.bool), labels[:1])

    with pytest.raises(error, match="no images today"):
        in_threads(make, SETTINGS, bare_body(), INDEX % 3, INDEX)
