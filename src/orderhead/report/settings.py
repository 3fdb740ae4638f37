"""The same orders under several settings: a row an order, a column a setting, each cell its gap to random."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from orderhead.core.results import Result, by_row
from orderhead.report import draw, markup
from orderhead.report.words import interval, number

Gaps = Mapping[tuple[str, str], Result]
"""(order, setting) -> Frechet distance minus random's under the same setting, with its interval."""

CSV = ("order", "setting", "fd_minus_random", "lo", "hi", "images")


def section(name: str, runs: Mapping[str, Sequence[Result]], says: Mapping[str, str]) -> str:
    """A grid of the runs in one folder, by the setting's name; empty unless two of them share an order.

    `runs`: setting -> its results; orders stand by rising distance. `says`: setting -> what it is.
    """
    gaps = {(order, setting): found for setting, lines in runs.items() for order, found in _gaps(lines)}
    columns = Counter(order for order, _ in gaps)
    orders = [order for order, count in columns.items() if count > 1]
    if not orders:
        return ""
    gaps = {(order, setting): found for (order, setting), found in gaps.items() if order in orders}
    settings = [setting for setting in runs if any((order, setting) in gaps for order in orders)]
    saved = ([*cell, found.value, *(found.ci or ()), found.n] for cell, found in gaps.items())
    key = re.sub(r"\W+", "-", name)
    return (
        f'<section id="{key}" class="part" aria-labelledby="{key}-h">'
        f'<h2 id="{key}-h">{escape(name)}: one order, {len(settings)} settings</h2>'
        "<p>Frechet distance minus that of random order under the same setting, on the same noise, with its 95 % "
        "interval. An order that loses in every column does not lose by that setting.</p>"
        '<div class="scroll" role="region" aria-label="Orders by setting" tabindex="0"><table class="bysetting">'
        f"{_head(settings, gaps)}<tbody>{_body(orders, settings, gaps)}</tbody></table></div>"
        f"{_said(settings, says)}<p>{markup.csv_link(name, CSV, saved)}</p></section>"
    )


def _gaps(lines: Sequence[Result]) -> list[tuple[str, Result]]:
    gaps, own = by_row(lines, "fd_minus_random"), by_row(lines, "fd")
    return sorted(((order, r) for order, r in gaps.items() if r.ci), key=lambda gap: own[gap[0]].value)


def _head(settings: list[str], gaps: Gaps) -> str:
    axis = draw.forest_axis(_scale(gaps))
    heads = "".join(f'<th scope="col">{escape(s).replace("_", " ")}{axis}</th>' for s in settings)
    return f'<thead><tr><th scope="col"></th>{heads}</tr></thead>'


def _said(settings: list[str], says: Mapping[str, str]) -> str:
    items = "".join(f"<li>{escape(s).replace('_', ' ')}: {escape(says[s])}</li>" for s in settings if says.get(s))
    return f'<ul class="aside">{items}</ul>'


def _scale(gaps: Gaps) -> draw.Scale:
    return draw.forest_scale(found.ci for found in gaps.values() if found.ci)


def _body(orders: list[str], settings: list[str], gaps: Gaps) -> str:
    scale = _scale(gaps)
    return "".join(
        f'<tr><th scope="row">{escape(order).replace("_", "_<wbr>")}</th>'
        + "".join(_cell(f"{order}, {s}", gaps.get((order, s)), scale) for s in settings)
        + "</tr>"
        for order in orders
    )


def _cell(what: str, found: Result | None, scale: draw.Scale) -> str:
    if found is None or found.ci is None:
        return '<td class="missing">\N{EN DASH}</td>'
    verdict = "worse" if found.ci[0] > 0 else "better" if found.ci[1] < 0 else "open"
    said = f"{number(found.value, 2, signed=True)} {interval(found.ci, 2)}"
    drawn = draw.forest_row(found.value, found.ci, verdict, scale, f"{what}: {said}")
    return f'<td>{drawn}<span class="aside">{said}</span></td>'
