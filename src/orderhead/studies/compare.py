"""Orders side by side on one body: the same images (same noise, same labels) under each order, measured in pairs.

checkpoint -> samples/ -> results.jsonl, traces/, panels/, curves/ -> report.html; each stage skips what is there, so a
run that was stopped goes on when it is started again.

Legend: N images, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from orderhead.body.load import load_body, load_tokenizer, with_tokenizer
from orderhead.body.mar import MAR
from orderhead.core import dist, results
from orderhead.core.device import default_device
from orderhead.core.files import read_json, write_json
from orderhead.core.results import Result
from orderhead.data.latents import fingerprint
from orderhead.orders.learned import Learned
from orderhead.sampling import stream
from orderhead.sampling.settings import Settings
from orderhead.studies import folders
from orderhead.studies.rows import SHOWN_IMAGES, Row
from orderhead.studies.told import Told
from orderhead.studies.worlds import LEAST_IMAGES, Jury, World

DEMO_ORDERS = (
    "random", "raster", "multiscale", "center_spiral", "edge_spiral", "center_perturbed", "blockwise", "halton",
    "checkerboard", "spread",
)  # fmt: skip
LEARNED_ORDERS = ("learned_fast", "learned_slow")  # where a head was trained on the body
BASELINE = "random"


@dataclass(frozen=True)
class Arm:
    """What one row is sampled with: settings, the order among them, and a body where it is not the run's own.

    `about` says what a policy that is no name was made from.
    """

    settings: Settings
    body: MAR | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its numbers differ from those of other rows under the same protocol."""
        own = {} if self.body is None else {"own_weights": fingerprint(self.body)}
        return own | head_identity(self.settings) | dict(self.about)


def head_identity(settings: Settings) -> dict[str, Any]:
    """Which head an order asks, and how often; empty for orders that ask none."""
    policy = settings.policy()
    if not isinstance(policy, Learned):
        return {}
    return {"head": settings.head, "head_weights": fingerprint(policy.head), "asked": settings.rescores()}


def common_protocol(body_name: str, body: MAR, images: int, settings: Settings, own: Sequence[str]) -> dict[str, Any]:
    """What changes every number of a run, as JSON gives it back; fields of settings that are a row's `own` left out."""
    fields = {k: v for k, v in replace(settings, order="").record.items() if k not in own}
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    fields["x0_bound"] = "inf" if fields["x0_bound"] == math.inf else fields["x0_bound"]
    models = {"weights": body, "tokenizer": load_tokenizer(body.config.tokenizer)}
    return {"body": body_name, **{k: fingerprint(m) for k, m in models.items()}, "images": images, **fields}


@dataclass(frozen=True)
class Comparison:
    """One run: a body, settings, arms, the number of images, who judges them, and the folder that holds it all.

    `arms` are the rows by name, the baseline first. `own`: fields of settings that they choose for themselves, beside
    order and head. `given`: how its sources were named, for the command on the page; `reported`: numbers of others that
    stand beside a row, `told` whole tables of theirs. `command`: what runs it, where its fields do not say.
    """

    out: Path
    study: str
    body_name: str
    body: MAR
    arms: Mapping[str, Arm]
    images: int
    settings: Settings
    world: World
    given: Mapping[str, str] = field(default_factory=dict)
    reported: Mapping[str, float | None] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    told: tuple[Told, ...] = ()
    command: str | None = None

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """What changes every row's numbers, as it stands in each result (and as JSON gives it back)."""
        own = ("order", "head", *self.own)
        return common_protocol(self.body_name, self.body, self.images, self.settings, own) | self.world.identity

    def identity(self, name: str) -> dict[str, Any]:
        """What changes the numbers of this row alone."""
        arm = self.arms[name]
        return {field: getattr(arm.settings, field) for field in self.own} | arm.identity

    @property
    def description(self) -> dict[str, Any]:
        """What `run.json` says before anything is measured."""
        config = self.body.config
        return {
            "study": self.study,
            "body": self.body_name,
            "grid": [config.grid_h, config.grid_w],
            "class_names": list(config.class_names) or [str(k) for k in range(config.classes)],
            "baseline": BASELINE,
            "orders": list(self.arms),
            "arms": {name: self.identity(name) for name in self.arms},
            "images": self.images,
            "shown": list(range(min(SHOWN_IMAGES, self.images))),
            "protocol": self.protocol,
            "given": dict(self.given),
            "reported": dict(self.reported),
            "command": self.command,
            "told": [table.record for table in self.told],
            "left_out": self.world.left_out,
        }

    def row(self, order: str, jury: Jury) -> Row:
        samples, seconds = stream.read(self.out / "samples" / order, self.images, self.body.config.tokenizer)
        return Row.of(order, samples, seconds, jury, self.out, self.body.grid)


def compare(
    out: str | Path,
    *,
    body: str = "fashion",
    orders: Sequence[str] = DEMO_ORDERS,
    images: int = 100,
    study: str = "compare",
    judging: Mapping[str, str] = MappingProxyType({}),
    tokenizer: str = "auto",
    **settings: Any,
) -> Path:
    """Sample `images` images under each order, measure them against random, and write all but the page into `out`.

    `judging` names what they are measured by (fields of `studies.worlds.Sources`), where that is not what ships for
    the body's tokenizer; `tokenizer` replaces the body's. `settings` are fields of `sampling.settings.Settings`. The
    baseline is always among the orders. Run again in the same folder, it goes on where it stopped. ValueError for an
    unknown name, a setting out of range or a source that does not fit, and where `out` holds a run with other settings.
    """
    model = load_body(body).to(default_device())
    model.config = with_tokenizer(model.config, tokenizer)
    if images < LEAST_IMAGES:
        raise ValueError(f"a comparison takes at least {LEAST_IMAGES} images an order, got {images}")
    base = Settings(**settings)
    arms = {order: Arm(replace(base, order=order)) for order in (BASELINE, *orders)}
    for arm in arms.values():
        arm.settings.check(model)
    given = {**judging, **({} if tokenizer == "auto" else {"tokenizer": tokenizer})}
    world = World.of(model.config, judging)
    return execute(Comparison(Path(out), study, body, model, arms, images, base, world, given))


def execute(run: Comparison) -> Path:
    """Sample and measure every arm of a comparison, going on from what its folder holds.

    Where everything is measured, nothing is sampled: samples may have been taken away.
    """
    claim(run)
    missing = _missing(run)
    for name in tqdm(dict.fromkeys([BASELINE, *missing] if missing else []), desc="sampling", unit="order", delay=2):
        arm = run.arms[name]
        stream.write(arm.settings, arm.body or run.body, run.images, run.out / "samples" / name, title=name)
    dist.barrier()
    if missing and dist.rank() == 0:
        _measure(run, missing)
    return run.out / "report.html"


def claim(run: Comparison) -> None:
    """Write `run.json`, beside the rows that the folder has had before. ValueError where it holds a run whose numbers
    would not belong with these."""
    folders.claim(run.out, run.description, "arms", ("orders", "reported"))


def _missing(run: Comparison) -> list[str]:
    """Orders that are not in `results.jsonl` yet, the baseline first if it is one of them."""
    path = run.out / "results.jsonl"
    known = {(r.row, r.metric) for r in results.read(path)} if path.exists() else set()
    return [order for order in run.arms if (order, "seconds_per_image") not in known]


def _measure(run: Comparison, orders: Sequence[str]) -> None:
    path = run.out / "results.jsonl"
    jury = Jury.of(run.world, run.images)
    write_json(run.out / "run.json", read_json(run.out / "run.json") | {"reference": jury.summary})
    baseline = run.row(BASELINE, jury)
    for order in tqdm(orders, desc="measuring", unit="order", delay=2):
        row = baseline if order == BASELINE else run.row(order, jury)
        results.append(path, _lines(run, row, baseline, jury))


def _lines(run: Comparison, row: Row, baseline: Row, jury: Jury) -> list[Result]:
    """Every number of an order; differences to the baseline are lines of their own, the cost comes last."""
    estimates = row.estimates(jury) | ({} if row is baseline else row.minus(baseline, jury))
    settings = run.arms[row.order].settings
    figures = row.figures(run.body.grid, settings.cfg_schedule, settings.cfg_scale)
    numbers = {name: (e.value, e.ci, e.n) for name, e in estimates.items()}
    numbers |= {name: (value, None, run.images) for name, value in figures.items()}
    protocol = run.protocol | run.identity(row.order)
    return [
        Result(run.study, row.order, name, float(value), ci, n, protocol, round(row.seconds, 3))
        for name, (value, ci, n) in numbers.items()
    ]
