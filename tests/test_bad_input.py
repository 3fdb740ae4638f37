"""Bad input: exit code 2 and one line that says what is wrong and what to do; nothing is run, nothing half written."""

import argparse
import errno
import inspect
import json
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import COMMAND, one_line, tiny_body

import orderhead
from orderhead.cli import VERBS, main

FAST = ("--steps", "4", "--denoise-steps", "2")


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_body(tmp_path_factory.mktemp("world")))


# Words.


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["smaple"], "did you mean 'sample'?"),
        (["--stepz"], "unknown command"),
        (["sample"], "--out"),
        (["sample", "--stepz", "3", "--out", "x.png"], "--steps"),
        (["sample", "--steps", "many", "--out", "x.png"], "'many' is not a whole number"),
        (["sample", "--cfg", "much", "--out", "x.png"], "'much' is not a number"),
        (["sample", "--cfg-schedule", "linar", "--out", "x.png"], "'linear'"),
        (["sample", "-n", "1.5", "--out", "x.png"], "'1.5' is not a whole number"),
        (["sample", "--out", "x.bmp"], ".png, .gif or .npz"),
        (["sample", "--head", "fashion-aligned", "--out", "x.png"], "--head is asked by learned orders only"),
        (["sample", "--order", "learned_fast", "--rescore", "slow", "--out", "x.png"], "learned_fast says itself how"),
        (["compare", "--orders", "halton", "--head", "fashion-aligned", "--out", "x"], "--head is asked by learned"),
        (["list", "order"], "did you mean 'orders'?"),
        (["list", "orders", "more"], "more"),
        (["lint", "--order", "multiscal"], "did you mean 'multiscale'?"),
        (["lint", "--cfg", "nan"], "cfg_scale lies in [0, 100]"),
        (["lint", "--grid", "16"], "for example 16x16"),
        (["lint", "--grid", "0x4"], "at least one row"),
        (["lint", "--grid", "100000x100000"], "at most 16,384 cells"),
        (["lint", "--grid", "128x129"], "at most 16,384 cells"),
        (["lint", "--grid", "4x4", "--steps", "17"], "steps lies in [1, 16]"),
        (["lint", "--grid", "4x4", "--steps", "0"], "steps lies in [1, 16]"),
        (["train", "fashion-bdy"], "did you mean 'fashion-body'?"),
        (["train", "fashion-body", "--scale", "huge"], "unknown scale 'huge'"),
        (["train", "fashion-body", "imges=3"], "did you mean 'images'?"),
        (["train", "fashion-body", "images=few"], "'few'"),
        (["train", "fashion-body", "images"], "FIELD=VALUE"),
        (["report", "no-such-folder"], "no-such-folder"),
    ],
)
def test_words(
    argv: list[str], said: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*argv)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("empty", ["", " ", ",,"])
@pytest.mark.parametrize(
    "argv",
    [
        ["sample", "--out", ""],
        ["sample", "--out", "x.png", "--labels", ""],
        ["sample", "--out", "x.png", "--body", ""],
        ["sample", "--out", "x.png", "--order", ""],
        ["sample", "--out", "x.png", "--tokenizer", ""],
        ["demo", "--out", ""],
        ["compare", "--out", ""],
        ["compare", "--out", "x", "--orders", ""],
        ["lint", "--order", ""],
        ["study", "variants", "--only", ""],
        ["import", "x.pth", "--out", ""],
        ["train", "fashion-body", "--out", ""],
        ["report", ""],
        ["sample", "--out", "x.png", "--order", "learned", "--head", ""],
        ["sample", "--out", "x.png", "--schedule", ""],
        ["sample", "--out", "x.png", "--rescore", ""],
        ["compare", "--out", "x", "--features", ""],
        ["diagnose", "--order", "raster", "--out", "x", "--real", ""],
        ["train", "oracle_aligned", "--out", "x", "--train-images", ""],
    ],
)
def test_empty_words(
    argv: list[str], empty: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unset variable in a script is not a default."""
    monkeypatch.chdir(tmp_path)
    named = argv[-2] if argv[-2].startswith("--") else "folder"
    assert f"{named} names nothing, got {empty!r}; see" in refused(*argv[:-1], empty)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS.values())
def test_no_default_is_an_empty_word(verb: Callable[..., None]) -> None:
    """It would be refused like one."""
    assert [p.name for p in inspect.signature(verb).parameters.values() if p.default == ""] == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--order", "ratser"], "did you mean 'raster'?"),
        (["--labels", "ankle bot"], "did you mean 'ankle boot'?"),
        (["--labels", "3"], "labels lie in [0, 3)"),
        (["--labels", "-2"], "-1 for no class"),
        (["--steps", "17"], "steps lies in [1, 16]"),
        (["--steps", "0"], "steps lies in [1, 16]"),
        (["--schedule", "3,4,5,6"], "sum to 16"),
        (["--schedule", "cosin"], "did you mean 'cosine'?"),
        (["--rescore", "quick"], "unknown rescore mode"),
        (["--rescore", "5"], "rescore lies in [1, steps = 4]"),
        (["--denoise-steps", "0"], ""),
        (["--temperature", "1e9"], "temperature lies in [0, 10]"),
        (["--cfg", "-1"], "cfg_scale lies in [0, 100]"),
        (["--cfg", "inf"], "cfg_scale lies in [0, 100]"),
        (["--schedule", "1,3,12"], "the schedule has 3 steps of its own, got steps 4"),
        (["--schedule", "one_by_one"], "the schedule has 16 steps of its own, got steps 4"),
        (["--order", "ar_raster"], "the schedule has 16 steps of its own, got steps 4"),
        (["--temperature", "-1"], "temperature lies in [0, 10]"),
        (["--seed", "-1"], "[0, 2**32)"),
        (["-n", "0"], "at least 1"),
        (["-n", "-3"], "at least 1"),
        (["--tokenizer", "kl17"], "unknown tokenizer 'kl17'"),
    ],
)
def test_settings_of_sample(argv: list[str], said: str, body: str, refused: Callable[..., str], tmp_path: Path):
    assert said in refused("sample", "--body", body, "-n", 2, *FAST, *argv, "--out", tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_unknown_body(refused: Callable[..., str]) -> None:
    assert "unknown body 'fashon'" in refused("sample", "--body", "fashon", "--out", "x.png")


def test_a_body_without_class_names(body: str, refused: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "body"
    other.mkdir()
    for file in Path(body).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (config.get("config") or config)["class_names"] = []
    (other / "config.json").write_text(json.dumps(config))
    said = refused("sample", "--body", other, "--labels", "coat", *FAST, "--out", tmp_path / "x.png")
    assert "labels are numbers below 3" in said


def test_images_of_other_settings_are_not_mixed(body: str, refused: Callable[..., str], tmp_path: Path) -> None:
    argv = ["sample", "--body", body, "-n", "1", *FAST, "--out", f"{tmp_path}/pictures/"]
    assert main(argv) == 0
    assert "other settings" in refused(*argv, "--seed", 5)


# Files that are not what they should be.


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "no config", "no object", "other model"])
def test_damaged_body_folder(damage: str, body: str, refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "body"
    folder.mkdir()
    for file in Path(body).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "no config":
        (folder / "config.json").unlink()
    elif damage == "no object":
        (folder / "config.json").write_text("[3]")
    elif damage == "other model":
        weights.write_bytes((Path(body).parent / "tokenizer" / "model.safetensors").read_bytes())
    else:
        weights.write_bytes(weights.read_bytes()[: 0 if damage == "empty" else 2000])
    said = refused("sample", "--body", folder, *FAST, "--out", tmp_path / "x.png")
    assert str(folder) in said
    assert ("should hold a JSON object, got [3]" in said) == (damage == "no object")


@pytest.mark.parametrize(
    "name", [None, 3, "", " ", "/nonexistent", "./none", "../none/body", "none/of/these", "fashon"]
)
def test_a_body_that_is_not_there(name: object) -> None:
    """Nobody asks the hub for what cannot be a hub id."""
    with pytest.raises(ValueError, match=r"a shipped name, a folder or a hub id|unknown body 'fashon'"):
        orderhead.load_body(name)


def test_a_hub_id(body: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is asked once, its reason is told whole, and what it gives is loaded like a folder."""
    reason = "Got: ConnectError: " + "all of the words that the hub has to say about an absent network " * 3
    asked = []

    def absent(name: str, **_: object) -> str:
        asked.append(name)
        raise OSError(reason + "\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    said = refused("sample", "--body", "owner/name", "--out", "x.png")
    assert f"there is no folder owner/name, and the hub gives no body of that name: {reason}and more" in said
    assert asked == ["owner/name"]
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: body)
    assert orderhead.load_body("owner/name").config == orderhead.load_body(body).config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_width": "64"}, "config.json wants encoder_width as int, got '64'"),
        ({"classes": 3.5}, "config.json wants classes as int, got 3.5"),
        ({"token_bound": "4"}, "config.json wants token_bound as float | None, got '4'"),
        ({"class_names": "bag"}, "config.json wants class_names as tuple"),
        ({"channels": 5}, "size mismatch for z_proj.weight"),
        ({"decoder_depth": 2}, 'Missing key(s) in state_dict: "decoder_blocks.1.'),
    ],
)
def test_a_config_that_does_not_fit(changes: dict, said: str, body: str, tmp_path: Path) -> None:
    """The cause is told, and no word of it is cut in two."""
    config = json.loads((Path(body) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    (tmp_path / "model.safetensors").write_bytes((Path(body) / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=f"^cannot load MAR from {tmp_path}") as found:
        orderhead.load_body(str(tmp_path))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


class _Code:
    """A pickle of this makes a file when it is loaded by a reader that trusts it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def _checkpoints(tmp_path: Path, body: str) -> dict[str, Path]:
    weights = orderhead.load_body(body).state_dict()
    made = {
        name: tmp_path / f"{name}.pth" for name in ("code", "raw code", "truncated", "foreign", "text", "misshapen")
    }
    torch.save({"model": weights, "args": _Code(str(tmp_path / "ran"))}, made["code"])
    made["raw code"].write_bytes(pickle.dumps(_Code(str(tmp_path / "ran"))))
    torch.save({"model_ema": weights, "args": argparse.Namespace()}, made["truncated"])
    made["truncated"].write_bytes(made["truncated"].read_bytes()[:10_000])
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, made["foreign"])
    made["text"].write_text("<html>not found</html>")
    torch.save({"model_ema": weights | {"z_proj.weight": torch.zeros(3, 3)}}, made["misshapen"])
    return made


@pytest.mark.parametrize("kind", ["code", "raw code", "truncated", "foreign", "text", "misshapen"])
def test_import_refuses_what_is_no_checkpoint(
    kind: str, body: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = _checkpoints(tmp_path, body)[kind]
    assert str(path) in refused("import", path, "--out", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_the_pickle_of_these_tests_does_run_elsewhere(tmp_path: Path) -> None:
    """The second way: a reader that trusts it runs it, so that it stayed away above means something."""
    pickle.loads(pickle.dumps(_Code(str(tmp_path / "ran"))))
    assert (tmp_path / "ran").exists()


def test_import_of_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no file" in refused("import", tmp_path / "none.pth", "--out", tmp_path / "out")


# Folders that cannot be written.


def _writers(body: str, out: str) -> list[list[str]]:
    sample = ["sample", "--body", body, "-n", "1", *FAST, "--out"]
    return [[*sample, f"{out}/x.png"], [*sample, f"{out}/x.gif"], [*sample, f"{out}/x.npz"], [*sample, f"{out}/x/"]]


def test_a_path_below_a_file(body: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for below in ("file", "file/deeper"):
        for argv in _writers(body, str(tmp_path / below)):
            assert refused(*argv) == (
                f"orderhead: cannot write {argv[-1]}: {tmp_path}/file is a file, not a folder; choose another --out"
            )


def test_import_below_a_file(body: str, refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save({"model_ema": orderhead.load_body(body).state_dict()}, tmp_path / "c.pth")
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("import", tmp_path / "c.pth", "--out", tmp_path / "file")
    assert "cannot write" in refused("import", tmp_path / "c.pth", "--out", tmp_path / "file" / "out")


def test_an_input_that_cannot_be_read_is_not_blamed_on_the_output(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where both lie in the same folder."""
    monkeypatch.chdir(tmp_path)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "c.pth")

    monkeypatch.setattr("orderhead.body.official.import_checkpoint", denied)
    assert refused("import", "c.pth", "--out", "body") == "orderhead: c.pth: permission denied"


def test_a_full_disk(body: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", full)
    said = refused("sample", "--body", body, "-n", 1, *FAST, "--out", tmp_path / "x.npz")
    assert (
        said == f"orderhead: cannot write {tmp_path}/x.npz: no space left on device; make room or choose another --out"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_only_so_much(body: str, tmp_path: Path) -> None:
    """The system itself refuses: a limit on the size of files."""
    checkpoint = tmp_path / "c.pth"
    torch.save({"model_ema": orderhead.load_body(body).state_dict()}, checkpoint)
    limited = [
        "bash",
        "-c",
        'ulimit -f 8; exec "$@"',
        "bash",
        *COMMAND,
        "import",
        checkpoint,
        "--out",
        tmp_path / "out",
    ]
    own = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # or Python leaves cut-off .pyc files in the environment
    done = subprocess.run(limited, capture_output=True, text=True, env=own)
    assert done.returncode == 2, done.stderr
    assert str(tmp_path / "out") in one_line(done.stderr)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [checkpoint]


# Ctrl-C.


def test_ctrl_c_is_told_in_one_line(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orderhead.sampling.export.batches", interrupted)
    assert main(["sample", "--body", body, "-n", "1", *FAST, "--out", str(tmp_path / "x.png")]) == 130
    assert "running the same command again continues" in one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
