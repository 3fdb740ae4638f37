"""The Inception judge against torch-fidelity itself, on weights that were never trained (the real file is opt-in)."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from worlds import pictures

from orderhead.data.images import read_folder
from orderhead.metrics import fidelity
from orderhead.metrics.bundle import Reference
from orderhead.metrics.fidelity import as_rgb, inception
from orderhead.metrics.judge import judged, see
from orderhead.metrics.registry import METRICS

extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture
def weights(inception_file: Path) -> Path:
    return inception_file


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides see 75 x 75 pixels instead of 299 x 299: a sixteenth of the time."""
    monkeypatch.setattr(extractor.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)


def floats(n: int, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2.2 - 1.1


def test_features_are_torch_fidelitys(weights: Path) -> None:
    """Bit by bit, from uint8 pixels that were rounded here and there on its own."""
    judge, images = inception(weights), floats(2, size=20)
    features, logits = judge(images)
    theirs = extractor.FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(weights))
    pixels = np.rint(np.clip((images.numpy() + 1) / 2 * 255, 0, 255)).astype(np.uint8)
    want = theirs(torch.from_numpy(pixels))
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert features.std(0).mean() > 1e-3  # the two images differ
    assert torch.equal(features, want[0])
    assert torch.equal(logits, want[1])


def test_grey_images_are_repeated() -> None:
    grey = floats(2, channels=1)
    assert torch.equal(as_rgb(grey), as_rgb(grey.repeat(1, 3, 1, 1)))
    assert as_rgb(torch.tensor([-1.0, 0.0, 1.0, 7.0]).view(1, 1, 1, 4))[0, 0, 0].tolist() == [0, 128, 255, 255]


class Pixels(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = as_rgb(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def theirs(generated: Tensor, folder: Path, weights: Path, **options: Any) -> dict[str, float]:
    import torch_fidelity

    return torch_fidelity.calculate_metrics(
        input1=Pixels(generated), input2=str(folder), samples_find_deep=True, cuda=False, verbose=False, cache=False,
        save_cpu_ram=True, feature_extractor_weights_path=str(weights), **options,
    )  # fmt: skip


@pytest.mark.usefixtures("small")
def test_the_distance_is_torch_fidelitys(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Second source: its own loader, folder reader, moments and eigenvalues; within 1e-4 (its means are
    float32). On the 64 features of an early layer: the eigenvalues of 2048 x 2048 take it a minute."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    folder, generated = pictures(tmp_path / "real", 9, ("a", "b"), size=16), floats(6)
    judge = inception(weights, layer="64")
    ours = judged(judge, generated.split(4), np.zeros(6, int))
    reference = Reference(see(judge, read_folder(folder, 3, 16))[0])
    want = theirs(generated, folder, weights, fid=True, isc=True, feature_layer_fid="64", isc_splits=1)
    assert METRICS["fd"](ours, reference) == pytest.approx(want["frechet_inception_distance"], rel=1e-4)
    assert METRICS["is"](ours, reference) == pytest.approx(want["inception_score_mean"], rel=1e-5)
    assert want["frechet_inception_distance"] > 0.01


# Which file it is.


def test_only_the_official_file_gives_a_fid(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = inception(weights)
    assert (judge.name, dict(judge.named)) == ("inception with unofficial weights", {})
    monkeypatch.setattr(fidelity, "OFFICIAL", hashlib.sha256(weights.read_bytes()).hexdigest())
    judge = inception(weights)
    assert (judge.name, dict(judge.named)) == ("inception-2015-12-05", {"fd": "fid"})


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_file_with_code_is_refused(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    contents = {"fc.bias": torch.zeros(1008), "more": Hostile(tmp_path / "ran")}
    torch.save(contents, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"weights\.pth wants to run posix\.system; refused"):
        inception(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("contents", [{"fc.bias": torch.zeros(1008)}, {}, [1, 2], {"fc.bias": 3}])
def test_other_weights_are_refused(contents: object, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth holds other weights than Inception's; get pt_inception"):
        inception(tmp_path / "weights.pth")


def test_without_torch_fidelity_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match=r"need torch-fidelity; pip install 'orderhead\[fid\]'$"):
        inception(tmp_path / "weights.pth")


@pytest.mark.weights
def test_the_official_weights() -> None:
    """`ORDERHEAD_INCEPTION` = the path of pt_inception-2015-12-05-6726825d.pth."""
    file = os.environ["ORDERHEAD_INCEPTION"]
    judge, images = inception(file), floats(2, size=64)
    theirs = extractor.FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], file)
    assert (judge.name, dict(judge.named)) == ("inception-2015-12-05", {"fd": "fid"})
    assert torch.equal(judge(images)[0], theirs(as_rgb(images))[0])
