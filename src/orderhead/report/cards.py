"""What one looks at: the gallery that scrubs all orders at once, and a card for each order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from orderhead.report import markup, pixels
from orderhead.report.curves import Ghosts, minis
from orderhead.report.load import Panels, Report, Row
from orderhead.report.reading import LINTER
from orderhead.report.words import interval, number

BUDGET = 1_900_000  # characters of embedded pictures
COST = "wall time of this order's whole run over its images; it varies with what else the machine did"


@dataclass(frozen=True)
class Pictures:
    """The embedded frames of an order: a sprite for the gallery, a sheet of quarters, their frames (n, T, H, W)."""

    sprite: str
    sheet: str
    shape: tuple[int, ...]


def pictures(report: Report) -> dict[str, Pictures]:
    """The pictures of every order that has panels, thinned until they fit the budget."""
    panels = {r.order: r.panels for r in report.measured if r.panels}
    n = min((len(p.images) for p in panels.values()), default=0)
    limit = 8_000_000
    while True:
        found = {order: _pictures(p, n, limit // len(panels)) for order, p in panels.items()}
        size = sum(len(p.sprite) + len(p.sheet) for p in found.values())
        if size <= BUDGET or limit < 50_000:
            return found
        limit = int(limit * min(0.9 * BUDGET / size, 0.8))


def _pictures(panels: Panels, n: int, limit: int) -> Pictures:
    images = pixels.thin(panels.images[:n], limit)
    return Pictures(pixels.sprite(images), pixels.sheet(images), images.shape)


# ---------------------------------------------------------------- the gallery


def gallery(report: Report, found: dict[str, Pictures]) -> str:
    if not found:
        return ""
    rows = [r for r in report.measured if r.order in found]
    tiles = "".join(_tile(report, r) for r in rows)
    return (
        '<section id="gallery" aria-labelledby="gallery-h"><h2 id="gallery-h">One image, every order</h2>'
        "<p>Same class, same noise in every cell; only the order differs. Drag the slider or use the arrow keys. "
        f"{_under_each_name(rows)}</p>"
        '<fieldset id="picker"><legend>Image</legend></fieldset>'
        '<div class="controls"><button type="button" id="play" aria-pressed="false">Play</button>'
        '<input type="range" id="step" min="1" value="1" aria-label="Step"><output id="at" for="step"></output>'
        '<label class="check"><input type="checkbox" id="outline" checked> outline what the step drew</label></div>'
        f'<div class="tiles">{tiles}</div>'
        "<noscript><p>The slider needs JavaScript; the cards below show four moments of each image.</p></noscript>"
        "</section>"
    )


def _under_each_name(rows: Sequence[Row]) -> str:
    recognised = any(r.curves and r.curves.confidence_NT is not None for r in rows)
    confidence = "a classifier's confidence p in the class, and " if recognised else ""
    return f"Under each name: {confidence}cells revealed."


def _tile(report: Report, row: Row) -> str:
    name = escape(row.order)
    link = f'<a href="#{markup.anchor(row, report)}">{markup.breakable(row.order)}</a>'
    return (
        f'<figure class="tile" data-order="{name}"><canvas role="img" aria-label="{name}"></canvas>'
        f'<figcaption>{link}<span class="stat"></span></figcaption></figure>'
    )


def gallery_data(report: Report, found: dict[str, Pictures]) -> dict:
    """What the script needs: sprites, the step of each cell, confidences of the shown images."""
    rows = [r for r in report.measured if r.order in found]
    n = min((found[r.order].shape[0] for r in rows), default=0)
    labels = rows[0].panels.labels_n[:n] if rows and rows[0].panels else []
    return {
        "grid": [report.grid.h, report.grid.w],
        "images": [report.class_name(int(label)) for label in labels],
        "orders": [_order_data(report, r, found[r.order], n) for r in rows],
    }


def _order_data(report: Report, row: Row, picture: Pictures, n: int) -> dict:
    assert row.panels
    shown = report.shown[:n]
    data = {
        "name": row.order, "sprite": picture.sprite, "frames": picture.shape[1], "size": list(picture.shape[2:4]),
        "T": row.panels.T, "counts": None, "cells": None, "p": None,
    }  # fmt: skip
    if row.trace:
        data["counts"] = np.cumsum(row.trace.counts_T).tolist()
        if len(shown) == n and max(shown) < len(row.trace.order_NL):
            data["cells"] = row.trace.step_NL[list(shown)].tolist()
    confidence = row.curves.confidence_NT if row.curves else None
    if confidence is not None and len(shown) == n and max(shown) < len(confidence):
        data["p"] = confidence[list(shown)].round(2).tolist()
    return data


# ---------------------------------------------------------------- a card for each order


def cards(report: Report, found: dict[str, Pictures]) -> str:
    if not report.measured:
        return ""
    ghosts = Ghosts.of(report)
    drawn = "".join(_card(report, row, found.get(row.order), ghosts) for row in report.measured)
    mean = _mean_guidance(report)
    guided = f" Mean guidance is {mean} under every order: it depends on the schedule alone." if mean else ""
    scale = (
        f'<p class="scale">Heatmaps: when a cell is revealed, <span>early</span><img src="{pixels.ramp()}" '
        f'alt="dark to light"><span>late</span>, on one scale from 1st to {report.grid.L}th for every order. '
        f"A flat middle tone means no preference for a place.{guided}</p>"
    )
    return (
        f'<section id="orders" aria-labelledby="orders-h"><h2 id="orders-h">Each order</h2>{scale}'
        f"{_meanings()}{ghosts.definitions()}{drawn}</section>"
    )


def _card(report: Report, row: Row, picture: Pictures | None, ghosts: Ghosts) -> str:
    middle = f"<div>{_sheet(report, row, picture)}{_figures(report, row)}</div>"
    parts = [_heats(report, row), middle, minis(report, row, ghosts)]
    return (
        f'<article class="card" id="{markup.anchor(row, report)}"><header><h3>{escape(row.order)}</h3>'
        f"{markup.own_steps(row, report)}{markup.chip(row, report)}{_headline(report, row)}</header>"
        f'<div class="card-body">{"".join(parts)}</div></article>'
    )


def _meanings() -> str:
    pairs = [(title, f"{why[0].upper()}{why[1:]}.") for title, why in (*LINTER.values(), ("wall time", COST))]
    return f"<details><summary>What the figures mean</summary>{markup.listing(pairs, 'legend')}</details>"


def _headline(report: Report, row: Row) -> str:
    fd, difference = row.numbers.get("fd"), report.difference(row, "fd")
    if fd is None:
        return ""
    said = f"{report.readings['fd'].short} {number(fd.value)}"
    if difference and difference.ci:
        said += f", {number(difference.value, 2, True)} {interval(difference.ci, 2, True)} to {report.baseline}"
    return f"<p>{escape(said)}</p>"


def _heats(report: Report, row: Row) -> str:
    if row.trace is None:
        return '<p class="absent">No trace of this order.</p>'
    ranks_NL = row.trace.rank_NL
    first = report.shown[0] if report.shown and report.shown[0] < len(ranks_NL) else 0
    if (ranks_NL == ranks_NL[0]).all():
        same = markup.heat(ranks_NL[0].tolist(), report, f"{row.order}: rank of each cell in every image, dark = early")
        return f'<div class="heats"><figure>{same}<figcaption>the same in every image</figcaption></figure></div>'
    mean = markup.heat(ranks_NL.mean(0).tolist(), report, f"{row.order}: mean rank of each cell, dark = early")
    one = markup.heat(ranks_NL[first].tolist(), report, f"{row.order}: rank of each cell in one image, dark = early")
    return (
        f'<div class="heats"><figure>{mean}<figcaption>mean of {len(ranks_NL)} images</figcaption></figure>'
        f"<figure>{one}<figcaption>one image</figcaption></figure></div>"
    )


def _sheet(report: Report, row: Row, picture: Pictures | None) -> str:
    if picture is None or row.panels is None:
        return '<p class="absent">No pictures of this order.</p>'
    n, _, H, W = picture.shape[:4]
    names = [report.class_name(int(label)) for label in row.panels.labels_n[:n]]
    heads = "".join(f"<span>{escape(name)}</span>" for name in names)
    label = escape(f"{row.order}: {', '.join(names)} after 25, 50, 75 and 100 % of the steps")
    width = n * (W + 1) - 1
    scale = max(1, round(64 / W))
    return (
        f'<figure class="sheet" style="--n:{n};max-width:{scale * width + 44}px"><div class="heads">{heads}</div>'
        '<div class="quarters"><span>25&thinsp;%</span><span>50&thinsp;%</span><span>75&thinsp;%</span>'
        f'<span>100&thinsp;%</span></div><svg viewBox="0 0 {width} {4 * (H + 1) - 1}" role="img" aria-label="{label}">'
        f"{markup.picture(f'{markup.anchor(row, report)}-sheet', picture.sheet)}</svg></figure>"
    )


def _shown(row: Row, key: str) -> str:
    return f"{row.numbers[key].value:.3g}{' bits' if key == 'entropy_bits' else ''}"


def _mean_guidance(report: Report) -> str:
    """The mean guidance where all orders share it, which is where they share a schedule; else empty."""
    found = [_shown(row, "mean_guidance") for row in report.measured if "mean_guidance" in row.numbers]
    return found[0] if len(found) == len(report.measured) > 1 and len(set(found)) == 1 else ""


def _figures(report: Report, row: Row) -> str:
    """The static linter's figures and the cost, without what is the same for all orders."""
    common = {"mean_guidance"} if _mean_guidance(report) else set()
    keys = [key for key in LINTER if key in row.numbers and key not in common]
    pairs = [(LINTER[key][0], _shown(row, key), LINTER[key][1]) for key in keys]
    if "seconds_per_image" in row.numbers:
        seconds = row.numbers["seconds_per_image"].value
        cost = f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
        pairs.append(("wall time per image", cost, COST))
    items = "".join(f'<div title="{escape(why)}"><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>' for k, v, why in pairs)
    return f'<dl class="figures">{items}</dl>' if items else ""
