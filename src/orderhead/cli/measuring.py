"""Verbs that measure orders and bodies, most of which end in a page: demo, compare, study, diagnose, schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from orderhead import console
from orderhead.console import Int, OptionalInt, show, wrote
from orderhead.core.checks import check_seed
from orderhead.options import (
    GroundOptions,
    JudgeOptions,
    JudgingOptions,
    Names,
    SamplingOptions,
    parse_seeds,
    split,
)


def demo(
    *,
    out: str = "out/demo",
    orders: Names = "default",
    images: OptionalInt = None,
    steps: OptionalInt = None,
    seed: Int = 0,
) -> None:
    """Compare the orders on the body that ships, and write one page about it.

    Running it again goes on where it stopped.

    For example:
        orderhead demo --out out/demo

    Args:
        out: Folder for results.jsonl, traces and report.html.
        orders: Names from `orderhead list orders`, or names combined (`orderhead list combinators`). By default ten of them and two of the head that ships; random is always among them.
        images: Images an order, 100 where this is left out.
        steps: Unmasking steps, 16 where this is left out.
        seed: Every order starts from this seed's noise.
    """  # noqa: E501
    from orderhead.studies.compare import DEMO_ORDERS, LEARNED_ORDERS

    options = SamplingOptions(steps=steps, seed=seed)
    if orders == "default":
        orders = ",".join((*DEMO_ORDERS, *LEARNED_ORDERS))
    _compare("demo", out, "fashion", orders, images, options)


def compare(
    *,
    body: str = "fashion",
    orders: Names = "default",
    images: OptionalInt = None,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    judging: OmitArgPrefixes[JudgingOptions] = JudgingOptions(),
    tokenizer: str = "auto",
    out: str = "out/compare",
) -> None:
    """Compare orders on any body: results.jsonl, traces and one page with paired intervals.

    Running it again goes on where it stopped. The second example gives FID-5K: the real images are centre-cropped and
    resized as MAR's, their features are kept in ~/.cache/orderhead (or ORDERHEAD_CACHE).

    For example:
        orderhead compare --body fashion --orders random,raster,halton --images 500 --steps 8 --out out/compare
        orderhead compare --body bodies/mar-base --tokenizer tokenizers/kl16 --orders random,multiscale --images 5000 --real imagenet/val --features inception --weights pt_inception-2015-12-05-6726825d.pth --out out/mar

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        orders: Names from `orderhead list orders`, or names combined (`orderhead list combinators`). By default those of `demo`, but for the head's; random is always among them.
        images: Images an order, 100 where this is left out.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: Folder for results.jsonl, traces and report.html.
    """  # noqa: E501
    _compare("compare", out, body, orders, images, sampling, judging.given(), tokenizer)


def _compare(
    study: str,
    out: str,
    body: str,
    orders: str,
    images: int | None,
    sampling: SamplingOptions,
    judging: Mapping[str, str] | None = None,
    tokenizer: str = "auto",
) -> None:
    from orderhead.body.load import body_config
    from orderhead.core import dist
    from orderhead.report import build
    from orderhead.studies.compare import DEMO_ORDERS
    from orderhead.studies.compare import compare as run

    given = {"orders": None if orders == "default" else split(orders), "images": images}
    sampling.check(given["orders"] or DEMO_ORDERS)
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = sampling.fields(body, body_config(body))
    run(out, body=body, study=study, judging=judging or {}, tokenizer=tokenizer, **chosen, **settings)
    if dist.rank() == 0:
        wrote(build(out))


def study(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    *,
    scale: Annotated[str, arg(metavar="smoke|mini|full")] = "mini",
    only: Annotated[str, arg(metavar="ROW,...")] = "all",
    images: OptionalInt = None,
    seeds: Annotated[str, arg(metavar="0,1,...")] = "0",
    cfg_schedule: Literal["linear", "constant", "equalized"] = "linear",
    ground: OmitArgPrefixes[GroundOptions] = GroundOptions(),
    judging: OmitArgPrefixes[JudgeOptions] = JudgeOptions(),
    models: Annotated[str, arg(metavar="DIR")] = "OUT",
    out: str = "out/study-NAME",
) -> None:
    """Run a section of the study, or all: train its rows, measure them against random, write the page.

    Running it again goes on where it stopped; a row that is done is passed over. Several seeds (of heuristics and
    variants) are runs of their own, in OUT/seed-0, OUT/seed-1, ..., and a table of what they have in common. `all`
    tells what it will cost, runs every section in OUT/SECTION, and ends in a table of the document's claims: which hold
    here, which fail.

    For example:
        orderhead study variants --scale mini --out out/variants
        orderhead study variants --scale smoke --only oracle_aligned,oracle_unfrozen --out out/smoke
        orderhead study variants --cfg-schedule equalized --models out/variants --out out/equalized
        orderhead study heuristics --only multiscale,raster --images 200 --out out/heuristics
        orderhead study all --scale smoke --out out/all

    Args:
        name: A section from `orderhead list studies` without a command of its own, or all.
        scale: Seconds, an hour or two on two cores, or the document's own.
        only: Rows of the section; sections of all.
        images: Images a row.
        seeds: Of training and of noise.
        cfg_schedule: How guidance is spread over steps.
        models: Another run of the study, whose trained models are measured again.
        out: Folder for the trained models, results.jsonl and report.html.
    """
    from pathlib import Path

    from orderhead.core import dist
    from orderhead.core.names import lookup
    from orderhead.report import build
    from orderhead.studies import STUDIES, check_pooled, pool
    from orderhead.studies.plan import Plan

    numbers, out = parse_seeds(seeds), out.replace("NAME", name)
    lookup("study", name, STUDIES)
    if len(numbers) > 1:
        check_pooled(name)
    rows = () if only == "all" else tuple(split(only))
    trained = None if models == "OUT" else Path(models)
    plan = Plan(
        Path(out), scale, rows, ground.given(), images, judging.given(), {"cfg_schedule": cfg_schedule}, trained
    )
    each = [plan.seeded(seed, alone=len(numbers) == 1) for seed in numbers]
    for one in each:
        folder = STUDIES[name](one)
        if dist.rank() == 0:
            wrote(build(folder))
    if len(each) > 1:
        wrote(pool(name, Path(out), [one.out for one in each]))


def schedule(
    *,
    body: str = "fashion",
    steps: OptionalInt = None,
    images: Int = 200,
    real: Annotated[str, arg(metavar="FOLDER")] = "auto",
    seed: Int = 0,
    tokenizer: str = "auto",
    json: bool = False,
    out: str = "out/schedule",
) -> None:
    """Find how many cells to reveal a step, so that drawing them together costs least.

    A body's likelihood bound on real images says what a cell costs when so many are known; from that follows what an
    image costs under any schedule, and which one costs least. It is a mean over random contexts: the schedule is for random
    order. Running it again goes on where it stopped.

    For example:
        orderhead schedule --steps 8 --out out/schedule
        orderhead schedule --body bodies/mar-base --tokenizer tokenizers/kl16 --real imagenet/train --steps 32 --out out/schedule

    Columns:
        bits          what a real image costs the body when it is revealed so; the least is nearest to what is true
        minus_cosine  bits minus those under the cosine schedule, on the same images; lo, hi: 95 %
        counts        cells a step: what --schedule takes

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        steps: Unmasking steps; auto is the preset's.
        images: Real images: half to choose by, half to measure.
        real: Real images: a folder with one subfolder a class, or fashion-train; auto is what ships for the tokenizer.
        seed: Of the choice of images, their orders and noise.
        tokenizer: What turns images into tokens: a name, a folder, or a hub id; auto is the body's.
        json: Print JSON instead of a table.
        out: Folder for the bits of each cell, and schedules.json.
    """  # noqa: E501
    from pathlib import Path

    from orderhead.report import build
    from orderhead.studies.information import schedules

    check_seed(seed, "--seed")
    chosen = None if real == "auto" else real
    show(schedules(Path(out), body, steps, images, chosen, tokenizer, seed), json)
    page = build(out)
    if not json:
        print(f"\n{console.section(schedule, 'Columns')}\n")
        wrote(page)


def diagnose(
    *,
    body: str = "fashion",
    order: Annotated[str, arg(metavar="A,B,...")],
    images: OptionalInt = None,
    bits: bool = False,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    judging: OmitArgPrefixes[JudgeOptions] = JudgeOptions(),
    tokenizer: str = "auto",
    out: str = "out/diagnose",
) -> None:
    """Take an order's gap to random apart: guidance, cells drawn together, sameness, its own mistakes, mismatch.

    One thing is switched at a time, on common noise; bits of real images say the same without sampling. Running it
    again goes on where it stopped.

    For example:
        orderhead diagnose --order raster --out out/raster
        orderhead diagnose --order raster,learned_slow --images 1000 --out out/why
        orderhead diagnose --bits --order raster,halton,multiscale --out out/bits

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        order: One name from `orderhead list orders`, or several; their random runs are shared.
        images: Images a run, 400 where this is left out; there are seven runs an order, and three of random.
        bits: Only bits of at most 128 real images: nothing is sampled or judged, an order takes a minute or two.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: Folder for results.jsonl, samples and report.html.
    """
    from orderhead.body.load import body_config
    from orderhead.report import build
    from orderhead.studies.diagnose import diagnose as run

    chosen = {} if images is None else {"images": images}
    sampling.check(split(order))
    settings = sampling.fields(body, body_config(body))
    if bits and (judges := [f"--{name}" for name in judging.given() if name != "real"]):
        raise ValueError(f"--bits judges no images; leave out {' and '.join(judges)}")
    given = {"judging": judging.given(), "tokenizer": tokenizer, "sampled": not bits}
    run(out, body=body, orders=split(order), **given, **chosen, **settings)
    wrote(build(out))
