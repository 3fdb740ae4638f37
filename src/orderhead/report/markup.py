"""The small HTML pieces that several sections share. All text that comes from files passes through `escape` here."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from orderhead.report import pixels
from orderhead.report.load import Report, Row
from orderhead.report.verdicts import of


def csv_link(name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A button that saves the numbers as the file NAME.csv, which the page carries."""
    stream = io.StringIO()
    csv.writer(stream).writerows([head, *rows])
    uri = "data:text/csv;charset=utf-8," + quote(stream.getvalue())
    return f'<a class="button" download="{escape(name)}.csv" href="{uri}">Download the numbers (CSV)</a>'


def anchor(row: Row, report: Report) -> str:
    """The id of the order's card: its place in the run, since names may hold anything."""
    return f"order-{report.rows.index(row)}"


def style(row: Row, report: Report) -> str:
    """The class that colours the order's lines: the baseline in ink, the others s0 ... s9, then dashed."""
    if row.order == report.baseline:
        return "base"
    k = [r.order for r in report.rows if r.order != report.baseline].index(row.order)
    return f"s{k % 10}" + (" dashed" if k >= 10 else "")


def breakable(name: str) -> str:
    """An order's name, escaped, that may break after an underscore."""
    return escape(name).replace("_", "_<wbr>")


def chip(row: Row, report: Report) -> str:
    """The verdict on the order's Frechet distance, all orders judged together, in words and colour."""
    if row.order == report.baseline:
        return '<span class="chip">baseline</span>'
    said = of(report, row)
    kind = {"better": "better", "worse": "worse", "no evidence": "open"}.get(said or "", "none")
    return f'<span class="chip {kind}">{said or "no interval"}</span>'


def own_steps(row: Row, report: Report) -> str:
    """A small note where an order takes another number of steps than the baseline."""
    steps = report.own_steps(row)
    return f'<small class="steps">{steps} steps</small>' if steps else ""


def heat(ranks: Sequence[float], report: Report, label: str, css: str = "heat") -> str:
    """A heatmap image; the script reads a cell's rank from `data-ranks`."""
    h, w, L = report.grid.h, report.grid.w, report.grid.L
    source = pixels.heatmap(np.asarray(ranks, dtype=np.float64).reshape(h, w))
    values = " ".join(f"{r:.3g}" for r in ranks)
    return (
        f'<img class="{css}" src="{source}" alt="{escape(label)}" data-h="{h}" data-w="{w}" data-l="{L}" '
        f'data-ranks="{values}" style="aspect-ratio:{w}/{h}">'
    )


def picture(key: str, source: str) -> str:
    """An image inside an SVG, one pixel a unit; `window` shows parts of it, so that it stands in the page once."""
    return f'<image id="{key}" href="{source}"/>'


def window(key: str, size: tuple[int, int], k: int, caption: str, label: str) -> str:
    """The part of a picture in row `k`, first column, of parts of `size` (width, height) with a gap of one pixel.

    The script moves it to another column.
    """
    W, H = size
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><svg class="window" viewBox="0 {k * (H + 1)} {W} {H}" '
        f'role="img" aria-label="{escape(label)}"><use href="#{key}" data-pitch="{W + 1}"/></svg></figure>'
    )


def inert_json(value: Any) -> str:
    """JSON that no HTML parser can read as markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def digits_for(spread: float) -> int:
    """Digits after the point that show two significant digits of `spread`, at most 4."""
    return 2 if spread <= 0 else min(max(0, 1 - math.floor(math.log10(spread))), 4)


def listing(pairs: Sequence[tuple[str, str]], css: str) -> str:
    """Pairs -> a definition list; text is escaped."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="{css}">{items}</dl>'


def protocol(pairs: Sequence[tuple[str, str]], said: str = "") -> str:
    """A page's last section: the settings of what it shows, and a sentence about them."""
    below = f"<p>{escape(said)}</p>" if said else ""
    return (
        '<section id="protocol" aria-labelledby="protocol-h"><h2 id="protocol-h">Protocol</h2>'
        f"{listing(pairs, 'settings')}{below}</section>"
    )
