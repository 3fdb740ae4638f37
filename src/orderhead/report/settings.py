"""The same orders under several settings, or on several bodies: a row an order, a column a setting, cells its gap."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from orderhead.core.results import Result, by_row
from orderhead.report import draw, markup
from orderhead.report.words import interval, number

Gaps = Mapping[tuple[str, str], Result]
"""(order, setting) -> a figure minus random's under the same setting, with its interval."""


@dataclass(frozen=True)
class Figure:
    """What a grid shows: a metric that is a difference to random, what it is, its digits, and how to read it."""

    metric: str
    says: str
    digits: int
    note: str = ""


FIGURES = (
    Figure(
        "fd_minus_random",
        "Frechet distance minus that of random order under the same setting, on the same noise",
        2,
        "An order that loses in every column does not lose by that setting.",
    ),
    Figure("gap_fd", "Frechet distance minus that of random order on the same body, on the same noise", 2),
    Figure(
        "bits_mismatch",
        "Bits of a real image, one cell a step, minus those under random order on the same body: contexts that it "
        "handles worse",
        1,
    ),
)
"""A folder's comparisons have the first; its diagnoses have the others, or the last."""


def section(name: str, runs: Mapping[str, Sequence[Result]], says: Mapping[str, str]) -> str:
    """Grids of the runs in one folder, by the setting's name; empty unless two of them share an order.

    `runs`: setting -> its results; orders stand by their gap in the first of them. `says`: setting -> what it is.
    """
    grids = [grid for figure in FIGURES if (grid := _grid(f"{name}-{figure.metric}", figure, runs))]
    if not grids:
        return ""
    key = re.sub(r"\W+", "-", name)
    return (
        f'<section id="{key}" class="part" aria-labelledby="{key}-h">'
        f'<h2 id="{key}-h">{escape(name)}: the same orders, setting by setting</h2>'
        f"{_said(list(runs), says)}"
        f"{''.join(grids)}</section>"
    )


def answer(runs: Mapping[str, Sequence[Result]]) -> str:
    """How many orders lose to random under each setting, at 95 % each; empty where `section` is."""
    for figure in FIGURES if any(_shared(figure, runs) for figure in FIGURES) else ():
        found = {name: [r for _, r in _gaps(lines, figure)] for name, lines in runs.items()}
        parts = [
            f"{escape(name).replace('_', ' ')} {_losers(gaps)} of {len(gaps)}" for name, gaps in found.items() if gaps
        ]
        if parts:
            return f"Orders that lose to random: {', '.join(parts)}."
    return ""


def _losers(gaps: Sequence[Result]) -> str:
    lose = sum(r.ci is not None and r.ci[0] > 0 for r in gaps)
    return f'<em class="{"worse" if lose else "open"}">{lose}</em>'


def _grid(name: str, figure: Figure, runs: Mapping[str, Sequence[Result]]) -> str:
    gaps = _shared(figure, runs)
    if not gaps:
        return ""
    orders = list(dict.fromkeys(order for order, _ in gaps))
    settings = [setting for setting in runs if any((order, setting) in gaps for order in orders)]
    saved = ([*cell, found.value, *(found.ci or ()), found.n] for cell, found in gaps.items())
    columns = ("order", "setting", figure.metric, "lo", "hi", "images")
    return (
        f"<p>{escape(figure.says)}; 95 % intervals. {escape(figure.note)}</p>"
        f'<div class="scroll" role="region" aria-label="{escape(figure.metric)} by setting" tabindex="0">'
        f'<table class="bysetting">{_head(settings, gaps)}<tbody>{_body(orders, settings, gaps, figure.digits)}</tbody>'
        f"</table></div><p>{markup.csv_link(name, columns, saved)}</p>"
    )


def _shared(figure: Figure, runs: Mapping[str, Sequence[Result]]) -> Gaps:
    """Those of orders that more than one setting has."""
    gaps = {(order, setting): found for setting, lines in runs.items() for order, found in _gaps(lines, figure)}
    settings = Counter(order for order, _ in gaps)
    return {cell: found for cell, found in gaps.items() if settings[cell[0]] > 1}


def _gaps(lines: Sequence[Result], figure: Figure) -> list[tuple[str, Result]]:
    gaps = ((order, r) for order, r in by_row(lines, figure.metric).items() if r.ci)
    return sorted(gaps, key=lambda gap: gap[1].value)


def _head(settings: list[str], gaps: Gaps) -> str:
    axis = draw.forest_axis(_scale(gaps))
    heads = "".join(f'<th scope="col">{escape(s).replace("_", " ")}{axis}</th>' for s in settings)
    return f'<thead><tr><th scope="col"></th>{heads}</tr></thead>'


def _said(settings: list[str], says: Mapping[str, str]) -> str:
    items = "".join(f"<li>{escape(s).replace('_', ' ')}: {escape(says[s])}</li>" for s in settings if says.get(s))
    return f'<ul class="aside">{items}</ul>' if items else ""


def _scale(gaps: Gaps) -> draw.Scale:
    return draw.forest_scale(found.ci for found in gaps.values() if found.ci)


def _body(orders: list[str], settings: list[str], gaps: Gaps, digits: int) -> str:
    scale = _scale(gaps)
    return "".join(
        f'<tr><th scope="row">{escape(order).replace("_", "_<wbr>")}</th>'
        + "".join(_cell(f"{order}, {s}", gaps.get((order, s)), scale, digits) for s in settings)
        + "</tr>"
        for order in orders
    )


def _cell(what: str, found: Result | None, scale: draw.Scale, digits: int) -> str:
    if found is None or found.ci is None:
        return '<td class="missing">\N{EN DASH}</td>'
    verdict = "worse" if found.ci[0] > 0 else "better" if found.ci[1] < 0 else "open"
    said = f"{number(found.value, digits, signed=True)} {interval(found.ci, digits)}"
    drawn = draw.forest_row(found.value, found.ci, verdict, scale, f"{what}: {said}")
    return f'<td>{drawn}<span class="aside">{said}</span></td>'
