"""What it costs, side by side: images under random order, under a head, with savings, and by the published code.

The runs of a round go forward together (`turns`); a ratio compares their seconds with random's, and the value is the
median over rounds, beside the least and the greatest. `inside` says what a head costs from within its run: 1 + the
head's own seconds over all others. Without a body weights are untrained, since time does not depend on them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from orderhead.body.load import load_body
from orderhead.body.mar import MAR, SIZES
from orderhead.core.device import default_device, device_name
from orderhead.core.names import lookup
from orderhead.orders.learned import learned
from orderhead.orders.policy import Policy
from orderhead.orders.state import DecodeState
from orderhead.sampling import flops
from orderhead.sampling.settings import Settings
from orderhead.sampling.stream import labels_of
from orderhead.studies import reference
from orderhead.studies.memory import peak
from orderhead.studies.turns import Run, alternate, sampled, wait
from orderhead.training.heads import HeadRecipe, untrained_head

RANDOM, PUBLISHED = "random", "published"
ASKINGS = ("fast", "semifast-8", "slow")
SAVINGS: Mapping[str, Mapping[str, int]] = {
    "null-2": {"null_every": 2},
    "full-2": {"full_every": 2},
    "full-4": {"full_every": 4},
}
APART, ORDERS = "apart", 10
MODES = (*ASKINGS, *SAVINGS, APART)
"""How a head is asked; what a sampler may leave out; the same images in ten batches, as ten orders are sampled."""
WARM_UPS = {"cuda": 2}  # rounds that do not count: kernels are loaded in the first, graphs recorded by the second
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = (
    "mode", "ratio", "least", "greatest", "rounds", "inside", "error", "own_error", "flops", "memory", "body", "steps",
    "denoise_steps", "batch", "dtype", "threads", "device",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is timed: a body's size, or a trained body; unmasking and denoising steps, images at once, guidance.

    `dtype` is that of the weights; the published code, which has none but float32, runs under autocast to it.
    """

    size: str = "base"
    body: str = ""
    steps: int = 64
    denoise_steps: int = 100
    batch: int = 1
    cfg_scale: float = 2.9
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is at least 1, got {self.batch}")

    @property
    def settings(self) -> Settings:
        """Random order; on a CPU with the published code's random numbers, which elsewhere are the device's own."""
        rng = "official" if default_device().type == "cpu" else "paired"
        return Settings(RANDOM, self.steps, self.denoise_steps, self.cfg_scale, rng=rng)

    def load(self) -> MAR:
        """ValueError for an unknown size, body or dtype."""
        dtype = lookup("dtype", self.dtype, DTYPES)
        if self.body:
            return load_body(self.body).to(default_device(), dtype).eval().requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = MAR(lookup("size", self.size, SIZES))
            for parameter in body.diffloss.parameters():
                nn.init.normal_(parameter, std=0.02)  # the last layers start at zero: nothing would be seen of the rest
        return body.to(default_device(), dtype).eval().requires_grad_(False)


def measure(
    setting: Setting, rounds: int = 3, modes: Sequence[str] = ASKINGS, checkout: str = "", brief: bool = False
) -> list[dict[str, object]]:
    """Each of `MODES`, and the code in `checkout` (LTH14/mar's), beside random: a row each, with `COLUMNS`.

    `brief` leaves out what the published code and ours have to run again for: memory and own_error.

    ValueError for an unknown size or mode, fewer than one round, and where the checkout is none.
    """
    if rounds < 1:
        raise ValueError(f"rounds is at least 1, got {rounds}")
    if brief and not checkout:
        raise ValueError("brief leaves out what is measured with a --reference; leave it out, or give one")
    if not modes and not checkout:
        raise ValueError("there is nothing to time; name modes, or a --reference")
    body = setting.load()
    labels_B = labels_of(torch.arange(setting.batch), body.config.classes).to(body.device)
    runs, heads = _runs(setting, body, modes, checkout)
    if checkout:
        published = reference.load(checkout, body, setting.denoise_steps)
        runs[PUBLISHED] = partial(reference.sample, published, setting.settings, labels_B, dtype=DTYPES[setting.dtype])
    for _ in range(WARM_UPS.get(body.device.type, 0)):
        alternate(runs, body.device)
    found = _rounds(runs, heads, rounds, body.device, setting.steps)
    rows = [_row(mode, found, setting) | (_head(mode, found) if mode in heads else {}) for mode in modes]
    if checkout:
        rows.append(_row(PUBLISHED, found, setting) | _published(found, setting, body, labels_B, checkout, brief))
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    return [{column: row.get(column, "") for column in columns} for row in rows]


@dataclass
class _Timed:
    """A policy, and the seconds that it took."""

    policy: Policy
    seconds: float = 0.0

    def __call__(self, state: DecodeState) -> Tensor:
        _ = state.z_BLD  # the body's own work, computed where it is first asked for
        wait(state.mask_BL.device)
        started = time.perf_counter()
        scores_BL = self.policy(state)
        wait(state.mask_BL.device)
        self.seconds += time.perf_counter() - started
        return scores_BL


def _runs(setting: Setting, body: MAR, modes: Sequence[str], checkout: str) -> tuple[dict[str, Run], dict[str, _Timed]]:
    """Random's run and those of the modes, and the heads that the latter ask."""
    for mode in modes:
        lookup("mode", mode, dict.fromkeys(MODES))
    if checkout and (others := [mode for mode in modes if mode not in ASKINGS]):
        raise ValueError(f"the published code's random numbers are for whole batches; leave out {', '.join(others)}")
    if APART in modes and setting.batch < ORDERS:
        raise ValueError(f"{APART} cuts a batch into {ORDERS}; give it at least as many images, not {setting.batch}")
    own = setting.settings if checkout else replace(setting.settings, rng="paired")
    heads = {mode: _Timed(learned(untrained_head(HeadRecipe(""), body))) for mode in modes if mode in ASKINGS}
    cases = {RANDOM: own} | {mode: replace(own, order=head, rescore=mode) for mode, head in heads.items()}
    cases |= {mode: replace(own, **SAVINGS[mode]) for mode in modes if mode in SAVINGS}
    for case in cases.values():
        case.check(body)
    runs: dict[str, Run] = {name: partial(sampled, case, body, setting.batch) for name, case in cases.items()}
    if APART in modes:
        runs[APART] = partial(sampled, own, body, setting.batch, batches=ORDERS)
    return runs, heads


@dataclass(frozen=True)
class _Found:
    """Seconds of each run, and of the heads in theirs, a number a round; and what was sampled in the last."""

    seconds: Mapping[str, list[float]]
    own: Mapping[str, list[float]]
    tokens: Mapping[str, Tensor]


def _rounds(
    runs: Mapping[str, Run], heads: Mapping[str, _Timed], rounds: int, device: torch.device, steps: int
) -> _Found:
    """Every round another run goes first: what comes after a long one may be slower."""
    found, names = _Found({name: [] for name in runs}, {name: [] for name in heads}, {}), list(runs)
    with tqdm(total=rounds * len(runs) * steps, desc="timing", unit="step") as bar:
        for k in range(rounds):
            for head in heads.values():
                head.seconds = 0.0
            first = k % len(names)
            done = alternate({name: runs[name] for name in names[first:] + names[:first]}, device, bar.update)
            for name, spent in done.seconds.items():
                found.seconds[name].append(spent)
            for name, head in heads.items():
                found.own[name].append(head.seconds)
            found = replace(found, tokens=done.tokens)
    return found


def _row(name: str, found: _Found, setting: Setting) -> dict[str, object]:
    ratios = sorted(a / b for a, b in zip(found.seconds[name], found.seconds[RANDOM], strict=True))
    return {
        "mode": name, "ratio": round(statistics.median(ratios), 4), "least": round(ratios[0], 4),
        "greatest": round(ratios[-1], 4), "rounds": len(ratios), "body": setting.body or setting.size,
        "steps": setting.steps, "denoise_steps": setting.denoise_steps, "batch": setting.batch,
        "dtype": setting.dtype, "threads": torch.get_num_threads(), "device": device_name(),
    }  # fmt: skip


def _head(mode: str, found: _Found) -> dict[str, object]:
    spent = zip(found.seconds[mode], found.own[mode], strict=True)
    return {"inside": round(statistics.median(a / (a - head) for a, head in spent), 4)}


def _published(
    found: _Found, setting: Setting, body: MAR, labels_B: Tensor, checkout: str, brief: bool
) -> dict[str, object]:
    """FLOPs, ours over the published code's; on a CPU, where its random numbers are ours, how far it is from us.

    There, unless `brief`, also memory held above the loaded model, ours over its, and how far it is from itself.
    """
    work = body.config, setting.settings, setting.batch
    costs: dict[str, object] = {"flops": round(flops.sampled(*work) / flops.published(*work), 4)}
    if body.device.type != "cpu":
        return costs
    theirs = found.tokens[PUBLISHED]
    costs["error"] = _relative(found.tokens[RANDOM], theirs)
    if not brief:
        other = reference.load(checkout, reference.reordered(body), setting.denoise_steps)
        again = reference.sample(other, setting.settings, labels_B, lambda: None, DTYPES[setting.dtype])
        costs["own_error"] = _relative(again, theirs)
        costs["memory"] = round(_memory(setting, body, labels_B, checkout), 3)
    return costs


def _relative(a: Tensor, b: Tensor) -> float:
    return float(f"{((a - b).norm() / b.norm()).item():.2g}")


def _memory(setting: Setting, body: MAR, labels_B: Tensor, checkout: str) -> float:
    """Our peak over the published code's, whose further denoising steps hold no more than the first two."""
    published, dtype = reference.load(checkout, body, min(2, setting.denoise_steps)), DTYPES[setting.dtype]
    ours = peak(lambda: sampled(setting.settings, body, setting.batch, lambda: None))
    return ours / peak(lambda: reference.sample(published, setting.settings, labels_B, lambda: None, dtype))
