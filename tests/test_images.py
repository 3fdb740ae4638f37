"""Real images in a folder: which they are, how they are cut, what is told about damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder
from worlds import pictures

from orderhead.data.images import IMAGES, centre_crop, read_folder

CLASSES = ("n01", "n02", "n10")


def test_subfolders_are_classes_as_torchvision_numbers_them(tmp_path: Path) -> None:
    real, theirs = read_folder(pictures(tmp_path, 7, CLASSES), 3, 8), TorchvisionFolder(str(tmp_path))
    assert [str(f) for f in real.files] == [f for f, _ in theirs.samples]
    assert real.labels_M is not None
    assert real.labels_M.tolist() == theirs.targets == [0, 0, 0, 1, 1, 2, 2]
    pixels = np.stack([np.asarray(image) for image, _ in theirs])
    got = real[0:7]
    assert got.shape == (7, 3, 8, 8)
    assert torch.equal(((got + 1) * 127.5).round().byte(), torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_a_flat_folder_has_no_labels_and_grey_bodies_see_grey(tmp_path: Path) -> None:
    (pictures(tmp_path, 3) / ".cache").mkdir()
    real = read_folder(tmp_path, 1, 4)
    assert (len(real), real.labels_M, real[1:3].shape) == (3, None, (2, 1, 4, 4))
    assert real.identity["images"] == 3


@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_square_that_is_a_power_of_two_larger_is_averaged(size: int) -> None:
    """Closed form: at each halving the mean of two columns, rounded, and of two rows, rounded."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    want = pixels.astype(float)
    while len(want) > size:
        want = np.floor((want[:, ::2] + want[:, 1::2]) / 2 + 0.5)
        want = np.floor((want[::2] + want[1::2]) / 2 + 0.5)
    assert np.array_equal(np.asarray(centre_crop(Image.fromarray(pixels), size)), want)


@pytest.mark.parametrize(("width", "height"), [(9, 8), (23, 8), (8, 14), (31, 20), (20, 31), (100, 64)])
def test_the_middle_square_is_kept(width: int, height: int) -> None:
    """A ramp along the longer side: its crop is a ramp around the same middle."""
    ramp = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    if height > width:
        ramp = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    found = np.asarray(centre_crop(Image.fromarray(ramp.astype(np.uint8)), 8)).astype(float)
    assert found.shape == (8, 8)
    step = np.ptp(found) / 7
    assert found.mean() == pytest.approx(127, abs=0.75 * step)  # the window may lie half a pixel off the middle


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none", "no folder"),
        (lambda folder: folder, "holds no image"),
        (lambda folder: (folder / "class").mkdir() or folder, "neither do its subfolders"),
    ],
)
def test_a_folder_without_images_is_refused(make, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        read_folder(make(tmp_path), 3, 8)


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_a_damaged_picture_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = pictures(tmp_path, 3) / "001.png"
    file.write_bytes(file.read_bytes()[:60] if content is None else content)
    with pytest.raises(ValueError, match=r"001\.png cannot be read"):
        read_folder(tmp_path, 3, 8)[0:3]


def test_what_ships_is_a_set_of_images() -> None:
    real = IMAGES["fashion-test"]()
    assert (len(real), real.key, real.identity) == (10_000, "", {"name": "Fashion-MNIST test images", "images": 10_000})
    assert real[5:8].shape == (3, 1, 32, 32)
