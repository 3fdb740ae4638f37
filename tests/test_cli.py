"""The command: help without torch, and every verb's result in its files."""

import argparse
import dataclasses
import html
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from worlds import NAMES, fashion_body, few_real_images, one_line, tiny_body

import orderhead
from orderhead import cli, console, options
from orderhead.body.load import load_body
from orderhead.body.mar import MARConfig
from orderhead.catalogue import KINDS
from orderhead.cli import VERBS, main
from orderhead.core import results
from orderhead.core.checkpoint import load_tensors, save_model, save_tensors
from orderhead.orders.learned import LEARNED
from orderhead.orders.policy import POLICIES
from orderhead.report.page import FLAGS
from orderhead.sampling.presets import PRESETS, STUDY, preset
from orderhead.sampling.sample import Sampler
from orderhead.sampling.schedule import counts_of
from orderhead.studies.compare import compare
from orderhead.studies.plan import Plan
from orderhead.training.heads import HeadRecipe, untrained_head

FAST = ("--steps", "4", "--denoise-steps", "2", "--cfg", "2")


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_body(tmp_path_factory.mktemp("world")))


def arrays(body: str, out: Path, *more: str) -> dict[str, np.ndarray]:
    assert main(["sample", "--body", body, *FAST, *more, "--out", str(out)]) == 0
    with np.load(out) as file:
        return dict(file)


# Help.


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_the_command_understands(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    examples = re.findall(r"^    orderhead (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert examples
    for example in examples:
        assert example.startswith(verb)
        assert callable(console.parse(VERBS, cli.ABOUT, shlex.split(example)))


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_verb(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"orderhead {orderhead.__version__}\n"


# sample.


def test_sample_writes_arrays(body: str, tmp_path: Path) -> None:
    found = arrays(body, tmp_path / "deep" / "s.npz", "-n", "5", "--labels", "Ankle Boot,0", "--order", "multiscale")
    assert found["labels"].tolist() == [2, 0, 2, 0, 2]
    assert found["images"].shape == (5, 8, 8, 1)
    assert found["images"].dtype == np.uint8
    assert found["tokens"].shape == (5, 16, 4)
    assert (np.sort(found["order"], axis=1) == np.arange(16)).all()
    assert found["counts"].sum() == 16
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "s.npz"]  # nothing temporary is left


def test_an_image_does_not_depend_on_how_many_are_asked_for(body: str, tmp_path: Path) -> None:
    """Second way: 17 images are two batches, 2 images are one."""
    many, few = arrays(body, tmp_path / "a.npz", "-n", "17"), arrays(body, tmp_path / "b.npz", "-n", "2")
    assert (many["order"][:2] == few["order"]).all()
    np.testing.assert_allclose(many["tokens"][:2], few["tokens"], atol=1e-5)
    assert not np.allclose(many["tokens"][0], many["tokens"][3])  # the same class, another number


def test_sample_equals_the_library(body: str, tmp_path: Path) -> None:
    more = ("--steps", "3", "--schedule", "1,5,10", "--seed", "7", "--rescore", "slow")
    found = arrays(body, tmp_path / "s.npz", "-n", "3", *more)
    samples = orderhead.sample(
        orderhead.load_body(body), [0, 1, 2], denoise_steps=2, cfg_scale=2.0, schedule=(1, 5, 10), seed=7,
        rescore="slow",
    )  # fmt: skip
    np.testing.assert_allclose(found["tokens"], samples.tokens_BLC, atol=1e-5)
    assert found["counts"].tolist() == [1, 5, 10]


def test_sample_says_with_what(body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["sample", "--body", body, "-n", "2", "--out", str(tmp_path / "s.png")]
    first = "raster, 4 steps, 2 denoising steps (ancestral), guidance 2 (linear), seed 7"
    second = "random, 3 steps of 1, 5, 10 cells, 3:2 denoising steps (ancestral), guidance none, seed 0"
    third = "random, 16 steps, 2 denoising steps (ancestral), guidance none, seed 0"
    for more, says in (
        ([*FAST, "--order", "raster", "--seed", "7"], first),
        (["--schedule", "1,5,10", "--denoise-steps", "3:2", "--cfg", "1"], second),
        (["--schedule", "one_by_one", "--denoise-steps", "2", "--cfg", "1"], third),
    ):
        assert main([*argv, *more]) == 0
        assert capsys.readouterr().out == f"2 images: {says}\nwrote {tmp_path}/s.png\n"


def test_sample_draws_a_grid(body: str, tmp_path: Path) -> None:
    assert main(["sample", "--body", body, *FAST, "-n", "5", "--out", str(tmp_path / "s.png")]) == 0
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (3 * 130 + 2, 2 * 130 + 2)  # 3 columns, 16 times 8 pixels, 2 between
        pixels = np.asarray(picture)[2:130, 2:130]
    assert (pixels == pixels[::16, ::16].repeat(16, 0).repeat(16, 1)).all()
    assert len(np.unique(pixels)) > 1


@pytest.mark.parametrize("ending", ["PNG", "Gif", "NPZ"])
def test_an_ending_may_be_in_capitals(ending: str, body: str, tmp_path: Path) -> None:
    for case in (ending, ending.lower()):
        assert main(["sample", "--body", body, *FAST, "-n", "1", "--out", str(tmp_path / case / f"s.{case}")]) == 0
    upper, lower = tmp_path / ending / f"s.{ending}", tmp_path / ending.lower() / f"s.{ending.lower()}"
    assert upper.read_bytes()[:4] == lower.read_bytes()[:4]
    assert len(list(tmp_path.rglob("s.*"))) == 2


def test_sample_animates_the_reveal(body: str, tmp_path: Path) -> None:
    argv = ["sample", "--body", body, *FAST, "-n", "1", "--order", "raster", "--out", str(tmp_path / "s.gif")]
    assert main(argv) == 0
    with Image.open(tmp_path / "s.gif") as animation:
        frames = [np.asarray(f.convert("L")) for f in ImageSequence.Iterator(animation)]
    assert len(frames) == 1 + 4
    assert len(np.unique(frames[0])) == 1  # all grey
    assert len(np.unique(frames[-1])) > 1


def test_a_folder_of_images_goes_on_where_it_was_stopped(body: str, tmp_path: Path) -> None:
    argv = ["sample", "--body", body, *FAST, "-n", "18", "--out", f"{tmp_path}/pictures/"]
    assert main(argv) == 0
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert [p.name for p in pictures] == [f"{i:05d}.png" for i in range(18)]
    before, kept = [p.read_bytes() for p in pictures], pictures[0].stat().st_mtime_ns
    for path in pictures[5:]:
        path.unlink()
    assert main(argv) == 0
    assert pictures[0].stat().st_mtime_ns == kept
    assert [p.read_bytes() for p in pictures] == before
    assert main(argv) == 0  # nothing is left to do


def test_a_folder_takes_more_images(body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second way: all of them at once."""
    for name, numbers in (("grown", ("2", "5")), ("whole", ("5",))):
        for n in numbers:
            assert main(["sample", "--body", body, *FAST, "-n", n, "--out", f"{tmp_path / name}/"]) == 0
    assert json.loads((tmp_path / "grown/settings.json").read_text())["labels"] == [0, 1, 2, 0, 1]
    grown, whole = ([np.asarray(Image.open(p)).astype(int) for p in sorted((tmp_path / n).glob("*.png"))]
                    for n in ("grown", "whole"))  # fmt: skip
    assert len(grown) == len(whole) == 5
    assert max(abs(a - b).max() for a, b in zip(grown, whole, strict=True)) <= 1  # rounded
    capsys.readouterr()
    for other in (["-n", "2"], ["-n", "6", "--labels", "1,0"], ["-n", "6", "--seed", "1"]):
        assert main(["sample", "--body", body, *FAST, *other, "--out", f"{tmp_path}/grown/"]) == 2
        assert "other settings or weights, or more images" in one_line(capsys.readouterr().err)


def test_one_stream_of_random_numbers_takes_no_more_images(body: str, tmp_path: Path) -> None:
    argv = ["sample", "--body", body, *FAST, "--rng", "official", "--out", f"{tmp_path}/pictures/"]
    assert [main([*argv, "-n", n]) for n in ("2", "2", "5")] == [0, 0, 2]


@pytest.mark.parametrize("model", ["body", "tokenizer"])
def test_a_folder_of_images_does_not_go_on_with_other_weights(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sample", "--body", str(tiny_body(tmp_path)), *FAST, "-n", "2", "--out", f"{tmp_path}/pictures/"]
    assert main(argv) == 0
    file = tmp_path / model / "model.safetensors"
    save_tensors(file, {k: 1.1 * v for k, v in load_tensors(file).items()})
    capsys.readouterr()
    assert main(argv) == 2
    assert "other settings or weights" in one_line(capsys.readouterr().err)


def test_a_folder_of_images_does_not_go_on_with_another_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = load_body(str(tiny_body(tmp_path)))
    argv = ["sample", "--body", str(tmp_path / "body"), *FAST, "--order", "learned", "--head", str(tmp_path / "head")]
    for n in ("2", "3"):
        save_model(untrained_head(HeadRecipe(""), body), tmp_path / "head")
        exits = main([*argv, "-n", n, "--out", f"{tmp_path}/pictures/"])
        assert exits == (0 if n == "2" else 2)
    assert "other settings or weights" in one_line(capsys.readouterr().err)


def test_images_of_which_nobody_says_what_they_are_are_left_alone(
    body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sample", "--body", body, *FAST, "-n", "2", "--out", f"{tmp_path}/pictures/"]
    assert main(argv) == 0
    (tmp_path / "pictures/settings.json").unlink()
    capsys.readouterr()
    assert main([*argv, "--seed", "1"]) == 2
    assert "no settings.json that says of what" in one_line(capsys.readouterr().err)


def test_sample_takes_the_published_stream_of_random_numbers(body: str, tmp_path: Path) -> None:
    found = arrays(body, tmp_path / "s.npz", "-n", "2", "--rng", "official", "--seed", "3")
    legacy = np.random.RandomState(3)
    shuffled = np.arange(16)
    legacy.shuffle(shuffled)
    assert set(found["order"][0].tolist()) == set(shuffled.tolist())
    assert found["order"][0].tolist() == shuffled[::-1].tolist()  # the published code generates from the tail


def test_presets(body: str) -> None:
    fashion, tiny = orderhead.load_body().config, orderhead.load_body(body).config
    assert preset(fashion) == PRESETS["own"]["fashion"]
    assert preset(tiny) == preset(MARConfig()) == {"steps": 64, "denoise_steps": 100, "cfg_scale": 2.9}
    preset(fashion)["steps"] = 0
    assert PRESETS["own"]["fashion"]["steps"] > 0
    with pytest.raises(ValueError, match="unknown preset 'fats'; did you mean 'fast'"):
        preset(fashion, "fats")


def test_the_fast_preset_is_one_flag_and_yields_to_what_is_said(tmp_path: Path) -> None:
    """The command and the library draw the same images; its own counts are for whole images of 64 cells."""
    body, folder = orderhead.load_body(), tmp_path / "s.npz"
    assert main(["sample", "--preset", "fast", "--labels", "3,5", "-n", "2", "--out", str(folder)]) == 0
    ours = orderhead.sample(body, [3, 5], preset="fast")
    with np.load(folder) as found:
        assert np.array_equal(found["tokens"], ours.tokens_BLC.numpy())
    assert ours.trace.counts_T.tolist() == list(PRESETS["fast"]["fashion"]["schedule"])
    given = ({"steps": 8}, {"steps": 4}, {"schedule": "linear"}, {"order": "ar_raster"}, {"order": "raster"})
    steps = [fast(**each) for each in given]
    named = [counts_of(*each, 64) for each in (("cosine", 4), ("linear", 8), ("one_by_one", 64), ("cosine", 8))]
    assert [s.counts(64) for s in steps] == [tuple(PRESETS["fast"]["fashion"]["schedule"]), *named]
    assert {s.solver for s in steps} == {"dpm"}
    assert fast(solver="ancestral").solver == "ancestral"
    with pytest.raises(ValueError, match="--null-every is of guidance"):
        fast(cfg=1.0, null_every=2)
    with pytest.raises(ValueError, match="--denoise-by pull is of guidance"):
        fast(cfg=1.0, denoise_by="pull")


def test_every_option_of_sampling_that_has_a_setting_is_in_the_pages_command() -> None:
    named = {f.name for f in dataclasses.fields(options.SamplingOptions)} - {"head", "cfg"} | {"cfg_scale"}
    assert set(FLAGS) == named


def test_the_pages_command_goes_on_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was given by hand, a head too: in the run's own folder the printed words find nothing left to do."""
    monkeypatch.chdir(tmp_path)
    few_real_images(monkeypatch)
    body = load_body(str(fashion_body(tmp_path)))
    save_model(untrained_head(HeadRecipe(""), body), tmp_path / "head")
    more = ["--orders", "raster,learned_slow", "--head", "head", "--images", "12", "--schedule", "1,3,20,40"]
    more += ["--denoise-steps", "3:2", "--solver", "dpm", "--full-every", "2", "--temperature", "0.9", "--out", "out"]
    assert main(["compare", "--body", str(tmp_path / "body"), *more]) == 0
    before = (tmp_path / "out/results.jsonl").read_bytes()
    printed = re.search(r"<code>(orderhead compare [^<]* --out out)</code>", (tmp_path / "out/report.html").read_text())
    assert printed
    assert main(shlex.split(html.unescape(printed[1]))[1:]) == 0
    assert (tmp_path / "out/results.jsonl").read_bytes() == before


def test_orders_are_combined_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every verb that takes an order; commas in parentheses part no names."""
    assert options.split("blend(shift(raster),halton,0.3), random,") == ["blend(shift(raster),halton,0.3)", "random"]
    few_real_images(monkeypatch)
    written, argv = "blend(shift(raster),halton,0.3)", ["--body", str(fashion_body(tmp_path)), *FAST]
    assert main(["sample", *argv, "-n", "2", "--order", written, "--out", str(tmp_path / "s.npz")]) == 0
    assert main(["lint", "--order", written, "--grid", "4x4"]) == 0
    more = ["--orders", f"{written},raster", "--images", "12", "--out", str(tmp_path / "out")]
    assert main(["compare", *argv, *more]) == 0
    assert written in {r.row for r in results.read(tmp_path / "out/results.jsonl")}
    page = (tmp_path / "out/report.html").read_text()
    assert f'data-order="{written}"' in page
    assert main(["sample", *argv, "--order", "shift(rastr)", "--out", str(tmp_path / "s.npz")]) == 2


def test_a_study_s_command_says_who_lends_models() -> None:
    words = shlex.split(Plan(Path("again"), models=Path("out/variants")).command("variants"))
    assert console.parse(VERBS, "", words[1:]).keywords["models"] == "out/variants"


def fast(order: str = "random", **given: Any) -> orderhead.Settings:
    """The settings that the command takes from the preset fast and these options."""
    return orderhead.Settings(
        order, **options.SamplingOptions(**given).fields("fashion", orderhead.load_body().config, order, "fast")
    )


@pytest.mark.parametrize("tokenizer", ["fashion", "tiny"])
def test_what_nobody_says_goes_by_the_bodys_tokenizer(
    tokenizer: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command and the library agree, whatever the body's folder is called and whoever decodes its tokens."""
    seen = []

    def stop(settings: orderhead.Settings, *_: object) -> None:
        seen.append(settings)
        raise NotImplementedError

    monkeypatch.setattr(Sampler, "of", stop)
    folder = str(fashion_body(tmp_path)) if tokenizer == "fashion" else body
    with pytest.raises(NotImplementedError):
        orderhead.sample(orderhead.load_body(folder), [0, 1])
    with pytest.raises(NotImplementedError):
        main(["sample", "--body", folder, "--tokenizer", f"{body}/../tokenizer", "--out", str(tmp_path / "s.npz")])
    library, command = seen
    assert library == dataclasses.replace(command, rescore=1)
    found = (library.steps, library.denoise_steps, library.cfg_scale)
    assert found == {"fashion": (16, 25, 4.0), "tiny": (16, 100, 2.9)}[tokenizer]  # the tiny body has 16 cells


def test_compare_takes_the_preset_of_a_trained_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def stop(*_: object, **settings: object) -> None:
        seen.update(settings)
        raise NotImplementedError

    monkeypatch.setattr("orderhead.studies.compare.compare", stop)
    with pytest.raises(NotImplementedError):
        main(["compare", "--body", str(fashion_body(tmp_path)), "--cfg", "2", "--out", str(tmp_path / "out")])
    assert (seen["steps"], seen["denoise_steps"], seen["cfg_scale"]) == (16, 25, 2.0)


def test_help_tells_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("sample", "compare"):
        assert main([verb, "--help"]) == 0
        told = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert PRESETS["own"].keys() == PRESETS["fast"].keys() == {"fashion", "kl16"}
        for words, row in (("{} steps, {} denoising steps, cfg {:g} (fashion)", PRESETS["own"]["fashion"]),
                           ("{}, {}, {:g} (kl16 and all others)", STUDY)):  # fmt: skip
            assert words.format(row["steps"], row["denoise_steps"], row["cfg_scale"]) in told
    assert f"Images an order, {inspect.signature(compare).parameters['images'].default} where" in told


# lint, list, import, train, report.


def test_lint_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Raster's figure is the definitions': 179 pairs on 16 x 16 in 64 steps."""
    assert main(["lint", "--order", "raster,random", "--grid", "16x16", "--steps", "64", "--json"]) == 0
    raster, random = json.loads(capsys.readouterr().out)
    assert list(raster) == [
        "order", "same_step_pairs", "visible_neighbours", "mean_guidance", "guidance_spread", "entropy_bits",
    ]  # fmt: skip
    assert (raster["order"], raster["same_step_pairs"], raster["entropy_bits"]) == ("raster", 179, 0)
    assert 10 < random["same_step_pairs"] < 20


def test_lint_all_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--grid", "4x4", "--steps", "4"]) == 0
    table, legend = capsys.readouterr().out.split("\n\n")
    head, *rows = table.splitlines()
    assert {row.split()[0] for row in rows} == set(POLICIES)
    assert head.split() == ["order", *(line.split()[0] for line in legend.splitlines())]
    assert main(["lint", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(line in told for line in legend.splitlines())


def test_lint_takes_a_guidance_scale_and_as_many_steps_as_there_are_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """The second way: guidance above 1 goes with cfg - 1."""
    found = []
    for cfg in ("2", "4"):
        assert main(["lint", "--order", "raster", "--grid", "4x4", "--cfg", cfg, "--json"]) == 0
        found += json.loads(capsys.readouterr().out)
    assert found[0]["same_step_pairs"] == 0  # 16 steps
    assert found[0]["guidance_spread"] > 0.1
    for figure, at_none in (("mean_guidance", 1), ("guidance_spread", 0)):
        assert found[1][figure] - at_none == pytest.approx(3 * (found[0][figure] - at_none), abs=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_list(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["name"] and row["summary"] for row in rows)
    assert main(["list", kind]) == 0
    table = capsys.readouterr().out
    assert all(row["name"] in table for row in rows)


def test_list_orders_names_every_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "orders", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [*POLICIES, *LEARNED]


@pytest.mark.parametrize(("flag", "key"), [([], "model_ema"), (["--no-ema"], "model")])
def test_import_an_official_checkpoint(body: str, tmp_path: Path, flag: list[str], key: str) -> None:
    weights = orderhead.load_body(body).state_dict()
    checkpoint = {
        "model": {k: v + 1 for k, v in weights.items()},
        "model_ema": weights,
        "args": argparse.Namespace(a=1),
    }
    torch.save(checkpoint, tmp_path / "checkpoint-last.pth")
    assert main(["import", str(tmp_path / "checkpoint-last.pth"), "--out", str(tmp_path / "mar"), *flag]) == 0
    imported = orderhead.load_body(str(tmp_path / "mar")).state_dict()
    assert all(torch.equal(imported[k], v) for k, v in checkpoint[key].items())


def test_train_hands_the_recipe_its_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("orderhead.training.recipes.run_recipe", lambda *a: calls.append(a))
    assert main(["train", "fashion-body", "images=64", "base_lr=0.1", "--scale", "smoke"]) == 0
    assert main(["train", "fashion-body", "--out", "here", "seed=1"]) == 0
    assert calls == [
        ("fashion-body", "smoke", "runs/fashion-body-smoke", {"images": "64", "base_lr": "0.1"}, None),
        ("fashion-body", "mini", "here", {"seed": "1"}, None),
    ]


def test_class_names_are_used(body: str) -> None:
    config = orderhead.load_body(body).config
    assert options.parse_labels("all", config) == [0, 1, 2]
    assert options.parse_labels(",".join(NAMES) + ", -1", config) == [0, 1, 2, -1]
