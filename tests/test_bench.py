"""The benchmark: runs that go forward together, their ratios, and what they say."""

import json

import pytest
from worlds import bare_body

from orderhead.cli import main
from orderhead.sampling.sample import Settings
from orderhead.studies import bench

SHORT = Settings(steps=4, denoise_steps=2, cfg_scale=2.0)


def test_runs_take_turns_step_by_step():
    said = []
    turns = bench.Turns(["a", "b"])
    turns.take("a")
    for name, other in (("a", "b"), ("b", "a")):
        turns.leave(name)
        turns.take(other)
        said.append(other)
    turns.leave("a", done=True)
    turns.take("b")
    turns.leave("b", done=True)
    assert said == ["b", "a"]
    assert turns.seconds["a"] > 0 < turns.seconds["b"]


def test_every_run_makes_every_step_in_turn():
    body, steps = bare_body(), []
    seconds = bench.together({"one": SHORT, "two": SHORT}, body, 1, lambda: steps.append(1))
    assert len(steps) == 8
    assert all(spent > 0 for spent in seconds.values())
    assert "predict" not in vars(body)  # the body itself stays as it was


def test_what_fails_in_one_run_stops_none_and_is_raised():
    def broken(state):
        raise ValueError("no scores today")

    with pytest.raises(ValueError, match="no scores today"):
        bench.together({"one": SHORT, "two": Settings(order=broken, steps=4, denoise_steps=2)}, bare_body(), 1)


def test_ratios_are_of_one_round_and_their_median_is_told(monkeypatch):
    rounds = iter([
        {"random": 1.0, "fast": 1.1, "slow": 2.0}, {"random": 2.0, "fast": 2.4, "slow": 4.2},
        {"random": 4.0, "fast": 4.0, "slow": 8.0},
    ])  # fmt: skip
    monkeypatch.setattr(bench, "together", lambda *args: next(rounds))
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
