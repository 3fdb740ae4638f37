"""The loop: resumed equals uninterrupted, a diverged run keeps its last good checkpoint, a frozen part stays put."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from orderhead.body import MAR, SIZES
from orderhead.body.diffusion import TIMESTEPS, Diffusion, loss_terms
from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.training import recipes
from orderhead.training.loop import LoopConfig, TrainingDivergedError, check_identity, identity_of, train
from orderhead.training.recipe import configure
from orderhead.training.recipes import RECIPES
from orderhead.training.variants import HEAD_RECIPES

CPU = torch.device("cpu")
CONFIG = LoopConfig(
    images=30 * 8, batch=8, base_lr=0.1, warmup_images=40, cooldown_images=80, checkpoint_seconds=0.0, clip=1.0
)


def _data():
    g = torch.Generator().manual_seed(0)
    return torch.randn(50, 6, generator=g), torch.randint(0, 3, (50,), generator=g)


def _model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 3))


def _loss(model, batch):
    x, y = _data()
    index_B, rng = batch.index_B, batch.rng
    noisy = x[index_B] + 0.1 * torch.randn(len(index_B), 6, generator=rng)
    return nn.functional.cross_entropy(model(noisy), y[index_B]), {}


def _bits(model):
    return {k: v.numpy().tobytes() for k, v in model.state_dict().items()}


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = train(_model(), _loss, 50, CONFIG, tmp_path / "whole", device=CPU)

    class KilledError(Exception):
        pass

    def killer(model, seen):
        if seen == 16 * 8:
            raise KilledError
        return {}

    with pytest.raises(KilledError):
        train(_model(), _loss, 50, CONFIG, tmp_path / "parts", [(8, killer)], device=CPU)
    assert _bits(train(_model(), _loss, 50, CONFIG, tmp_path / "parts", device=CPU)) == _bits(whole)


CHILD = """
import sys, time, torch
sys.path.insert(0, {tests!r})
import test_training as t
torch.set_num_threads(1)
slow = lambda model, seen: time.sleep(0.05) or {{}}
t.train(t._model(), t._loss, 50, t.CONFIG, {out!r}, [(8, slow)], device=t.CPU)
"""


def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    whole = train(_model(), _loss, 50, CONFIG, tmp_path / "whole", device=CPU)
    code = CHILD.format(tests=str(Path(__file__).parent), out=str(tmp_path / "killed"))
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log = tmp_path / "killed/last.safetensors"
    deadline = time.monotonic() + 300
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    load_tensors(log)  # whole, whenever the kill came
    assert _bits(train(_model(), _loss, 50, CONFIG, tmp_path / "killed", device=CPU)) == _bits(whole)
    assert not list((tmp_path / "killed").rglob(".*"))  # nothing half written stays


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path):
    def exploding(model, batch):
        loss, logs = _loss(model, batch)
        return (loss * torch.nan if exploding.steps == 0 else loss), logs | {"left": _count(exploding)}

    exploding.steps = 10
    with pytest.raises(TrainingDivergedError, match="lower base_lr") as caught:
        train(_model(), exploding, 50, CONFIG, tmp_path, device=CPU)
    assert "\n" not in str(caught.value)
    saved = load_tensors(tmp_path / "last.safetensors")
    assert all(torch.isfinite(v).all() for v in saved.values())


def _count(function):
    function.steps -= 1
    return float(function.steps)


def test_the_average_and_the_learning_rate_follow_their_formulas(tmp_path):
    config = dataclasses.replace(CONFIG, images=4 * 8, ema_decay=0.5)
    seen = []

    def watch(model, images):
        seen.append(model[0].weight.clone())
        return {}

    average = train(_model(), _loss, 50, config, tmp_path, [(8, watch)], device=CPU)
    final = load_tensors(tmp_path / "last.safetensors")
    decay = min(0.5, 4 / 13)  # of the fourth step: the average starts young
    by_hand = decay * seen[2] + (1 - decay) * final["model.0.weight"]
    assert torch.allclose(average[0].weight, by_hand, atol=1e-7)
    peak = CONFIG.base_lr * 8 / 256
    assert [CONFIG.lr(s) / peak for s in (0, 4, 10, 19, 20, 29)] == pytest.approx([0.2, 1, 1, 1, 1, 0.1])


def test_a_frozen_part_is_byte_identical_after_training(tmp_path):
    model = _model()
    model[0].requires_grad_(False)
    before = _bits(model[0])
    trained = train(model, _loss, 50, CONFIG, tmp_path, device=CPU)
    assert _bits(model[0]) == before == _bits(trained[0])
    assert _bits(model[3]) != _bits(_model()[3])


def test_the_log_has_a_line_a_logged_step_and_tensorboard_its_file(tmp_path):
    train(_model(), _loss, 50, CONFIG, tmp_path, [(80, lambda m, n: {"seen": float(n)})], device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["seen"] for line in lines if "seen" in line] == [80.0, 160.0, 240.0]
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (8, 1), (79, 1), (80, 2), (400, 10), (2000, 50), (10**6, 50)])
def test_a_short_run_logs_forty_points_and_a_long_one_every_fiftieth(steps, every):
    config = LoopConfig(images=8 * steps, batch=8)
    assert config.log_every == every
    assert steps // every >= min(steps, 40)


def test_a_resumed_short_run_logs_the_steps_of_a_whole_one(tmp_path):
    """Killed at step 50 of 90 and gone on from the checkpoint of step 49: every second step once, and the last."""
    config = dataclasses.replace(CONFIG, images=90 * 8 - 5)

    class KilledError(Exception):
        pass

    def killed(model, batch):
        if batch.seen == 49 * 8:
            raise KilledError
        return _loss(model, batch)

    train(_model(), _loss, 50, config, tmp_path / "whole", device=CPU)
    with pytest.raises(KilledError):
        train(_model(), killed, 50, config, tmp_path / "parts", device=CPU)
    train(_model(), _loss, 50, config, tmp_path / "parts", device=CPU)
    assert [line["step"] for line in _logged(tmp_path / "parts")] == list(range(2, 91, 2))
    assert _logged(tmp_path / "parts") == _logged(tmp_path / "whole")


def test_no_step_is_logged_twice_after_a_kill(tmp_path):
    """Stopped at step 24 of 30, last checkpoint at 12: the log and TensorBoard's events are those of a whole run."""
    rare, late = dataclasses.replace(CONFIG, checkpoint_seconds=1e9), lambda model, seen: {"seen": float(seen)}
    train(_model(), _loss, 50, rare, tmp_path / "whole", [(8, late)], device=CPU)

    class KilledError(Exception):
        pass

    def killer(model, seen):
        if seen == 13 * 8:
            (tmp_path / "parts/last.safetensors").rename(tmp_path / "step-12")
        if seen == 24 * 8:
            raise KilledError
        return {"seen": float(seen)}

    with pytest.raises(KilledError):
        train(_model(), _loss, 50, CONFIG, tmp_path / "parts", [(8, killer)], device=CPU)
    (tmp_path / "step-12").replace(tmp_path / "parts/last.safetensors")
    with open(tmp_path / "parts/log.jsonl", "a") as file:
        file.write('{"step": 24, "im')
    train(_model(), _loss, 50, rare, tmp_path / "parts", [(8, late)], device=CPU)
    assert _logged(tmp_path / "parts") == _logged(tmp_path / "whole")
    assert _events(tmp_path / "parts") == _events(tmp_path / "whole")


def _logged(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def _events(out):
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_another_recipes_checkpoint_is_refused(tmp_path):
    train(_model(), _loss, 50, dataclasses.replace(CONFIG, images=8), tmp_path, device=CPU)
    with pytest.raises(ValueError, match="another recipe"):
        train(nn.Linear(6, 3), _loss, 50, dataclasses.replace(CONFIG, images=8), tmp_path, device=CPU)


# Losses.


def test_the_bodys_loss_on_masked_cells_equals_the_published_masked_mean():
    """Second way: the diffusion loss on all cells, masked out afterwards, as the published code does."""
    config = dataclasses.replace(SIZES["tiny"], encoder_depth=1, decoder_depth=1, diffloss_depth=1)
    body = MAR(config)
    torch.nn.init.normal_(body.diffloss.net.final_layer.linear.weight, std=0.1)
    g = torch.Generator().manual_seed(0)
    tokens, mask, labels = torch.randn(3, 64, 4, generator=g), torch.rand(3, 64, generator=g) < 0.8, torch.arange(3)
    t, noise = torch.randint(0, TIMESTEPS, (3 * 64,), generator=g), torch.randn(3 * 64, 4, generator=g)
    process, z = Diffusion.cosine(), body.predict(tokens, mask, labels).flatten(0, 1)
    everywhere = loss_terms(process, lambda x, t: body.denoise(x, t, z), tokens.flatten(0, 1), t, noise)
    flat = mask.flatten()
    published = (everywhere * flat).sum() / flat.sum()
    z_M = z[flat]
    ours = loss_terms(process, lambda x, t: body.denoise(x, t, z_M), tokens[mask], t[flat], noise[flat]).mean()
    assert ours.item() == pytest.approx(published.item(), rel=1e-5)


# Recipes.


@pytest.fixture
def world(monkeypatch, tmp_path):
    """Forty training images that were never photographed, and a cache of this test's own."""
    g = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 1, 32, 32, generator=g) * 2 - 1, torch.arange(40) % 10
    monkeypatch.setattr("orderhead.data.fashion.training_set", lambda: (images, labels))
    monkeypatch.setattr("orderhead.data.fashion.test_set", lambda: (images, labels))
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_at_smoke_scale_and_its_folder_loads(world, name, monkeypatch):
    averaged = []
    monkeypatch.setattr(recipes, "train", lambda *args, **how: averaged.append(train(*args, **how)) or averaged[0])
    recipes.run_recipe(name, "smoke", world / name, {"batch": "8", "images": "24"})
    model = averaged[0]
    back = type(model).from_pretrained(str(world / name), strict=True)
    assert back.config == model.config
    assert _bits(back) == _bits(model)


@pytest.mark.parametrize("name", [*RECIPES, *HEAD_RECIPES])
def test_no_run_goes_on_with_another_value_of_any_setting_of_the_loop(name):
    """Whatever a recipe says about itself must not hide what the loop is told."""
    recipe, _ = recipes._recipe(name, "smoke", {}, None)
    config = recipe.scales["smoke"]
    own = identity_of(config, recipe.about)
    for field in dataclasses.fields(LoopConfig):
        value = CHANGED[field.name] if field.name in CHANGED else getattr(config, field.name) + 1
        other = dataclasses.replace(config, **{field.name: value})
        if field.name == "checkpoint_seconds":
            check_identity(own, identity_of(other, recipe.about), Path("out"))
            continue
        with pytest.raises(ValueError, match=f"out is of a run with other settings .{field.name} was"):
            check_identity(own, identity_of(other, recipe.about), Path("out"))


CHANGED = {"betas": (0.8, 0.9), "ema_decay": 0.5}


def test_what_is_trained_already_is_passed_over_and_nothing_in_its_folder_changes(world):
    out, few = world / "out", {"batch": "8", "images": "24"}

    def written():
        return {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}

    recipes.run_recipe("fashion-metric", "smoke", out, few)
    (out / "last.safetensors").unlink()  # it is large, and not needed any more
    before = written()
    recipes.run_recipe("fashion-metric", "smoke", out, few)
    assert written() == before
    with pytest.raises(ValueError, match="images was 24, not 32"):
        recipes.run_recipe("fashion-metric", "smoke", out, few | {"images": "32"})
    assert written() == before


def test_a_finished_run_is_its_recipe_s_and_has_its_model(world):
    out, few = world / "out", {"batch": "8", "images": "16"}
    recipes.run_recipe("scratch_plain", "smoke", out, few)
    with pytest.raises(ValueError, match='name was "scratch_plain", not "scratch_plain_large"'):
        recipes.run_recipe("scratch_plain_large", "smoke", out, few)
    before = load_tensors(out / "model.safetensors")
    (out / "model.safetensors").unlink()
    recipes.run_recipe("scratch_plain", "smoke", out, few)
    assert all(torch.equal(before[k], v) for k, v in load_tensors(out / "model.safetensors").items())


def test_a_checkpoint_of_an_earlier_version_is_told(tmp_path):
    train(_model(), _loss, 50, dataclasses.replace(CONFIG, images=8), tmp_path, device=CPU)
    last = tmp_path / "last.safetensors"
    save_tensors(last, load_tensors(last), {"step": "1", "seconds": "1.0", "config": json.dumps({"images": 8})})
    with pytest.raises(ValueError, match="of an earlier version"):
        train(_model(), _loss, 50, dataclasses.replace(CONFIG, images=8), tmp_path, device=CPU)


def test_fields_are_overridden_by_name_and_checked():
    config = configure(CONFIG, {"images": "64", "betas": "0.8,0.9", "base_lr": "1e-3"})
    assert (config.images, config.betas, config.base_lr) == (64, (0.8, 0.9), 1e-3)
    with pytest.raises(ValueError, match="did you mean 'images'"):
        configure(CONFIG, {"image": "64"})
    with pytest.raises(ValueError, match="images is a int"):
        configure(CONFIG, {"images": "many"})
    for name, text in {"batch": "0", "images": "-1", "betas": "0.9", "ema_decay": "1", "base_lr": "nan"}.items():
        with pytest.raises(ValueError, match=f"{name}.*got"):
            configure(CONFIG, {name: text})


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path):
    train(_model(), _loss, 50, dataclasses.replace(CONFIG, images=8), tmp_path, device=CPU)
    with pytest.raises(ValueError, match="other settings"):
        train(_model(), _loss, 50, CONFIG, tmp_path, device=CPU)
    faster_saves = dataclasses.replace(CONFIG, images=8, checkpoint_seconds=9.0)
    train(_model(), _loss, 50, faster_saves, tmp_path, device=CPU)


SEVERAL = """
import sys, torch
from torch import nn
from orderhead.core import dist
from orderhead.core.checkpoint import save_tensors
from orderhead.training.loop import LoopConfig, train

x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
def loss_of(model, batch):
    return (model(x[batch.index_B]) - x[batch.index_B].sum(1, keepdim=True)).square().mean(), {}

torch.manual_seed(1)
config = LoopConfig(images=80, batch=8, base_lr=0.3, warmup_images=8)
model = train(nn.Linear(6, 1), loss_of, 50, config, sys.argv[1], device=torch.device("cpu"))
save_tensors(f"{sys.argv[1]}/of-{dist.rank()}.safetensors", model.state_dict())
"""


def test_two_processes_train_the_model_of_one(tmp_path):
    """Where the loss is a mean over items, the mean of the halves' gradients is the whole batch's."""
    (tmp_path / "script.py").write_text(SEVERAL)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "one")]
    together = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(tmp_path / "script.py"), str(tmp_path / "two"),
    ]  # fmt: skip
    for command in (alone, together):
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    one = load_tensors(tmp_path / "one/of-0.safetensors")
    for rank in (0, 1):
        found = load_tensors(tmp_path / f"two/of-{rank}.safetensors")
        torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-4)
    logged = (tmp_path / "two/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == list(range(1, 11))  # one of the two writes
