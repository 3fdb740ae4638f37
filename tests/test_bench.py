"""The benchmark: runs that go forward together, their ratios, memory, the published code, and what is said of them."""

import json
import sys

import numpy as np
import pytest
import torch
from worlds import bare_body

from orderhead.body.watched import watched
from orderhead.cli import main
from orderhead.core.text import aligned
from orderhead.sampling.sample import run
from orderhead.sampling.settings import Settings
from orderhead.studies import bench, reference, turns
from orderhead.studies.memory import peak

SHORT = Settings(steps=4, denoise_steps=2, cfg_scale=2.0)
CPU = torch.device("cpu")


def _run(settings: Settings, body=None):
    body, labels = body or bare_body(), torch.tensor([1])
    return lambda pause: run(settings, watched(body, pause), labels, torch.tensor([0])).tokens_BLC


def test_every_run_makes_every_step_in_turn():
    body, steps, told = bare_body(), [], []

    def noting(name):
        def noted(pause):
            return _run(SHORT, body)(lambda: (pause(), steps.append(name)))

        return noted

    done = turns.alternate({"one": noting("one"), "two": noting("two")}, CPU, lambda: told.append(1))
    assert steps == ["one", "two"] * 4
    assert len(told) == 8
    assert all(spent > 0 for spent in done.seconds.values())
    assert torch.equal(done.tokens["one"], run(SHORT, body, torch.tensor([1]), torch.tensor([0])).tokens_BLC)
    assert torch.equal(done.tokens["one"], done.tokens["two"])
    assert "passes" not in vars(body)  # the body itself stays as it was


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_fails_in_one_run_is_raised_and_stops_the_others(error):
    steps = []

    def broken(state):
        raise error("no scores today")

    def other(pause):
        return _run(SHORT)(lambda: (pause(), steps.append(1)))

    with pytest.raises(error, match="no scores today"):
        turns.alternate({"one": _run(Settings(order=broken, steps=4, denoise_steps=2)), "two": other}, CPU)
    assert len(steps) < 4


# Memory.


def test_memory_is_what_is_held_at_one_time():
    before = torch.zeros(1000)

    def work():
        made = torch.zeros(200)
        other = made + 1
        view = other[:10]
        del made, other  # the view holds it
        return torch.zeros(50) + before.view(-1)[:50] + view.sum()

    assert peak(work) == 4 * 400
    assert peak(lambda: before.view(10, 100)[0]) == 0  # what was there before is not counted, nor are views of it


@pytest.mark.parametrize("what", ["images", "steps"])
def test_memory_grows_no_faster_than_images_and_not_with_steps(what):
    """With twice the images at most twice the memory; with twice the steps hardly more (what the trace keeps)."""

    def held(images, steps):
        labels = torch.zeros(images, dtype=torch.long)
        return peak(lambda: run(Settings(steps=steps, denoise_steps=2), bare_body(), labels, torch.arange(images)))

    once, twice = held(8, 4), held(*((16, 4) if what == "images" else (8, 8)))
    assert twice <= (2 if what == "images" else 1.1) * once


# The published code. What stands in for it here has its interface and none of its code.

STAND_IN = """
import numpy as np
import torch
from orderhead.body.mar import MAR as Ours, MARConfig
from orderhead.sampling.sample import run
from orderhead.sampling.settings import Settings

class MAR(Ours):
    def __init__(self, img_size, vae_stride, patch_size, vae_embed_dim, class_num, encoder_embed_dim, encoder_depth,
                 encoder_num_heads, decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, norm_layer,
                 buffer_size, diffloss_d, diffloss_w, num_sampling_steps):
        side = img_size // vae_stride // patch_size
        super().__init__(MARConfig(
            side, side, vae_embed_dim, class_num, encoder_embed_dim, encoder_depth, encoder_num_heads,
            decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, buffer_size, diffloss_w, diffloss_d))
        self.denoise_steps = int(num_sampling_steps)

    def forward_mae_encoder(self, *args):
        return args

    def sample_tokens(self, bsz, num_iter, cfg, cfg_schedule, labels, temperature):
        assert torch.zeros(1).cuda().device == labels.device
        seed = int(torch.initial_seed())
        assert np.random.get_state()[1][0] == seed
        for _ in range(num_iter):
            self.forward_mae_encoder()
        settings = Settings("random", num_iter, self.denoise_steps, cfg, cfg_schedule, seed=seed, rng="official")
        tokens = run(settings, self, labels, torch.arange(bsz)).tokens_BLC
        return 1.01 * tokens.transpose(1, 2).reshape(bsz, -1, self.config.grid_h, self.config.grid_w)
"""


@pytest.fixture
def checkout(tmp_path):
    for name, text in {"models/mar.py": STAND_IN, "models/diffloss.py": "", "diffusion/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_published_code_is_run_beside_ours(checkout, capsys):
    path, cuda, stream = list(sys.path), torch.Tensor.cuda, np.random.get_state()[1]  # noqa: NPY002
    arguments = ["--size", "tiny", "--steps", "4", "--denoise-steps", "2", "--rounds", "2", "--modes", "none"]
    assert main(["bench", *arguments, "--reference", str(checkout), "--json"]) == 0
    assert not [name for name in sys.modules if name.partition(".")[0] in ("models", "diffusion")]
    (row,) = json.loads(capsys.readouterr().out)
    assert row["mode"] == "published"
    assert 0 < row["least"] <= row["ratio"] <= row["greatest"]
    assert row["error"] == pytest.approx(0.0099, rel=0.01)  # it stands in with our own sampler, times 1.01
    assert 0 < row["own_error"] < 1e-4
    assert row["memory"] == 1
    assert row["flops"] < 0.955
    assert sys.path == path
    assert torch.Tensor.cuda is cuda
    assert (np.random.get_state()[1] == stream).all()  # noqa: NPY002


def test_brief_leaves_out_what_runs_again(checkout, capsys):
    arguments = [
        "bench",
        "--size",
        "tiny",
        "--steps",
        "2",
        "--denoise-steps",
        "2",
        "--rounds",
        "1",
        "--brief",
        "--json",
    ]
    assert main([*arguments, "--modes", "none", "--reference", str(checkout)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["error"] > 0
    assert not {"own_error", "memory"} & row.keys()
    assert main(arguments) == 2
    assert "leave it out, or give one" in capsys.readouterr().err


def test_a_folder_that_is_no_checkout_is_told(tmp_path, capsys):
    assert main(["bench", "--size", "tiny", "--reference", str(tmp_path)]) == 2
    assert "models/mar.py; give a checkout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [("import nowhere", "cannot be imported here: No module named 'nowhere'"),
     ("import torch\n\ndef MAR(**sizes):\n    return torch.nn.Linear(1, 1)", "is another model")],
)  # fmt: skip
def test_a_checkout_that_does_not_work_is_told(checkout, text, says, capsys):
    (checkout / "models/mar.py").write_text(text)
    assert main(["bench", "--size", "tiny", "--modes", "none", "--reference", str(checkout)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_small_numbers_are_shown():
    rows = [{"mode": "a", "error": "", "n": 1}, {"mode": "b", "error": 2.34e-6, "n": 20}]
    assert aligned(rows).splitlines() == ["mode    error   n", "a               1", "b     2.3e-06  20"]


def test_other_sums_are_the_same_function():
    body, other = bare_body(), reference.reordered(bare_body())
    labels, mask = torch.tensor([0, 2]), torch.ones(2, 16, dtype=torch.bool)
    z = [model.predict(torch.zeros(2, 16, 4), mask, labels) for model in (body, other)]
    torch.testing.assert_close(z[0], z[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(body.encoder_blocks[0].mlp.fc1.weight, other.encoder_blocks[0].mlp.fc1.weight)


# Ratios.


def test_ratios_are_of_one_round_and_their_median_is_told(monkeypatch):
    rounds = iter([
        {"random": 1.0, "fast": 1.1, "slow": 2.0}, {"random": 2.0, "fast": 2.4, "slow": 4.2},
        {"random": 4.0, "fast": 4.0, "slow": 8.0},
    ])  # fmt: skip
    monkeypatch.setattr(bench, "alternate", lambda *args: turns.Round(next(rounds)))
    fast, slow = bench.measure(bench.Setting("tiny", steps=16, denoise_steps=5), rounds=3, modes=("fast", "slow"))
    assert (fast["ratio"], fast["least"], fast["greatest"]) == (1.1, 1.0, 1.2)
    assert (slow["ratio"], slow["rounds"]) == (2.0, 3)


def test_the_command_measures(capsys):
    arguments = ["--size", "tiny", "--steps", "4", "--denoise-steps", "2", "--rounds", "1"]
    assert main(["bench", *arguments, "--json"]) == 0
    rows = {row["mode"]: row for row in json.loads(capsys.readouterr().out)}
    assert all(rows[mode]["inside"] > 1 for mode in ("fast", "slow"))


def test_savings_and_batches_are_measured_beside_random(capsys, monkeypatch):
    """All of the same images, on the same random numbers."""
    ran = []
    monkeypatch.setattr(
        bench, "sampled", lambda *args, **how: (ran.append((args[0], how)), turns.sampled(*args, **how))[1]
    )
    arguments = ["--size", "tiny", "--steps", "4", "--denoise-steps", "2", "--rounds", "1", "--batch", "10"]
    assert main(["bench", *arguments, "--modes", "full-2,null-2,apart", "--json"]) == 0
    rows = {row["mode"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["full-2", "null-2", "apart"]
    assert all(row["ratio"] > 0 and "inside" not in row for row in rows.values())
    assert [(s.rng, s.full_every, s.null_every, how) for s, how in ran] == [
        ("paired", 1, 1, {}), ("paired", 2, 1, {}), ("paired", 1, 2, {}), ("paired", 1, 1, {"batches": 10}),
    ]  # fmt: skip


def test_batches_are_the_same_images():
    body, times = bare_body(), []
    apart = turns.sampled(SHORT, body, 11, lambda: times.append(1), batches=10)
    assert len(times) == 4
    torch.testing.assert_close(apart, turns.sampled(SHORT, body, 11, lambda: None), atol=1e-4, rtol=1e-4)


WRONG = {
    "size": ["--size", "tinny"], "rounds": ["--rounds", "0"], "mode": ["--modes", "slo", "--size", "tiny"],
    "savings": ["--modes", "full-2", "--reference", "mar", "--size", "tiny"],
    "apart": ["--modes", "apart", "--batch", "9", "--size", "tiny"],
    "threads": ["--threads", "0"], "nothing": ["--modes", "none"], "steps": ["--steps", "65", "--size", "tiny"],
    "batch": ["--batch", "0", "--size", "tiny"], "pareto's": ["--images", "9", "--size", "tiny"],
    "judges": ["--features", "inception", "--size", "tiny"],
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_settings_are_told_in_one_line(case, capsys):
    assert main(["bench", *WRONG[case]]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
