"""`sample`: images from a body under an order, with every setting by name.

Legend: B images, L cells, C channels, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR
from orderhead.core.checks import whole, within
from orderhead.core.device import default_device
from orderhead.core.names import lookup, unknown
from orderhead.core.rng import Official, Paired, Randomness, check_seed
from orderhead.orders.learned import LEARNED, Learned, learned_by
from orderhead.orders.lint import CFG_RANGE
from orderhead.orders.policy import POLICIES, Given, Policy, Spatial, ask
from orderhead.orders.spatial import SCHEDULE_OF
from orderhead.orders.state import DecodeState
from orderhead.orders.written import spatial_order
from orderhead.sampling import guidance as guide
from orderhead.sampling.allocation import NEEDS, Need, pull
from orderhead.sampling.labels import class_numbers, image_numbers
from orderhead.sampling.presets import filled
from orderhead.sampling.sampler import Draw, Injected, decode, diffusion_draw, plain, with_null_kept
from orderhead.sampling.schedule import DenoiseSteps, counts_of, denoise_counts, rescore_steps
from orderhead.sampling.solvers import SOLVERS, Denoising
from orderhead.sampling.trace import Recorder, Trace

CFG_SCHEDULES = ("linear", "constant", "equalized")
KEPT = ("null_every", "full_every")  # periods of what is kept between steps; all 1 is exact
EXACT: Mapping[str, Any] = dict.fromkeys(KEPT, 1) | {"denoise_by": "even"}
"""What gives the published images; older runs do not name these fields, so they are named where they differ."""
PILOT_IMAGES, PILOT_BATCH = 256, 32  # orders drawn to find the mean guidance of a cell


@dataclass(frozen=True)
class Samples:
    """What `sample` gives: tokens (B, L, C), the trace, and images on demand."""

    tokens_BLC: Tensor
    trace: Trace
    tokenizer: str

    @cached_property
    def images_BCHW(self) -> Tensor:
        """Decoded images, float in [-1, 1], on the CPU. ValueError where the body names no tokenizer that is here."""
        return decode_tokens(self.tokens_BLC, self.tokenizer)

    def image_batches(self, batch: int = 64) -> Iterator[Tensor]:
        """The same images, at most `batch` at a time: 50,000 of 256 x 256 pixels are 39 GB."""
        for rows in self.tokens_BLC.split(batch):
            yield decode_tokens(rows, self.tokenizer)

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        """Those of several batches, one after the other; they are of one tokenizer."""
        tokens, traces = [part.tokens_BLC for part in parts], [part.trace for part in parts]
        return cls(torch.cat(tokens), Trace.join(traces), parts[0].tokenizer)

    def take(self, rows: slice) -> Samples:
        """Some of the images."""
        return Samples(self.tokens_BLC[rows], self.trace.take(rows), self.tokenizer)


@torch.no_grad()
def decode_tokens(tokens_BLC: Tensor, tokenizer: str, batch: int = 64) -> Tensor:
    """Tokens (B, L, C), wherever they are -> images (B, C, H, W) in [-1, 1], on the CPU."""
    device = default_device()
    model = load_tokenizer(tokenizer).to(device)
    return torch.cat([model.decode(chunk.to(device)).float().cpu() for chunk in tokens_BLC.split(batch)])


@dataclass(frozen=True)
class Settings:
    """Every setting of a run but the images' numbers and labels. The defaults are the study's.

    `order`: a name of `POLICIES` or `LEARNED`, names combined as in `shift(raster)` (`orders.written`), or a
    policy. `head`: the head that a learned order asks, by name. `schedule`: cosine, linear, one_by_one, or explicit
    counts; None takes the order's own (cosine, but for `ar_*`).
    `denoise_steps`: a number, or what `schedule.DenoiseSteps` says. `x0_bound`: None takes the body's own. `rng`:
    `paired`, or `official` for the published code's random stream. `null_every`: steps between two passes of the body
    under no label (guidance's second half); `full_every`: between two full passes of the body, which compute all cells
    and not only those that are new or asked for. With 1 both are exact. `denoise_by`: which cells of an unmasking step
    get more of its denoising steps (`sampling.allocation`).
    """

    order: str | Policy = "random"
    steps: int = 64
    denoise_steps: DenoiseSteps = 100
    cfg_scale: float = 1.0
    cfg_schedule: str = "linear"
    temperature: float = 1.0
    rescore: int | str = 1
    seed: int = 0
    rng: str = "paired"
    schedule: str | Sequence[int] | None = None
    solver: str = "ancestral"
    x0_bound: float | None = None
    head: str | None = None
    null_every: int = 1
    full_every: int = 1
    denoise_by: str = "even"

    def __post_init__(self) -> None:
        for name in ("steps", "seed", *KEPT):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        check_seed(self.seed)
        if not isinstance(self.denoise_steps, Sequence):
            object.__setattr__(self, "denoise_steps", whole("denoise_steps", self.denoise_steps))
        for name in KEPT:
            if (every := getattr(self, name)) < 1:
                raise ValueError(f"{name} is at least 1, got {every}")

    @property
    def record(self) -> dict[str, Any]:
        """The fields as data; those of `EXACT` only where they say something, so that older runs go on."""
        return {k: v for k, v in asdict(self).items() if k not in EXACT or v != EXACT[k]}

    def policy(self) -> Policy:
        if not isinstance(self.order, str):
            return self.order
        if self.order in POLICIES:
            return POLICIES[self.order]
        if "(" in self.order:
            return Spatial(spatial_order(self.order))
        if self.order not in LEARNED:
            raise unknown("order", self.order, [*POLICIES, *LEARNED])
        if self.head is None:
            raise ValueError(f"the order {self.order} asks a head; give one (`orderhead list heads`)")
        return learned_by(self.head)

    def rescores(self) -> int | str:
        """How often the policy is asked: what the order's name says, else `rescore`."""
        named = LEARNED.get(self.order) if isinstance(self.order, str) else None
        return self.rescore if named is None else named

    def counts(self, cells: int) -> tuple[int, ...]:
        schedule = self.schedule
        if schedule is None:
            schedule = SCHEDULE_OF.get(self.order, "cosine") if isinstance(self.order, str) else "cosine"
        return counts_of(schedule, self.steps, cells)

    def randomness(self, cells: int) -> Randomness:
        if self.rng == "official":
            wanted = {"solver": "ancestral", **EXACT}
            if any(getattr(self, name) != value for name, value in wanted.items()):
                said = ", ".join(f"{name} {value}" for name, value in wanted.items())
                raise ValueError(f"rng official gives the published code's images: {said}")
            return Official(self.seed, cells, guided=self.cfg_scale != 1)
        if self.rng != "paired":
            raise unknown("rng", self.rng, ("paired", "official"))
        return Paired(self.seed)

    def denoising(self, body: MAR, steps: int) -> tuple[Denoising, ...]:
        """The solver's settings at each of so many unmasking steps. ValueError for one out of range."""
        own = None if self.rng == "official" else body.config.token_bound
        bound = next((bound for bound in (self.x0_bound, own) if bound is not None), math.inf)
        return tuple(Denoising(n, self.temperature, bound) for n in denoise_counts(self.denoise_steps, steps))

    def need(self) -> Need | None:
        """What shares out denoising steps. ValueError for an unknown name."""
        return lookup("denoise_by", str(self.denoise_by), NEEDS)

    def check(self, body: MAR) -> None:
        """ValueError for any unknown name or setting out of range, before anything is sampled."""
        rescore_steps(self.rescores(), len(self.counts(body.grid.L)))
        if isinstance(policy := self.policy(), Learned):
            policy.head.fits(body.grid, body.config.decoder_width, body.config.classes)
        self.randomness(body.grid.L)
        self.denoising(body, len(self.counts(body.grid.L)))
        lookup("solver", self.solver, SOLVERS)
        self.need()
        self.check_guidance()

    def check_guidance(self) -> None:
        if self.cfg_schedule not in CFG_SCHEDULES:
            raise unknown("cfg schedule", self.cfg_schedule, CFG_SCHEDULES)
        within("cfg_scale", self.cfg_scale, *CFG_RANGE)
        guided = {"null_every": self.null_every > 1, "pull": self.need() is pull}
        for name in (name for name, given in guided.items() if given and self.cfg_scale == 1):
            raise ValueError(f"{name} is of guidance, and cfg_scale 1 is none; leave one of them out")


def _guidance(settings: Settings, body: MAR, state: DecodeState, policy: Policy) -> guide.Guidance | None:
    """None where cfg is 1: no second half is computed at all. ValueError for equalized guidance of an inpainting."""
    settings.check_guidance()
    if settings.cfg_scale == 1:
        return None
    if settings.cfg_schedule == "constant":
        return guide.constant(settings.cfg_scale)
    if settings.cfg_schedule == "linear":
        return guide.linear(settings.cfg_scale)
    if sum(state.counts) < state.grid.L:
        raise ValueError("equalized guidance is a mean over whole images; with known cells use linear or constant")
    return guide.equalized(settings.cfg_scale, _pilot_orders(body, state, policy), state.counts)


def passes_of(settings: Settings, body: MAR) -> int:
    """How often a batch asks the body for conditions."""
    pilot = -(-PILOT_IMAGES // PILOT_BATCH) if settings.cfg_schedule == "equalized" and settings.cfg_scale != 1 else 0
    return pilot + len(settings.counts(body.grid.L))


def _pilot_orders(body: MAR, state: DecodeState, policy: Policy) -> np.ndarray:
    """Draws (N, L) of an order from the all-masked z, over images 0 .. N - 1 and their labels in turn."""
    images = min(PILOT_IMAGES, policy.images) if isinstance(policy, Given) else PILOT_IMAGES
    index = torch.arange(images, device=state.labels_B.device)
    labels = index % body.config.classes
    pilot = DecodeState.start(state.grid, body.config.channels, labels, index, state.counts, state.rng)
    with torch.no_grad():
        scores = torch.cat(
            [ask(policy, plain(body.passes())(_rows(pilot, rows))).cpu() for rows in index.split(PILOT_BATCH)]
        )
    return scores.argsort(dim=1, descending=True, stable=True).numpy()


def _rows(state: DecodeState, rows: Tensor) -> DecodeState:
    names = ("tokens_BLC", "mask_BL", "labels_B", "index_B")
    return replace(state, **{name: getattr(state, name)[rows] for name in names})


def _unknown(known: tuple[Tensor, Tensor], B: int, L: int, C: int) -> tuple[Tensor, Tensor, int]:
    """Tokens (B, L, C) and mask (B, L) of an inpainting, and how many cells of each image are to be generated.

    ValueError where shapes do not fit, a known token is not finite, or that number is 0 or differs between images.
    """
    known = torch.as_tensor(known[0]), torch.as_tensor(known[1])
    try:
        tokens_BLC, mask_BL = known[0].expand(B, L, C), known[1].bool().expand(B, L)
    except RuntimeError:
        shapes = " and ".join(str(tuple(part.shape)) for part in known)
        raise ValueError(f"known is tokens ({B}, {L}, {C}) and a mask ({B}, {L}); got {shapes}") from None
    numbers = mask_BL.sum(1).unique().tolist()
    if len(numbers) != 1 or numbers[0] == 0:
        raise ValueError(f"all images of one call have the same number (> 0) of unknown cells; got {numbers}")
    if not tokens_BLC[~mask_BL.to(tokens_BLC.device)].isfinite().all():
        raise ValueError("a known token is NaN or infinite; mark such cells as unknown (mask True), or mend them")
    return tokens_BLC, mask_BL, numbers[0]


def _start(settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, known: tuple | None) -> DecodeState:
    """The state before the first step: nothing revealed, or what an inpainting knows."""
    grid, C, rng = body.grid, body.config.channels, settings.randomness(body.grid.L)
    if known is None:
        return DecodeState.start(grid, C, labels_B, index_B, settings.counts(grid.L), rng)
    tokens_BLC, mask_BL, masked = _unknown(known, len(labels_B), grid.L, C)
    return DecodeState.start(grid, C, labels_B, index_B, settings.counts(masked), rng).given(tokens_BLC, mask_BL)


def sample(
    body: MAR,
    labels_B: Sequence[int | str] | Tensor,
    order: str | Policy = "random",
    *,
    steps: int | None = None,
    denoise_steps: DenoiseSteps | None = None,
    cfg_scale: float | None = None,
    cfg_schedule: str = "linear",
    temperature: float = 1.0,
    rescore: int | str = 1,
    seed: int = 0,
    rng: str = "paired",
    schedule: str | Sequence[int] | None = None,
    solver: str | None = None,
    x0_bound: float | None = None,
    null_every: int = 1,
    full_every: int = 1,
    denoise_by: str = "even",
    preset: str = "own",
    known: tuple[Tensor, Tensor] | None = None,
    index_B: Sequence[int] | Tensor | None = None,
) -> Samples:
    """Sample one image for each label, all in one batch.

    `labels_B`: class numbers or names, -1 for no class. `known`: (tokens (B, L, C), mask (B, L), True = to be
    generated) for inpainting; the trace's order lists the known cells first, as step -1. `index_B` numbers the images
    (0, 1, ... by default): with `rng="paired"` an image is a function of (seed, number, label) alone. `steps`,
    `denoise_steps`, `cfg_scale`, `solver` and `schedule` are the `preset`'s where they are left out (`own` or `fast`:
    `sampling.presets`, the command's too), and no more steps than there are cells to reveal; a schedule of explicit
    counts or one_by_one has its own number of steps, and so has an `ar_*` order, whatever `steps` says. For the other
    settings see `Settings`.

    ValueError for an unknown name (with the nearest match) or a setting out of range.
    """
    labels = torch.tensor(class_numbers(labels_B, body.config), dtype=torch.long, device=body.device)
    index = torch.tensor(image_numbers(range(len(labels)) if index_B is None else index_B), dtype=torch.long)
    cells = body.grid.L if known is None else _unknown(known, len(labels), body.grid.L, body.config.channels)[2]
    given = {"steps": steps, "denoise_steps": denoise_steps, "cfg_scale": cfg_scale, "solver": solver}
    if schedule is None and isinstance(order, str) and order in SCHEDULE_OF:
        given["steps"] = None
    chosen = filled(body.config, cells, given | {"schedule": schedule}, order, preset)
    settings = Settings(
        order, **chosen, cfg_schedule=cfg_schedule, temperature=temperature, rescore=rescore, seed=seed, rng=rng,
        x0_bound=x0_bound, null_every=null_every, full_every=full_every, denoise_by=denoise_by,
    )  # fmt: skip
    return run(settings, body, labels, index, known)


def run(settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, known: tuple | None = None) -> Samples:
    """`sample` with its settings in one object."""
    policy, state = settings.policy(), _start(settings, body, *_fitting(labels_B, index_B), known)
    return _decoded(settings, body, policy, state, _draw(settings, body, policy, state))


def inject(settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, real_BLC: Tensor) -> Samples:
    """What would be drawn if everything revealed before it were real: tokens drawn from the contexts of real images.

    Each step's cells are drawn as `run` draws them, kept, and replaced by those of `real_BLC` (B, L, C) before the next
    step (the study's ablation 2b). The noise is that of `run`.
    """
    policy, state = settings.policy(), _start(settings, body, *_fitting(labels_B, index_B), None)
    draw = Injected(_draw(settings, body, policy, state), real_BLC.to(body.device))
    return replace(_decoded(settings, body, policy, state, draw), tokens_BLC=draw.drawn_BLC)


def _fitting(labels_B: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
    if len(labels_B) == 0:
        raise ValueError("no images were asked for; give at least one label")
    if index_B.shape != labels_B.shape:
        raise ValueError(f"index_B numbers each image: {len(labels_B)} labels but shape {tuple(index_B.shape)}")
    return labels_B, index_B


def _draw(settings: Settings, body: MAR, policy: Policy, state: DecodeState) -> Draw:
    """The diffusion head of the body, which is put into eval mode, under the settings' solver and guidance."""
    body.eval()
    guidance = _guidance(settings, body, state, policy)
    solver = lookup("solver", settings.solver, SOLVERS)
    steps = settings.denoising(body, len(state.counts))
    return diffusion_draw(body.denoiser(), solver, steps, guidance, body.config.channels, settings.need())


def _decoded(settings: Settings, body: MAR, policy: Policy, state: DecodeState, draw: Draw) -> Samples:
    passes = body.passes(settings.full_every)
    predict = plain(passes) if settings.cfg_scale == 1 else with_null_kept(passes, settings.null_every)
    asked = rescore_steps(settings.rescores(), len(state.counts))
    recorder = Recorder(state.counts, asked)
    tokens = decode(state, predict, policy, draw, recorder, asked).tokens_BLC
    return Samples(tokens, recorder.trace(state.labels_B), body.config.tokenizer)
