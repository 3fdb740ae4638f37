"""Intermediate images: grey where masked, the final image at the end, the same in animations and on the page."""

import numpy as np
import pytest
import torch
from worlds import tiny_body

import orderhead
from orderhead.body import MAR
from orderhead.sampling import frames
from orderhead.sampling.export import to_uint8
from orderhead.sampling.sample import Samples
from orderhead.studies import progress


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> MAR:
    return orderhead.load_body(str(tiny_body(tmp_path_factory.mktemp("world"))))


def drawn(body: MAR, order: str) -> Samples:
    return orderhead.sample(body, [0, 1, 2], order=order, steps=4, denoise_steps=2)


def test_frames_are_grey_where_masked_and_final_where_all_is_revealed(body: MAR) -> None:
    samples = drawn(body, "raster")
    found = frames.reveal_frames(samples, body.grid)
    assert torch.equal(found[-1], samples.images_BCHW)
    assert (found[0] == frames.MASKED).all()
    shown = int(samples.trace.counts_T[0])  # raster: the first cells of the first row, 2 x 2 pixels each
    assert (found[1][:, 0, :2, : 2 * shown] != frames.MASKED).any()
    assert (found[1][:, 0, :2, 2 * shown :] == frames.MASKED).all()
    assert (found[1][:, 0, 2:] == frames.MASKED).all()


def test_the_pages_panels_are_the_frames_of_the_animation(body: MAR) -> None:
    samples = drawn(body, "random")
    panels = progress.greyed(progress.partial_images(samples, 2), progress.masks_NTL(samples, 2), body.grid)
    for step, frame in enumerate(frames.reveal_frames(samples, body.grid)[1:]):
        np.testing.assert_array_equal(panels[:, step], to_uint8(frame)[:2, 0])


def test_colour_comes_last_in_panels(body: MAR) -> None:
    images, mask = torch.ones(2, 5, 3, 8, 8), torch.zeros(2, 5, body.grid.L, dtype=torch.bool)
    mask[0, 1, 0] = True
    panels = progress.greyed(images, mask, body.grid)
    assert panels.shape == (2, 5, 8, 8, 3)
    assert (panels[0, 1, :2, :2] == 128).all()
    assert (panels == 255).sum() == panels.size - 2 * 2 * 3
