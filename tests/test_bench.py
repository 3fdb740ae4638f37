"""The benchmark: each mode once a round, ratios of runs of one round, and what they say."""

import json

import pytest

from orderhead.cli import main
from orderhead.studies import bench


def test_rounds_start_with_another_mode_each_time():
    assert list(bench._interleaved(["a", "b", "c"], 2)) == ["a", "b", "c", "b", "c", "a"]


def test_ratios_are_of_one_round_and_their_median_is_told(monkeypatch):
    times = {"random": iter([1.0, 2.0, 4.0]), 1: iter([1.1, 2.4, 4.0]), "slow": iter([2.0, 4.2, 8.0])}
    monkeypatch.setattr(bench, "_seconds", lambda settings, body, batch: next(
        times["random" if settings.order == "random" else settings.rescore]))  # fmt: skip
    times["fast"] = times.pop(1)
    fast, slow = bench.rescoring(bench.Setting("tiny", 16, 5), rounds=3, modes=("fast", "slow"))
    assert (fast["ratio"], fast["least"], fast["greatest"]) == (1.1, 1.0, 1.2)
    assert (slow["ratio"], slow["rounds"]) == (2.0, 3)


def test_the_command_measures(capsys):
    arguments = ["--size", "tiny", "--steps", "4", "--denoise-steps", "2", "--rounds", "1"]
    assert main(["bench", *arguments, "--json"]) == 0
    rows = {row["mode"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["slow"]["inside"] > rows["fast"]["inside"] > 1  # four askings cost more than one


@pytest.mark.parametrize(
    "arguments", [["--size", "tinny"], ["--rounds", "0"], ["--threads", "0"], ["--steps", "65", "--size", "tiny"]]
)
def test_bad_settings_are_told_in_one_line(arguments, capsys):
    assert main(["bench", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
