"""Every setting of a run but the images' numbers and labels, and what they mean for a body.

Legend: L cells, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orderhead.body.mar import MAR
from orderhead.core.checks import check_seed, whole, within
from orderhead.core.names import lookup, unknown
from orderhead.core.rng import Official, Paired, Randomness
from orderhead.orders.guidance import CFG_RANGE
from orderhead.orders.learned import LEARNED, Learned, learned_by
from orderhead.orders.policy import POLICIES, Policy, Spatial
from orderhead.orders.spatial import SCHEDULE_OF
from orderhead.orders.written import spatial_order
from orderhead.sampling.allocation import NEEDS, Need, pull
from orderhead.sampling.schedule import DenoiseSteps, counts_of, denoise_counts, rescore_steps
from orderhead.sampling.solvers import SOLVERS, Denoising

CFG_SCHEDULES = ("linear", "constant", "equalized")
KEPT = ("null_every", "full_every")  # periods of what is kept between steps; all 1 is exact
EXACT: Mapping[str, Any] = dict.fromkeys(KEPT, 1) | {"denoise_by": "even"}
"""What gives the published images; older runs do not name these fields, so they are named where they differ."""


@dataclass(frozen=True)
class Settings:
    """Every setting of a run but the images' numbers and labels. The defaults are the study's, but for
    guidance: without a `cfg_scale` there is none.

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

    def check(self, body: MAR, cells: int | None = None) -> None:
        """ValueError for any unknown name or setting out of range, before anything is sampled.

        `cells` are to be revealed; all where nobody says.
        """
        counts = self.counts(body.grid.L if cells is None else cells)
        rescore_steps(self.rescores(), len(counts))
        if isinstance(policy := self.policy(), Learned):
            policy.head.fits(body.grid, body.config.decoder_width, body.config.classes)
        self.randomness(body.grid.L)
        self.denoising(body, len(counts))
        lookup("solver", self.solver, SOLVERS)
        self.need()
        self._check_guidance(sum(counts) < body.grid.L)

    def _check_guidance(self, inpaints: bool) -> None:
        if self.cfg_schedule not in CFG_SCHEDULES:
            raise unknown("cfg schedule", self.cfg_schedule, CFG_SCHEDULES)
        within("cfg_scale", self.cfg_scale, *CFG_RANGE)
        guided = {"null_every": self.null_every > 1, "pull": self.need() is pull}
        for name in (name for name, given in guided.items() if given and self.cfg_scale == 1):
            raise ValueError(f"{name} is of guidance, and cfg_scale 1 is none; leave one of them out")
        if inpaints and self.cfg_schedule == "equalized" and self.cfg_scale != 1:
            raise ValueError("equalized guidance is a mean over whole images; with known cells use linear or constant")
