"""`orderhead compare` on any body: a folder of real images, Inception or a judge of one's own, a classifier or none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import NAMES, fashion_body, one_line, pictures, tiny_body, tiny_classifier, tiny_judge

from orderhead.body.load import load_body
from orderhead.cli import main
from orderhead.data.images import read_folder
from orderhead.metrics import fidelity
from orderhead.metrics.fidelity import as_rgb, inception
from orderhead.report.load import load
from orderhead.sampling import stream
from orderhead.studies.worlds import WORLDS, World, sources

extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

N = 10
PAIRED = {"kid", "mmd_rbf", "is", "precision", "recall"}
LINT = {"same_step_pairs", "visible_neighbours", "entropy_bits", "mean_guidance", "guidance_spread"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, inception_file: Path) -> Path:
    """A colour body of 3 classes with all that can judge it, and two folders of real images."""
    home = tmp_path_factory.mktemp("home")
    tiny_body(home, image_channels=3)
    tiny_judge(home / "judge")
    tiny_classifier(home / "classifier")
    (home / "weights.pth").symlink_to(inception_file)
    pictures(home / "labelled", 21, NAMES)
    pictures(home / "flat", 12)
    return home


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception on 75 x 75 pixels and its first 64 features: eigenvalues of 2048 x 2048 would take a minute."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extractor.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
    monkeypatch.setattr(fidelity, "inception", partial(inception, layer="64"))


def command(home: Path, out: Path, **options: object) -> list[str]:
    settings = {"body": home / "body", "orders": "raster", "images": N, "steps": 4, "denoise-steps": 2, "cfg": 2}
    words = [str(word) for name, value in (settings | options).items() for word in (f"--{name}", value)]
    return ["compare", *words, "--out", str(out)]


def numbers(out: Path, row: str) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return {r["metric"]: r for r in lines if r["row"] == row}


def page(out: Path) -> str:
    return (out / "report.html").read_text()


def inception_options(home: Path) -> dict[str, object]:
    return {"real": home / "labelled", "features": "inception", "weights": home / "weights.pth"}


@pytest.fixture(scope="module")
def measured(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by Inception against labelled pictures, without a classifier."""
    out = tmp_path_factory.mktemp("measured") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERHEAD_CACHE", str(out.parent / "cache"))
        patch.setattr(extractor.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
        patch.setattr(fidelity, "inception", partial(inception, layer="64"))
        assert main(command(home, out, **inception_options(home))) == 0
    return out


def test_inception_measures_what_needs_no_label(measured: Path) -> None:
    baseline, raster = numbers(measured, "random"), numbers(measured, "raster")
    assert set(baseline) == {"fd", *PAIRED, *LINT, "seconds_per_image"}
    assert set(raster) == set(baseline) | {f"{m}_minus_random" for m in ("fd", *PAIRED)}
    assert all(r["ci"][0] <= r["value"] <= r["ci"][1] for m, r in raster.items() if m.endswith("_minus_random"))
    difference = raster["fd"]["value"] - baseline["fd"]["value"]
    assert raster["fd_minus_random"]["value"] == pytest.approx(difference, rel=1e-6, abs=1e-9)


def test_the_distance_is_torch_fidelitys_of_the_same_images(home: Path, measured: Path) -> None:
    """Second source, from end to end: the images read from the run's samples, the real ones from their files."""
    from test_fidelity import theirs

    body = load_body(str(home / "body"))
    samples, _ = stream.read(measured / "samples" / "raster", N, body.config.tokenizer)
    options = {"fid": True, "isc": True, "isc_splits": 1, "feature_layer_fid": "64"}
    want = theirs(samples.images_BCHW, home / "labelled", home / "weights.pth", **options)
    found = numbers(measured, "raster")
    assert found["fd"]["value"] == pytest.approx(want["frechet_inception_distance"], rel=1e-4)
    assert found["is"]["value"] == pytest.approx(want["inception_score_mean"], rel=1e-5)


def test_the_protocol_names_who_judged_what(home: Path, measured: Path) -> None:
    run = json.loads((measured / "run.json").read_text())
    protocol = numbers(measured, "raster")["fd"]["protocol"]
    assert protocol == run["protocol"]
    assert protocol["judge"] == {
        "name": "inception with unofficial weights", "features": "64", "weights": protocol["judge"]["weights"],
    }  # fmt: skip
    assert protocol["real"] == read_folder(home / "labelled", 3, 8).identity
    assert protocol["classifier"] is None
    assert run["reference"]["n"] == 21  # all of the folder, as published distances are measured
    assert set(run["reference"]["real"]) == {"fd", *PAIRED}


def test_the_page_says_what_is_not_there(home: Path, measured: Path) -> None:
    report, text = load(measured), page(measured)
    assert len(report.left_out) == 2
    assert "Not measured here: class agreement" in text
    assert "AUC and AUAC (no classifier of partial images: --classifier)" in text
    assert "confidence p" not in text
    assert "MSE to the final image" in text
    assert "Confidence in the true class" not in text
    for word in ("labelled", "--real", "--features inception", f"--weights {home / 'weights.pth'}"):
        assert word in text
    assert report.notes == ()
    assert all(r.panels and r.panels.images.shape == (N, 4, 8, 8, 3) for r in report.rows)


def test_numbers_of_other_judges_and_images_are_not_mixed(
    home: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(measured, tmp_path / "out")
    before = (out / "results.jsonl").read_text()
    options = inception_options(home)
    for other in ({"real": home / "flat"}, {"features": home / "judge"}, {"classifier": home / "classifier"}):
        changed = {k: v for k, v in (options | other).items() if k != "weights" or "features" not in other}
        assert main(command(home, out, **changed)) == 2
        assert "other settings" in one_line(capsys.readouterr().err)
    assert main(command(home, out, **options)) == 0  # nothing is left to do
    assert (out / "results.jsonl").read_text() == before
    assert load(out).real


def test_a_judge_and_a_classifier_of_ones_own_on_a_flat_folder(home: Path, tmp_path: Path) -> None:
    options = {"real": home / "flat", "features": home / "judge", "classifier": home / "classifier"}
    assert main(command(home, tmp_path / "out", **options)) == 0
    found = numbers(tmp_path / "out", "raster")
    areas = {"auc", "auac"}
    assert set(found) >= {"fd", "agreement", *PAIRED, *areas, *(f"{m}_minus_random" for m in ("agreement", *areas))}
    report = load(tmp_path / "out")
    assert report.left_out == ("what real images score (their folder is not 3 subfolders, one a class)",)
    assert (report.real, report.real_name, report.real_n) == ({}, "flat", 12)
    assert "Confidence in the true class" in page(tmp_path / "out")


def test_linear_guidance_alone_has_its_figures(home: Path, tmp_path: Path) -> None:
    options = {"real": home / "flat", "features": home / "judge", "cfg-schedule": "constant", "orders": "random"}
    assert main(command(home, tmp_path / "out", **options)) == 0
    found = set(numbers(tmp_path / "out", "random"))
    assert found & LINT == LINT - {"mean_guidance", "guidance_spread"}


def test_inception_on_what_ships(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey images of the fashion tokenizer, few of them, before another judge."""
    from orderhead.data import fashion

    images, labels = fashion.test_set()
    monkeypatch.setattr(fashion, "test_set", lambda: (images[:20], labels[:20]))
    options = {"body": fashion_body(tmp_path), "features": "inception", "weights": home / "weights.pth"}
    assert main(command(home, tmp_path / "out", **options, images=6)) == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["protocol"]["real"] == {"name": "Fashion-MNIST test images", "images": 20}
    assert run["reference"]["n"] == 14  # without those that stand in for generated ones
    found = numbers(tmp_path / "out", "raster")
    assert {"fd", "auc", "auac"} <= set(found)
    assert "agreement" not in found


def test_images_are_decoded_a_few_at_a_time(home: Path, measured: Path) -> None:
    samples, _ = stream.read(measured / "samples" / "random", N, load_body(str(home / "body")).config.tokenizer)
    batches = list(samples.image_batches(4))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert torch.equal(as_rgb(torch.cat(batches)), as_rgb(samples.images_BCHW))
    part = samples.take(slice(4, 8))
    assert np.array_equal(part.trace.order_BL, samples.trace.order_BL[4:8])
    assert torch.equal(part.tokens_BLC, samples.tokens_BLC[4:8])


# What does not fit is told before anything is sampled.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (lambda home: {}, "no real images ship for the tokenizer"),
        (lambda home: {"real": home / "flat"}, "need --weights pt_inception-2015-12-05-6726825d.pth; get it from http"),
        (lambda home: {"real": home / "none", "features": home / "judge"}, "no folder"),
        (lambda home: {"real": home / "body", "features": home / "judge"}, "holds no image"),
        (lambda home: {"real": "fashion-test", "features": home / "judge"}, "no images of 3 x 8 x 8"),
        (lambda home: {"real": home / "flat", "weights": home / "none.pth"}, "no file"),
        (lambda home: {"real": home / "flat", "features": "inceptoin"}, "did you mean 'inception'?"),
        (
            lambda home: {"real": home / "flat", "features": "fashion"},
            "reads 1-channel images of 10 classes, the body draws 3-channel images of 3",
        ),
        (
            lambda home: {"real": home / "flat", "features": home / "judge", "weights": home / "weights.pth"},
            "add --features inception",
        ),
        (
            lambda home: {"real": home / "flat", "features": home / "judge", "classifier": "fashion"},
            "rows, columns, channels, classes [8, 8, 4, 10], the body draws [4, 4, 4, 3]",
        ),
        (lambda home: {"real": home / "flat", "features": home / "judge", "tokenizer": "kl17"}, "unknown tokenizer"),
        (lambda home: {"real": home / "flat", "features": home / "judge", "orders": "ratser"}, "mean 'raster'?"),
    ],
)
def test_sources_that_do_not_fit(
    options: Callable[[Path], dict[str, object]],
    said: str,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(home, tmp_path / "out", **options(home))) == 2
    assert said in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_too_few_real_images(home: Path, tmp_path: Path) -> None:
    config = load_body(str(home / "body")).config
    with pytest.raises(ValueError, match="holds 9 real images; a comparison takes at least 10"):
        World.of(config, {"real": str(pictures(tmp_path, 9)), "features": str(home / "judge")})


def test_what_ships_is_a_row_that_options_replace() -> None:
    assert sources("fashion", {}) == WORLDS["fashion"]
    chosen = sources("fashion", {"features": "inception", "weights": "w"})
    assert (chosen.real, chosen.features, chosen.classifier) == ("fashion-test", "inception", "fashion")
    with pytest.raises(ValueError, match="unknown source 'reel'; did you mean 'real'"):
        sources("fashion", {"reel": "x"})
