"""`compare` stopped, refused or out of room: what it leaves behind, and that the same command goes on from there."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from worlds import fashion_body, few_real_images

from orderhead.cli import main
from orderhead.core import results

ORDERS = ("random", "raster", "halton")


def _compare(body: str, out: Path) -> list[str]:
    settings = ["--steps", "8", "--denoise-steps", "3", "--cfg", "2"]
    return ["compare", "--body", body, "--orders", ",".join(ORDERS), "--images", "130", *settings, "--out", str(out)]


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Iterable[str]:
    """A body for `compare`, which measures against few real images while this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        few_real_images(patch)
        yield str(fashion_body(tmp_path_factory.mktemp("fashion")))


@pytest.fixture(scope="module")
def finished(fashion: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(_compare(fashion, out)) == 0
    assert (out / "report.html").is_file()
    return out


@pytest.fixture(scope="module")
def uninterrupted(finished: Path) -> dict[tuple[str, str], tuple]:
    return numbers(finished)


def numbers(out: Path) -> dict[tuple[str, str], tuple]:
    """Every number but times, from lines that are all whole."""
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    kept = [r for r in lines if r["metric"] != "seconds_per_image"]
    found = {(r["row"], r["metric"]): (r["value"], *(r["ci"] or ()), r["n"]) for r in kept}
    assert len(found) == len(kept), "a number stands there twice"
    return found


def assert_same(found: dict[tuple[str, str], tuple], wanted: dict[tuple[str, str], tuple]) -> None:
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-8, err_msg=str(key))


def test_what_is_measured_is_not_sampled_again(
    fashion: str, finished: Path, uninterrupted: dict[tuple[str, str], tuple], tmp_path: Path
) -> None:
    """Samples are large and may be taken away; another order needs its own and the baseline's, and no others."""
    out = tmp_path / "out"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("samples"))
    assert main(_compare(fashion, out)) == 0
    assert not (out / "samples").exists()
    assert_same(numbers(out), uninterrupted)
    command = _compare(fashion, out)
    command[command.index("--orders") + 1] += ",spread"
    assert main(command) == 0
    assert {folder.name for folder in (out / "samples").iterdir()} == {"random", "spread"}
    assert_same({key: value for key, value in numbers(out).items() if key[0] != "spread"}, uninterrupted)


def test_ctrl_c_while_sampling(fashion: str, uninterrupted: dict[tuple[str, str], tuple], tmp_path: Path) -> None:
    """A real SIGINT to a real process, once its first images are written."""
    out = tmp_path / "out"
    code = (
        "import pytest, signal, sys, worlds; from orderhead.cli import main; "
        "worlds.few_real_images(pytest.MonkeyPatch()); "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background inherits a deaf one
        "sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, *_compare(fashion, out)]
    process = subprocess.Popen(argv, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("samples/*/[0-9]*.npz")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert told.splitlines()[-1].startswith("orderhead: stopped; ")
    assert "Traceback" not in told
    kept = {path: path.stat().st_mtime_ns for path in out.glob("samples/*/[0-9]*.npz")}
    assert 0 < len(kept) < 9
    assert not list(out.rglob(".*"))  # nothing half written
    assert main(_compare(fashion, out)) == 0
    assert all(path.stat().st_mtime_ns == made for path, made in kept.items())
    assert_same(numbers(out), uninterrupted)


def test_ctrl_c_while_measuring(
    fashion: str, uninterrupted: dict[tuple[str, str], tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first order's numbers; a line that was cut off is no harm either."""
    out, append = tmp_path / "out", results.append

    def append_and_stop(path: Path, lines: Iterable[results.Result]) -> None:
        append(path, lines)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(results, "append", append_and_stop)
        assert main(_compare(fashion, out)) == 130
    assert {row for row, _ in numbers(out)} == {"random"}
    whole = (out / "results.jsonl").read_text()
    with open(out / "results.jsonl", "a") as file:
        file.write('{"study": "compare", "row": "ras')
    assert main(_compare(fashion, out)) == 0
    text = (out / "results.jsonl").read_text()
    assert text.startswith(whole)
    (out / "results.jsonl").write_text("".join(x + "\n" for x in text.splitlines() if x.endswith("}")))
    assert_same(numbers(out), uninterrupted)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--orders", "random,ratser"], "did you mean 'raster'?"),
        (["--images", "0"], "at least"),
        (["--images", "4"], "at least 5"),
        (["--steps", "65"], "steps lies in [1, 64]"),
        (["--seed", "-1"], "[0, 2**32)"),
        (["--rescore", "quick"], "unknown rescore mode"),
        (["--temperature", "-1"], "temperature lies in [0, 10]"),
        (["--denoise-steps", "0"], "1"),
        (["--denoise-steps", "0", "--solver", "dpm"], "1"),
    ],
)
def test_settings_of_compare(argv: list[str], said: str, fashion: str, refused: Callable[..., str], tmp_path: Path):
    """Nothing is left behind that would stand in the way of the corrected command."""
    assert said in refused(*_compare(fashion, tmp_path / "out"), *argv)
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder(fashion: str, refused: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*_compare(fashion, out), "--orders", "raster", "--images", "6"]) == 0
    assert "other settings (seed was 0, not 1)" in refused(
        *_compare(fashion, out), "--orders", "raster", "--images", "6", "--seed", 1
    )
    (out / "run.json").write_text("null")
    assert f"{out}/run.json should hold a JSON object, got null" in refused(*_compare(fashion, out))


def test_compare_below_a_file(fashion: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        said = refused(*_compare(fashion, out))
        assert f"cannot write {out}: {tmp_path}/file is a file, not a folder; choose another --out" in said


def test_a_disk_that_fills_up_during_compare(
    fashion: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        assert f"cannot write {out}: no space left on device; make room" in refused(*_compare(fashion, out))
    assert not list(out.rglob(".*"))
    assert main([*_compare(fashion, out), "--images", "130"]) == 0
