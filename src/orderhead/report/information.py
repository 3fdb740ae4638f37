"""The page of `orderhead schedule`: what a cell costs by how much is known, and what each schedule makes of it.

Legend: L cells, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from orderhead.core.files import read_json
from orderhead.report import draw, markup, shell
from orderhead.report.words import interval, number

RECORD = "schedules.json"
CSV = ("known", "bits", "above_least", "half")
DRAWN = {"informed": "s0", "cosine": "s1", "linear": "s2"}  # one by one is the curve itself


def is_one(folder: Path) -> bool:
    """Does the folder hold such a record?"""
    return (folder / RECORD).is_file()


def render(folder: Path) -> str:
    """The page as text. ValueError, one line, where the record or run.json is damaged."""
    record, run = read_json(folder / RECORD), read_json(folder / "run.json")
    try:
        curve, above, half = (np.array(record[k], dtype=float) for k in ("curve", "above_least", "half"))
        rows, images = list(record["schedules"]), int(record["images"])
        best, least = rows[0], int(above.argmin())
        sections = {"Curve": _curve(curve, above, half, rows), "Schedules": _table(rows, images)}
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(f"{folder / RECORD} is damaged; run the command that wrote it again") from None
    said = {k: v.get("name", "?") if isinstance(v, dict) else v for k, v in run.get("protocol", {}).items()}
    pairs = [("images", str(images)), *((name, str(value)) for name, value in said.items())]
    return shell.page(
        sections | {"Protocol": markup.protocol(pairs)},
        title="How many cells a step",
        kicker=f"How many cells a step <span>schedule · {escape(str(record.get('body', '?')))}</span>",
        answer=_answer(best),
        below=f"<p>A cell costs least, {number(curve[least], 1)} bits, when {least} of {len(curve)} are known; "
        f"{number(curve[0] - curve[least], 1)} more when none is, {number(curve[-1] - curve[least], 1)} more when all "
        "others are.</p>",
        notes="",
        footer="orderhead",
    )


def _answer(best: Mapping[str, Any]) -> str:
    lo, hi = float(best["lo"]), float(best["hi"])
    kind = "better" if hi < 0 else "worse" if lo > 0 else "open"
    gap = f"{number(float(best['minus_cosine']), 1, signed=True)} {interval((lo, hi), 1)} bits an image"
    return f'<em class="{kind}">{escape(str(best["counts"]))}</em> cells a step: {gap} against the cosine schedule.'


def _curve(curve: np.ndarray, above: np.ndarray, half: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> str:
    """The curve with its interval, and a staircase for each schedule: the area under it is what an image costs."""
    L, top = len(curve), 1.1 * float((above + half).max()) or 1.0
    known = draw.Line("curve", "base", np.arange(L) / L, above)
    stairs = [_stairs(row, above, DRAWN[row["schedule"]]) for row in rows if row["schedule"] in DRAWN]
    frame = draw.Frame(520, 250, top, "known before the step", right=110)
    body = draw.band(frame, known, half) + "".join(draw.polyline(frame, line) for line in (known, *stairs))
    label = "bits of a cell above the least, by the share of cells that are known, and what each schedule pays"
    table = [list(row) for row in zip(range(L), curve, above, half, strict=True)]
    return (
        '<section id="curve" aria-labelledby="curve-h"><h2 id="curve-h">What a cell costs, by how much is known</h2>'
        "<p>Bits of a cell above the least, mean over real images with its 95 % interval (dashed). A schedule's step "
        "pays for all its cells what one costs before it: the area under its staircase is what an image costs more "
        "than at best. A curve that rises again tells of contexts that the body was not trained on.</p>"
        f'<figure class="wide">{draw.chart(frame, body + draw.tags(frame, [known, *stairs]), label)}</figure>'
        f"<p>{markup.csv_link('curve', CSV, table)}</p></section>"
    )


def _stairs(row: Mapping[str, Any], above: np.ndarray, style: str) -> draw.Line:
    counts = [int(c) for c in str(row["counts"]).split(",")]
    edges = np.array(list(accumulate(counts, initial=0)))
    if edges[-1] != len(above) or min(counts) < 1:
        raise ValueError("counts of another grid")
    return draw.Line(
        str(row["schedule"]), style, np.repeat(edges, 2)[1:-1] / len(above), np.repeat(above[edges[:-1]], 2)
    )


def _table(rows: Sequence[Mapping[str, Any]], images: int) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(str(row["schedule"]))}</th><td class="num">{number(float(row["bits"]), 1)}</td>'
        f'<td class="num"><span class="v">{number(float(row["minus_cosine"]), 1, signed=True)}</span>'
        f'<span class="ci">{interval((float(row["lo"]), float(row["hi"])), 1)}</span></td>'
        f"<td><code>{escape(str(row['counts']))}</code></td></tr>"
        for row in rows
    )
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("schedule", "bits", "minus cosine", "cells a step"))
    return (
        '<section id="schedules" class="part" aria-labelledby="schedules-h"><h2 id="schedules-h">Schedules</h2>'
        f"<p>Bits an image, on {images - (images + 1) // 2} images that the informed schedule was not chosen by.</p>"
        '<div class="scroll" role="region" aria-label="Schedules" tabindex="0"><table class="told"><thead>'
        f"<tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        f"<p>To use one: <code>orderhead sample --schedule {escape(str(rows[0]['counts']))} ...</code></p></section>"
    )
