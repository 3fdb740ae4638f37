"""What a judge makes of images: bundles for the metrics; real images are seen once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from worlds import pictures

from orderhead.data.images import IMAGES, ImageSet, read_folder
from orderhead.metrics import judge as judging
from orderhead.metrics.judge import Judge, judged, load_judge, metric_net, see


class Watched(nn.Module):
    """A judge's network that counts the images it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images_BCHW)
        return images_BCHW.flatten(1) * self.weight, images_BCHW.mean((2, 3))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Watched, Judge]:
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judging, "PART", 4)
    monkeypatch.setattr(judging, "BATCH", 3)
    network = Watched()
    return network, Judge("watched", network, "pixels", network, outputs=3)


def test_real_images_are_seen_once(watched: tuple[Watched, Judge], tmp_path: Path) -> None:
    network, judge = watched
    folder = pictures(tmp_path / "real", 10)
    real = read_folder(folder, 3, 8)
    features, logits = see(judge, real)
    assert network.seen == 10
    assert torch.equal(torch.from_numpy(features), real[0:10].flatten(1))
    assert logits.shape == (10, 3)
    again = see(judge, read_folder(folder, 3, 8))
    assert network.seen == 10
    assert np.array_equal(again[0], features)
    see(judge, read_folder(folder, 3, 4))  # another size
    assert network.seen == 20
    network.weight.data += 1  # another judge
    assert np.array_equal(see(judge, real)[0], 2 * features)
    assert network.seen == 30


def test_a_changed_picture_is_seen_again(watched: tuple[Watched, Judge], tmp_path: Path) -> None:
    network, judge = watched
    folder = pictures(tmp_path / "real", 6)
    before, identity = see(judge, read_folder(folder, 3, 8))[0], read_folder(folder, 3, 8).identity
    (folder / "002.png").write_bytes((folder / "003.png").read_bytes())
    after = see(judge, read_folder(folder, 3, 8))[0]
    assert network.seen == 12
    assert not np.array_equal(before[2], after[2])
    assert np.array_equal(after[2], after[3])
    assert read_folder(folder, 3, 8).identity["name"] == identity["name"]


def test_a_stopped_run_keeps_what_was_seen(watched: tuple[Watched, Judge], tmp_path: Path) -> None:
    network, judge = watched
    folder = pictures(tmp_path / "real", 10)
    damaged = folder / "009.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"")
    listing = read_folder(folder, 3, 8)
    assert listing.key  # its times are taken now
    with pytest.raises(ValueError, match=r"009\.png"):
        see(judge, listing)
    assert network.seen == 8
    damaged.write_bytes(whole)
    see(judge, listing)
    assert network.seen == 10


def test_what_is_read_in_no_time_is_not_kept(watched: tuple[Watched, Judge], tmp_path: Path) -> None:
    network, judge = watched
    shipped = ImageSet("few", torch.zeros(5, 3, 8, 8), torch.arange(5))
    see(judge, shipped)
    see(judge, shipped)
    assert network.seen == 10
    assert not (tmp_path / "cache").exists()


def test_the_judge_that_ships_gives_its_own_features_and_classes() -> None:
    judge, images = metric_net("fashion"), IMAGES["fashion-test"]()[0:70]
    features, logits = load_judge("fashion").classify(images)
    bundle = judged(judge, images.split(32), np.arange(70) % 10)
    np.testing.assert_allclose(bundle.features_NF, features, atol=1e-5)
    np.testing.assert_allclose(bundle.logits_NK, logits, atol=1e-5)
    assert (judge.outputs, judge.channels, judge.knows_classes) == (10, 1, True)
