"""Numbers -> inline SVG: dot-and-whisker rows on one scale, and line charts whose colours the style sheet owns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from orderhead.report.words import number


def ticks(lo: float, hi: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2, 5 x 10^k apart) inside [lo, hi], about `wanted` of them."""
    raw = (hi - lo) / max(wanted, 1) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.7)
    return [k * step for k in range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1)]


def decimals(values: Sequence[float]) -> int:
    """Digits after the point that tell neighbouring ticks apart."""
    gap = min((abs(b - a) for a, b in pairwise(values)), default=1.0) or 1.0
    return max(0, -math.floor(math.log10(gap) + 1e-9))


@dataclass(frozen=True)
class Scale:
    """The line [lo, hi] drawn on [left, right]; what lies outside is drawn at the edge."""

    lo: float
    hi: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        at = self.left + (value - self.lo) / (self.hi - self.lo) * (self.right - self.left)
        return round(min(max(at, min(self.left, self.right)), max(self.left, self.right)), 1)


FOREST = 150, 52  # width and height of one row


def forest_scale(intervals: Iterable[tuple[float, float]]) -> Scale:
    """One scale for all differences: 0 is on it, and one far-off order does not squeeze the others."""
    bounds = [b for ci in intervals for b in ci] or [-1.0, 1.0]
    limit = 6 * float(np.median(np.abs(bounds))) or 1.0
    lo, hi = max(min(*bounds, 0.0), -limit), min(max(*bounds, 0.0), limit)
    lo, hi = min(lo, -0.2 * hi, -1e-6), max(hi, -0.2 * lo, 1e-6)  # room for both sides
    pad = 0.08 * (hi - lo)
    return Scale(lo - pad, hi + pad, 8, FOREST[0] - 8)


def forest_row(value: float, ci: tuple[float, float], verdict: str, scale: Scale, label: str) -> str:
    """A dot at the value, if that is on the scale, a whisker, an arrow where it leaves the scale, a line at zero."""
    width, height = FOREST
    y, (lo, hi), arrow = height / 2, ci, ""
    dot = f'<circle cx="{scale(value)}" cy="{y}" r="4.5"/>' if scale.lo <= value <= scale.hi else ""
    if hi > scale.hi:
        arrow = f'<path d="M{width - 7} {y - 4}l6 4l-6 4z"/>'
    elif lo < scale.lo:
        arrow = f'<path d="M7 {y - 4}l-6 4l6 4z"/>'
    return (
        f'<svg class="forest {_class(verdict)}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f'<line class="zero" x1="{scale(0)}" x2="{scale(0)}" y1="0" y2="{height}"/>'
        f'<line class="whisker" x1="{scale(lo)}" x2="{scale(hi)}" y1="{y}" y2="{y}"/>{arrow}{dot}</svg>'
    )


def forest_axis(scale: Scale) -> str:
    """The scale's ticks, with which side is better, for the head of the column."""
    width, height = FOREST[0], 34
    marks = ticks(scale.lo, scale.hi, 4)
    digits = decimals(marks)
    drawn = "".join(
        f'<line x1="{scale(v)}" x2="{scale(v)}" y1="29" y2="34"/>'
        f'<text x="{scale(v)}" y="25" text-anchor="middle">{number(v, digits)}</text>'
        for v in marks
    )
    sides = (
        '<text class="better" x="0" y="10">\N{LEFTWARDS ARROW} better</text>'
        f'<text class="worse" x="{width}" y="10" text-anchor="end">worse \N{RIGHTWARDS ARROW}</text>'
    )
    return (
        f'<svg class="forest axis" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f"{sides}{drawn}</svg>"
    )


STROKE = 4


@dataclass(frozen=True)
class Line:
    """One order's curve: x, y of equal length, and the class that colours it."""

    order: str
    style: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Frame:
    """Size and axes of a chart; x runs from 0 to 1 and is shown in percent."""

    width: int
    height: int
    top: float
    x_title: str
    left: int = 34
    bottom: int = 34
    right: int = 8

    @property
    def x(self) -> Scale:
        return Scale(0, 1, self.left, self.width - self.right)

    @property
    def y(self) -> Scale:
        return Scale(0, self.top, self.height - self.bottom, 8)

    def points(self, x: np.ndarray, y: np.ndarray) -> str:
        """The places of a line; a single point, of which SVG draws nothing, becomes a short stroke that ends there."""
        places = [(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True)]
        if len(places) == 1:
            places = [(places[0][0] - STROKE, places[0][1]), *places]
        return " ".join(f"{a:g},{b:g}" for a, b in places)

    def axes(self) -> str:
        sx, sy = self.x, self.y
        marks = ticks(0, self.top, 4 if self.height > 160 else 2)
        digits = decimals(marks)
        rows = "".join(
            f'<line class="grid" x1="{sx(0)}" x2="{sx(1)}" y1="{sy(v)}" y2="{sy(v)}"/>'
            f'<text x="{self.left - 6}" y="{sy(v) + 3.5}" text-anchor="end">{v:.{digits}f}</text>'
            for v in marks
        )
        columns = "".join(
            f'<text x="{sx(v)}" y="{self.height - self.bottom + 14}" text-anchor="{anchor}">{v:.0%}</text>'
            for v, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
        )
        title = f'<text class="axis-title" x="{(sx(0) + sx(1)) / 2}" y="{self.height - 5}" text-anchor="middle">'
        return f"{rows}{columns}{title}{escape(self.x_title)}</text>"


def polyline(frame: Frame, line: Line) -> str:
    return (
        f'<polyline class="line {line.style}" data-order="{escape(line.order)}" '
        f'points="{frame.points(line.x, line.y)}"/>'
    )


def band(frame: Frame, line: Line, half: np.ndarray) -> str:
    """The area y -+ half."""
    x, y = np.concatenate([line.x, line.x[::-1]]), np.concatenate([line.y + half, (line.y - half)[::-1]])
    return f'<polygon class="band {line.style}" points="{frame.points(x, y)}"/>'


TAG = 11.5  # from one label to the next


def tags(frame: Frame, lines: Sequence[Line]) -> str:
    """Each line's name at its end, moved apart so that none covers another; none where there are too many."""
    if (len(lines) - 1) * TAG > frame.height - 16:
        return ""
    ends = sorted(lines, key=lambda line: (round(frame.y(line.y[-1])), -line.y.mean()))
    places = spaced([frame.y(line.y[-1]) for line in ends], TAG, 8, frame.height - 8)
    return "".join(_tag(frame, line, y) for line, y in zip(ends, places, strict=True))


def _tag(frame: Frame, line: Line, y: float) -> str:
    end, name = frame.width - frame.right, line.order if len(line.order) <= 17 else f"{line.order[:16]}…"
    of = f'{line.style}" data-order="{escape(line.order)}"'
    return (
        f'<path class="lead {of} d="M{end} {frame.y(line.y[-1]):g}L{end + 11} {y:g}"/>'
        f'<text class="tag {of} x="{end + 14}" y="{y + 3.5:g}">{escape(name)}</text>'
    )


def spaced(wanted: Sequence[float], gap: float, lo: float, hi: float) -> list[float]:
    """Ascending places at least `gap` apart and near those wanted, inside [lo, hi] where they fit."""
    found = [max(w, lo) for w in wanted]
    for k in range(1, len(found)):
        found[k] = max(found[k], found[k - 1] + gap)
    for k in range(len(found) - 1, -1, -1):
        found[k] = min(found[k], hi - (len(found) - 1 - k) * gap)
    return [round(y, 1) for y in found]


def chart(frame: Frame, body: str, label: str, digits: int = 2) -> str:
    """A chart around ready-made lines; the data attributes let the script turn pixels back into numbers."""
    x, y = frame.x, frame.y
    return (
        f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}" '
        f'data-frame="{x.left} {x.right} {y.left} {y.right} {frame.top:g}" data-digits="{digits}">'
        f'{frame.axes()}{body}<circle class="at" r="4" hidden=""/></svg>'
    )


def _class(verdict: str) -> str:
    return {"better": "better", "worse": "worse"}.get(verdict, "open")
