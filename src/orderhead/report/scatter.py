"""Points -> an inline SVG: a value for each order over another, with the value's interval and names where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from orderhead.report.draw import Scale, decimals, ticks
from orderhead.report.words import number

WIDTH, HEIGHT, LEFT, BOTTOM = 300, 230, 34, 36
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """One order: its place, the interval of y, and the class that colours it."""

    order: str
    style: str
    x: float
    y: float
    ci: tuple[float, float] | None


def plot(points: Sequence[Point], x_title: str, y_title: str, label: str) -> str:
    sx, sy = scales(points)
    marks = "".join(_mark(p, sx, sy, y_title) for p in points)
    names = "".join(_name(p, at) for p, at in names_that_fit(points, sx, sy))
    return (
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{_axes(sx, sy, x_title, y_title)}{marks}{names}</svg>"
    )


def scales(points: Sequence[Point]) -> tuple[Scale, Scale]:
    """x over the points' range, y from 0, or the lowest interval below it, to the highest interval."""
    xs = [p.x for p in points]
    pad = 0.06 * (max(xs) - min(xs)) or 1.0
    top = max(p.ci[1] if p.ci else p.y for p in points) or 1.0
    low = 1.04 * min(0.0, *(p.ci[0] if p.ci else p.y for p in points))
    return Scale(min(xs) - pad, max(xs) + pad, LEFT, WIDTH - 6), Scale(low, 1.04 * top, HEIGHT - BOTTOM, 6)


def names_that_fit(points: Sequence[Point], sx: Scale, sy: Scale) -> list[tuple[Point, tuple[float, float]]]:
    """Where names stand, right or left of their points, without those that would cover a point or another name."""
    taken = [(sx(p.x) - 4, sy(p.y) - 4, sx(p.x) + 4, sy(p.y) + 4) for p in points]
    placed = []
    for p in points:
        wide, x, y = 5.6 * len(p.order), sx(p.x), sy(p.y)
        for left in (x + 7, x - 7 - wide):
            box = left, y - 5, left + wide, y + 5
            if box[0] >= LEFT and box[2] <= WIDTH and not any(_meet(box, other) for other in taken):
                taken.append(box)
                placed.append((p, (left, y + 3.5)))
                break
    return placed


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _mark(p: Point, sx: Scale, sy: Scale, y_title: str) -> str:
    x, y = sx(p.x), sy(p.y)
    whisker = f'<line x1="{x}" x2="{x}" y1="{sy(p.ci[0])}" y2="{sy(p.ci[1])}"/>' if p.ci else ""
    said = escape(f"{p.order}: {y_title} {number(p.y)} at {p.x:.3g}")
    return f'<g class="{p.style}"><title>{said}</title>{whisker}<circle cx="{x}" cy="{y}" r="4"/></g>'


def _name(p: Point, at: tuple[float, float]) -> str:
    return f'<text class="{p.style}" x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(p.order)}</text>'


def _axes(sx: Scale, sy: Scale, x_title: str, y_title: str) -> str:
    across, up = ticks(sx.lo, sx.hi, 4), ticks(sy.lo, sy.hi, 3)
    rows = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 6}" y1="{sy(v)}" y2="{sy(v)}"/>'
        f'<text x="{LEFT - 6}" y="{sy(v) + 3.5}" text-anchor="end">{number(v, decimals(up))}</text>'
        for v in up
    )
    columns = "".join(
        f'<text x="{sx(v)}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{number(v, decimals(across))}</text>'
        for v in across
    )
    middle = (LEFT + WIDTH - 6) / 2
    title = f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    return f'{rows}{columns}{title}<text x="{LEFT + 2}" y="12">{escape(y_title)}</text>'
