"""The training loop: AdamW, warm-up and cool-down, EMA, clipping, whole checkpoints, a clear stop when it diverges.

Step t's batch and randomness are functions of (seed, t), so nothing random has to be saved: a run that was killed at
any moment and started again ends, on a CPU, in the same bits as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from orderhead.core import dist
from orderhead.core.checkpoint import load_tensors, save_tensors
from orderhead.core.device import default_device, tensor_cores
from orderhead.core.files import write_text
from orderhead.core.rng import torch_generator
from orderhead.core.text import changes
from orderhead.data.loader import batch_indices


@dataclass(frozen=True)
class Batch:
    """What a loss is given: the items, this step's randomness (a generator on the CPU), and how far the run is.

    `progress` lies in [0, 1); `seen` images came before this batch.
    """

    index_B: Tensor
    rng: torch.Generator
    progress: float = 0.0
    seen: int = 0


Loss = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, float]]]
"""model, batch -> scalar loss, further numbers to log."""

Evaluation = Callable[[nn.Module, int], dict[str, float]]
"""the averaged model, images seen -> numbers to log."""


class TrainingDivergedError(ValueError):
    """The loss or a gradient is no finite number. The last checkpoint is the last good one."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. lr = base_lr * batch / 256, after a linear warm-up, with a linear cool-down to zero.

    `cycles` > 1 repeats warm-up, plateau and cool-down that many times within `images` (WSD-S, Wen et al. 2024): what
    a cycle ends in can ship, and a longer recipe continues it. ValueError for a number out of range.
    """

    images: int
    batch: int = 64
    base_lr: float = 4e-3
    warmup_images: int = 10_000
    cooldown_images: int = 0
    cycles: int = 1
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 3.0
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if min(self.images, self.batch, self.cycles) < 1:
            raise ValueError(
                f"images, batch and cycles are at least 1, got {self.images}, {self.batch} and {self.cycles}"
            )
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in (*self.betas, self.ema_decay)):
            raise ValueError(f"betas (two) and ema_decay lie in [0, 1), got {self.betas} and {self.ema_decay}")
        if not (0 < self.base_lr < math.inf and self.weight_decay >= 0 and self.clip > 0):
            raise ValueError(
                f"base_lr > 0, weight_decay >= 0 and clip > 0; got {self.base_lr}, {self.weight_decay}, {self.clip}"
            )

    @property
    def steps(self) -> int:
        return math.ceil(self.images / self.batch)

    @property
    def log_every(self) -> int:
        """Steps from one logged step to the next: 50, and fewer in a short run, so that its curves have 40 points."""
        return max(1, min(50, self.steps // 40))

    def lr(self, step: int) -> float:
        """The learning rate of step `step` (0 is the first)."""
        seen = (step % math.ceil(self.steps / self.cycles) + 1) * self.batch
        up = min(1.0, seen / max(self.warmup_images, 1))
        left = self.images / self.cycles - seen + self.batch
        down = min(1.0, max(0.0, left / max(self.cooldown_images, 1)))
        return self.base_lr * self.batch / 256 * up * down


def identity_of(config: LoopConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a run's weights, as JSON gives it back."""
    loop = {name: value for name, value in asdict(config).items() if name != "checkpoint_seconds"}
    return json.loads(json.dumps({"loop": loop, "recipe": dict(about)}))


def check_identity(
    found: Mapping[str, Any], wanted: Mapping[str, Any], where: Path, instead: str = "choose another --out"
) -> None:
    """ValueError names what the run in `where` has other than wanted."""
    if "loop" not in found:
        raise ValueError(f"{where} is of an earlier version, which did not say all that decides a run; {instead}")
    if said := "; ".join(filter(None, (changes(found.get(part, {}), wanted[part]) for part in wanted))):
        raise ValueError(f"{where} is of a run with other settings ({said}); {instead}")


@dataclass
class _Run:
    """Everything that a checkpoint holds."""

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.AdamW
    config: str
    step: int = 0
    seconds: float = 0.0

    def named(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self, path: Path) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for name, parameter in self.named().items():
            tensors |= {f"optimizer.{name}.{k}": v for k, v in self.optimizer.state[parameter].items()}
        save_tensors(path, tensors, {"step": str(self.step), "seconds": repr(self.seconds), "config": self.config})

    def load(self, path: Path) -> None:
        tensors = load_tensors(path)
        with safe_open(path, "pt") as file:
            found = file.metadata()
        check_identity(json.loads(found.get("config", "{}")), json.loads(self.config), path)
        self.step, self.seconds = int(found["step"]), float(found["seconds"])

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        try:
            self.model.load_state_dict(part("model."))
            self.ema.load_state_dict(part("ema."))
        except RuntimeError:
            raise ValueError(f"{path} is of another recipe; choose another --out or remove it") from None
        for name, parameter in self.named().items():
            state = part(f"optimizer.{name}.")
            self.optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
            }


def _optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, gains and the diffusion MLP (as MAR's training does)."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or "diffloss" in n]
    decayed = [p for n, p in named if not (p.ndim < 2 or "diffloss" in n)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    return torch.optim.AdamW(groups, lr=config.base_lr, betas=config.betas)


def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    average = get_ema_multi_avg_fn(decay)  # all tensors in one call
    average(list(ema.parameters()), list(model.parameters()), 0)
    for averaged, current in zip(ema.buffers(), model.buffers(), strict=True):
        averaged.copy_(current)


def _batch(config: LoopConfig, n: int, step: int) -> Batch:
    """What this process sees at a step: its share of the batch, and randomness of its own where there are several."""
    rank, world = dist.rank(), dist.world_size()
    rng = torch_generator(config.seed, 1, step, *([rank] if world > 1 else []))
    share = batch_indices(n, config.batch, config.seed, step)[rank::world]
    return Batch(share, rng, step / config.steps, step * config.batch)


def _step(run: _Run, config: LoopConfig, n: int, loss_of: Loss) -> dict[str, float]:
    """One update. TrainingDivergedError leaves the run as it was before the update."""
    batch = _batch(config, n, run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = config.lr(run.step)
    with torch.random.fork_rng(devices=[]):  # dropout, where a model has it, reads the global generator
        torch.manual_seed(torch_generator(config.seed, 2, run.step).initial_seed())
        loss, logs = loss_of(run.model, batch)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    total = loss.detach().clone()
    dist.average([total, *(p.grad for p in run.named().values() if p.grad is not None)])
    norm = nn.utils.clip_grad_norm_(run.named().values(), config.clip)
    if not (torch.isfinite(total) and torch.isfinite(norm)):
        raise TrainingDivergedError(
            f"the loss is {total.item()} and the gradient norm {norm.item()} at step {run.step}; the last good "
            f"checkpoint stands; lower base_lr (now {config.base_lr}) and start in another --out"
        )
    run.optimizer.step()
    run.step += 1
    _average(run.ema, run.model, min(config.ema_decay, run.step / (run.step + 9)))
    return {"loss": total.item(), "gradient_norm": norm.item(), "lr": config.lr(run.step - 1), **logs}


def train(
    model: nn.Module,
    loss_of: Loss,
    n: int,
    config: LoopConfig,
    out: str | Path,
    every: Sequence[tuple[int, Evaluation]] = (),
    device: torch.device | None = None,
    about: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Train `model` on `n` items for `config.images` images; returns the averaged (EMA) model, in eval mode.

    `out` receives `last.safetensors` (model, average, optimizer), `log.jsonl` and TensorBoard's files; where it holds
    a checkpoint, the run goes on from there. `every` = pairs (images, evaluation of the averaged model); each is called
    at the end too. `about` says what else decides the weights (JSON). Under torchrun every process takes its share of
    each batch, and the first one evaluates and writes.
    TrainingDivergedError at a loss that is no number; ValueError where `out` holds a checkpoint of another recipe or of
    other settings.
    """
    out, device = Path(out), device or default_device()
    model = model.to(device)
    settings = identity_of(config, about or {})
    run = _Run(model, deepcopy(model).eval(), _optimizer(model, config), json.dumps(settings))
    last = out / "last.safetensors"
    if last.exists():
        run.load(last)
    dist.barrier()
    first = dist.rank() == 0
    diary = _Diary(out, run.step) if first else None
    started, saved_at = time.monotonic() - run.seconds, time.monotonic()
    bar = tqdm(total=config.steps, initial=run.step, desc=out.name, unit="step", smoothing=0.02, disable=not first)
    model.train()
    while run.step < config.steps:
        with tensor_cores(device):
            logs = _step(run, config, n, loss_of)
        bar.update()
        if diary is None:
            continue
        seen = run.step * config.batch
        last_step = run.step == config.steps
        evaluations = [fn for span, fn in every if last_step or seen // span > (seen - config.batch) // span]
        for evaluate in evaluations:
            logs |= evaluate(run.ema, seen)
        run.seconds = time.monotonic() - started
        if run.step % config.log_every == 0 or last_step or evaluations:
            bar.set_postfix(loss=f"{logs['loss']:.4f}")
            diary.write({"step": run.step, "images": seen, "seconds": round(run.seconds, 1), **logs})
        if time.monotonic() - saved_at > config.checkpoint_seconds or last_step:
            run.save(last)
            saved_at = time.monotonic()
    bar.close()
    if diary is not None:
        diary.close()
    dist.barrier()
    return run.ema.eval()


class _Diary:
    """`log.jsonl` and TensorBoard's files, from `step` on."""

    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import

        self._path = out / "log.jsonl"
        _rewind(self._path, step)
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, logs: dict[str, float]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(logs) + "\n")
        for name, value in logs.items():
            self._writer.add_scalar(name, value, logs["step"])

    def close(self) -> None:
        self._writer.close()


def _rewind(log: Path, step: int) -> None:
    """Drop what was logged after the checkpoint of `step`: those steps come again. Half lines go too."""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        write_text(log, "".join(line + "\n" for line in lines if _logged_step(line) <= step))


def _logged_step(line: str) -> float:
    """The step of a line of the log; infinity where the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
