"""What one looks at: the gallery that scrubs all orders at once, a card for each order, the curves of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from orderhead.report import draw, markup, pixels
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
        "Under each name: a classifier's confidence p in the class, and cells revealed.</p>"
        '<fieldset id="picker"><legend>Image</legend></fieldset>'
        '<div class="controls"><button type="button" id="play" aria-pressed="false">Play</button>'
        '<input type="range" id="step" min="1" value="1" aria-label="Step"><output id="at" for="step"></output>'
        '<label class="check"><input type="checkbox" id="outline" checked> outline what the step drew</label></div>'
        f'<div class="tiles">{tiles}</div>'
        "<noscript><p>The slider needs JavaScript; the cards below show four moments of each image.</p></noscript>"
        "</section>"
    )


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
    if row.curves and len(shown) == n and max(shown) < len(row.curves.confidence_NT):
        data["p"] = row.curves.confidence_NT[list(shown)].round(2).tolist()
    return data


# ---------------------------------------------------------------- a card for each order


def cards(report: Report, found: dict[str, Pictures]) -> str:
    if not report.measured:
        return ""
    ghosts = Ghosts.of(report)
    drawn = "".join(_card(report, row, found.get(row.order), ghosts) for row in report.measured)
    scale = (
        f'<p class="scale">Heatmaps: when a cell is revealed, <span>early</span><img src="{pixels.ramp()}" '
        f'alt="dark to light"><span>late</span>, on one scale from 1st to {report.grid.L}th for every order. '
        "A flat middle tone means no preference for a place.</p>"
    )
    return (
        f'<section id="orders" aria-labelledby="orders-h"><h2 id="orders-h">Each order</h2>{scale}'
        f"{_meanings()}{ghosts.definitions()}{drawn}</section>"
    )


def _card(report: Report, row: Row, picture: Pictures | None, ghosts: Ghosts) -> str:
    middle = f"<div>{_sheet(report, row, picture)}{_figures(row)}</div>"
    parts = [_heats(report, row), middle, _minis(report, row, ghosts)]
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
    said = f"FD {number(fd.value)}"
    if difference and difference.ci:
        said += f", {number(difference.value, 2, True)} {interval(difference.ci, 2, True)} to {report.baseline}"
    return f"<p>{escape(said)}</p>"


def _heats(report: Report, row: Row) -> str:
    if row.trace is None:
        return '<p class="absent">No trace of this order.</p>'
    ranks_NL = row.trace.rank_NL
    first = report.shown[0] if report.shown and report.shown[0] < len(ranks_NL) else 0
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
        f'<span>100&thinsp;%</span></div><img src="{picture.sheet}" alt="{label}" '
        f'width="{width}" height="{4 * (H + 1) - 1}"></figure>'
    )


def _figures(row: Row) -> str:
    """The static linter's figures and the cost."""
    pairs = [
        (title, f"{row.numbers[key].value:.3g}{' bits' if key == 'entropy_bits' else ''}", why)
        for key, (title, why) in LINTER.items()
        if key in row.numbers
    ]
    if "seconds_per_image" in row.numbers:
        seconds = row.numbers["seconds_per_image"].value
        cost = f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
        pairs.append(("wall time per image", cost, COST))
    items = "".join(f'<div title="{escape(why)}"><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>' for k, v, why in pairs)
    return f'<dl class="figures">{items}</dl>' if items else ""


# ---------------------------------------------------------------- curves

WIDE = 384, 270
MINI = 340, 140


@dataclass(frozen=True)
class Kind:
    """One sort of curve: its table, its axes, its name in prose."""

    key: str
    title: str
    x_title: str
    digits: int

    def lines(self, report: Report) -> list[draw.Line]:
        """The mean over images of every order, the baseline last, on top."""
        rows = [r for r in report.measured if r.curves and self.x(r) is not None]
        rows.sort(key=lambda r: r.order == report.baseline)
        return [self.line(report, r) for r in rows]

    def line(self, report: Report, row: Row) -> draw.Line:
        x = self.x(row)
        assert x is not None
        return draw.Line(row.order, markup.style(row, report), x, self.table(row).mean(0))

    def table(self, row: Row) -> np.ndarray:
        assert row.curves
        return {"confidence": row.curves.confidence_NT, "mse": row.curves.mse_NT, "correct": row.curves.correct_NT}[
            self.key
        ]

    def x(self, row: Row) -> np.ndarray | None:
        """Fraction of steps done, or of tokens revealed (None without a trace that fits)."""
        assert row.curves
        T = row.curves.confidence_NT.shape[1]
        if self.key != "correct":
            return np.arange(1, T + 1) / T
        fits = row.trace is not None and len(row.trace.counts_T) == T
        return np.cumsum(row.trace.counts_T) / row.trace.counts_T.sum() if fits and row.trace else None

    def top(self, report: Report) -> float:
        highest = max((line.y.max() for line in self.lines(report)), default=1.0)
        return 1.0 if self.key != "mse" else float(highest) * 1.06 or 1.0

    def frame(self, report: Report, size: tuple[int, int]) -> draw.Frame:
        return draw.Frame(*size, self.top(report), self.x_title)


KINDS = (
    Kind("confidence", "Confidence in the true class", "steps done", 3),
    Kind("mse", "MSE to the final image", "steps done", 4),
    Kind("correct", "Top-1 accuracy", "tokens revealed", 3),
)


@dataclass(frozen=True)
class Ghosts:
    """The lines of all orders, drawn once and referred to by every card."""

    frames: dict[str, draw.Frame]
    drawn: dict[str, str]

    @classmethod
    def of(cls, report: Report) -> Ghosts:
        frames = {kind.key: kind.frame(report, MINI) for kind in KINDS[:2]}
        drawn = {
            kind.key: "".join(
                f'<polyline class="{"base" if line.style == "base" else "ghost"}" '
                f'points="{frames[kind.key].points(line.x, line.y)}"/>'
                for line in kind.lines(report)
            )
            for kind in KINDS[:2]
        }
        return cls(frames, drawn)

    def definitions(self) -> str:
        groups = "".join(f'<g id="ghost-{key}">{lines}</g>' for key, lines in self.drawn.items())
        return f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{groups}</defs></svg>'


def _minis(report: Report, row: Row, ghosts: Ghosts) -> str:
    if row.curves is None:
        return '<p class="absent">No curves of this order.</p>'
    return f'<div class="minis">{"".join(_mini(report, row, kind, ghosts) for kind in KINDS[:2])}</div>'


def _mini(report: Report, row: Row, kind: Kind, ghosts: Ghosts) -> str:
    frame, line, table = ghosts.frames[kind.key], kind.line(report, row), kind.table(row)
    half = 1.96 * table.std(0, ddof=1) / len(table) ** 0.5 if len(table) > 1 else np.zeros(table.shape[1])
    body = f'<use href="#ghost-{kind.key}"/>{draw.band(frame, line, half)}{draw.polyline(frame, line)}'
    label = f"{row.order}: {kind.title.lower()} goes from {line.y[0]:.3g} to {line.y[-1]:.3g}"
    picture = draw.chart(frame, body, label, kind.digits)
    return f"<figure><figcaption>{escape(kind.title)}</figcaption>{picture}</figure>"


def curves(report: Report) -> str:
    rows: Sequence[Row] = [r for r in report.measured if r.curves]
    if not rows:
        return ""
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-order="{escape(r.order)}">'
        f'<i class="{markup.style(r, report)}"></i>{escape(r.order)}</button>'
        for r in rows
    )
    charts = "".join(_wide(report, kind) for kind in KINDS if kind.lines(report))
    n = max(len(r.curves.mse_NT) for r in rows if r.curves)
    return (
        '<section id="curves" aria-labelledby="curves-h"><h2 id="curves-h">How images come into being</h2>'
        f"<p>Means over the first {n} images after each step. Point at a line to read it; press names to keep them in "
        "front.</p>"
        f'<div class="keys" role="group" aria-label="Orders to keep in front">{buttons}</div>'
        f'<div class="wide">{charts}</div></section>'
    )


def _wide(report: Report, kind: Kind) -> str:
    frame = kind.frame(report, WIDE)
    lines = kind.lines(report)
    body = "".join(draw.polyline(frame, line) for line in lines)
    label = f"{kind.title} over {kind.x_title}, one line for each of {len(lines)} orders"
    return (
        f"<figure><figcaption>{escape(kind.title)}</figcaption>{draw.chart(frame, body, label, kind.digits)}</figure>"
    )
