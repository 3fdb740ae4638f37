"""`sample`: images from a body under an order, with every setting by name; `Sampler`: the same, batch after batch.

Legend: B images, L cells, C channels, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR
from orderhead.body.watched import watched
from orderhead.core.device import default_device
from orderhead.core.names import lookup
from orderhead.orders.policy import Given, Policy, ask
from orderhead.orders.spatial import SCHEDULE_OF
from orderhead.orders.state import DecodeState
from orderhead.sampling import guidance as guide
from orderhead.sampling.labels import class_numbers, image_numbers
from orderhead.sampling.presets import filled
from orderhead.sampling.sampler import Draw, Injected, decode, diffusion_draw, plain, with_null_kept
from orderhead.sampling.schedule import DenoiseSteps, rescore_steps
from orderhead.sampling.settings import Settings
from orderhead.sampling.solvers import SOLVERS
from orderhead.sampling.trace import Recorder, Trace

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
class Sampler:
    """A body under settings: everything of a run that is no image, found once for all of its batches.

    `counts` are the cells of each step. On a CPU several threads may ask it at once. A body that is trained on in
    between needs a new one.
    """

    settings: Settings
    body: MAR
    policy: Policy
    counts: tuple[int, ...]
    draw: Draw

    @classmethod
    def of(cls, settings: Settings, body: MAR, cells: int | None = None) -> Sampler:
        """`cells` are to be revealed, all where nobody says; the body is put into eval mode.

        ValueError for an unknown name or a setting out of range.
        """
        cells = body.grid.L if cells is None else cells
        settings.check(body, cells)
        body.eval()
        policy, counts = settings.policy(), settings.counts(cells)
        steps, guidance = settings.denoising(body, len(counts)), _guidance(settings, body, policy, counts)
        solver, channels = lookup("solver", settings.solver, SOLVERS), body.config.channels
        draw = diffusion_draw(body.denoiser(), solver, steps, guidance, channels, settings.need())
        return cls(settings, body, policy, counts, draw)

    def watched(self, seen: Callable[[], object]) -> Sampler:
        """The same; `seen` is called at the start of every pass of the body."""
        return replace(self, body=watched(self.body, seen))

    def __call__(self, labels_B: Tensor, index_B: Tensor, known: tuple[Tensor, Tensor] | None = None) -> Samples:
        """One image for each label and number, in one batch; `known` as in `sample`, (B, L, C) and (B, L)."""
        assert known is None or bool((known[1].sum(1) == sum(self.counts)).all()), "as many cells as the counts reveal"
        state = self._start(labels_B, index_B)
        return self._decoded(state if known is None else state.given(*known), self.draw)

    def injected(self, labels_B: Tensor, index_B: Tensor, real_BLC: Tensor) -> Samples:
        """What would be drawn if everything revealed before it were real (see `inject`)."""
        draw = Injected(self.draw, real_BLC.to(self.body.device))
        samples = self._decoded(self._start(labels_B, index_B), draw)
        return replace(samples, tokens_BLC=draw.drawn_BLC)

    def _start(self, labels_B: Tensor, index_B: Tensor) -> DecodeState:
        """Nothing is known. ValueError for no images, or numbers that do not fit the labels."""
        if len(labels_B) == 0:
            raise ValueError("no images were asked for; give at least one label")
        if index_B.shape != labels_B.shape:
            raise ValueError(f"index_B numbers each image: {len(labels_B)} labels but shape {tuple(index_B.shape)}")
        grid, channels = self.body.grid, self.body.config.channels
        return DecodeState.start(grid, channels, labels_B, index_B, self.counts, self.settings.randomness(grid.L))

    def _decoded(self, state: DecodeState, draw: Draw) -> Samples:
        settings, passes = self.settings, self.body.passes(self.settings.full_every)
        predict = plain(passes) if settings.cfg_scale == 1 else with_null_kept(passes, settings.null_every)
        asked = rescore_steps(settings.rescores(), len(self.counts))
        recorder = Recorder(self.counts, asked)
        tokens = decode(state, predict, self.policy, draw, recorder, asked).tokens_BLC
        return Samples(tokens, recorder.trace(state.labels_B), self.body.config.tokenizer)


def pilot_passes(settings: Settings) -> int:
    """How often the body is asked before the first image."""
    equalized = settings.cfg_schedule == "equalized" and settings.cfg_scale != 1
    return -(-PILOT_IMAGES // PILOT_BATCH) if equalized else 0


def _guidance(settings: Settings, body: MAR, policy: Policy, counts: tuple[int, ...]) -> guide.Guidance | None:
    """None where cfg is 1: no second half is computed at all."""
    if settings.cfg_scale == 1:
        return None
    if settings.cfg_schedule == "constant":
        return guide.constant(settings.cfg_scale)
    if settings.cfg_schedule == "linear":
        return guide.linear(settings.cfg_scale)
    return guide.equalized(settings.cfg_scale, _pilot_orders(settings, body, policy, counts), counts)


@torch.no_grad()
def _pilot_orders(settings: Settings, body: MAR, policy: Policy, counts: tuple[int, ...]) -> np.ndarray:
    """Draws (N, L) of an order from the all-masked z, over images 0 .. N - 1 and their labels in turn."""
    images = min(PILOT_IMAGES, policy.images) if isinstance(policy, Given) else PILOT_IMAGES
    index, labels = torch.arange(images), torch.arange(images, device=body.device) % body.config.classes
    rng = settings.randomness(body.grid.L)
    pilot = DecodeState.start(body.grid, body.config.channels, labels, index, counts, rng)
    scores = [ask(policy, plain(body.passes())(_rows(pilot, rows))).cpu() for rows in index.split(PILOT_BATCH)]
    return torch.cat(scores).argsort(dim=1, descending=True, stable=True).numpy()


def _rows(state: DecodeState, rows: Tensor) -> DecodeState:
    names = ("tokens_BLC", "mask_BL", "labels_B", "index_B")
    return replace(state, **{name: getattr(state, name)[rows] for name in names})


def _unknown(known: tuple[Tensor, Tensor], B: int, L: int, C: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, L, C) and mask (B, L) of an inpainting.

    ValueError where shapes do not fit, a known token is not finite, or the number of unknown cells is 0 or differs
    between images.
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
    return tokens_BLC, mask_BL


def _cells(known: tuple[Tensor, Tensor]) -> int:
    """How many cells of each image are to be generated."""
    return int(known[1][0].sum())


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
    known = None if known is None else _unknown(known, len(labels), body.grid.L, body.config.channels)
    cells = body.grid.L if known is None else _cells(known)
    given = {"steps": steps, "denoise_steps": denoise_steps, "cfg_scale": cfg_scale, "solver": solver}
    if schedule is None and isinstance(order, str) and order in SCHEDULE_OF:
        given["steps"] = None
    chosen = filled(body.config, cells, given | {"schedule": schedule}, order, preset)
    settings = Settings(
        order, **chosen, cfg_schedule=cfg_schedule, temperature=temperature, rescore=rescore, seed=seed, rng=rng,
        x0_bound=x0_bound, null_every=null_every, full_every=full_every, denoise_by=denoise_by,
    )  # fmt: skip
    return Sampler.of(settings, body, cells)(labels, index, known)


def run(
    settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, known: tuple[Tensor, Tensor] | None = None
) -> Samples:
    """`sample` with its settings in one object."""
    if known is None:
        return Sampler.of(settings, body)(labels_B, index_B)
    known = _unknown(known, len(labels_B), body.grid.L, body.config.channels)
    return Sampler.of(settings, body, _cells(known))(labels_B, index_B, known)


def inject(settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor, real_BLC: Tensor) -> Samples:
    """What would be drawn if everything revealed before it were real: tokens drawn from the contexts of real images.

    Each step's cells are drawn as `run` draws them, kept, and replaced by those of `real_BLC` (B, L, C) before the next
    step (the study's ablation 2b). The noise is that of `run`.
    """
    return Sampler.of(settings, body).injected(labels_B, index_B, real_BLC)
