"""What happens step by step: means over images, as one line for each order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from orderhead.report import draw, markup
from orderhead.report.load import Report, Row

WIDE = 400, 290
MINI = 340, 140
NAMES = 108  # room for the names at the ends of the lines


@dataclass(frozen=True)
class Kind:
    """One sort of curve: its table, its axes, its name in prose."""

    key: str
    title: str
    x_title: str
    digits: int

    def lines(self, report: Report) -> list[draw.Line]:
        """The mean over images of every order, the baseline last, on top."""
        rows = [r for r in report.measured if self.table(r) is not None and self.x(r) is not None]
        rows.sort(key=lambda r: r.order == report.baseline)
        return [self.line(report, r) for r in rows]

    def line(self, report: Report, row: Row) -> draw.Line:
        x, table = self.x(row), self.table(row)
        assert x is not None
        assert table is not None
        return draw.Line(row.order, markup.style(row, report), x, table.mean(0))

    def table(self, row: Row) -> np.ndarray | None:
        """Images x steps; None where the order has none, as without a classifier."""
        return getattr(row.curves, f"{self.key}_NT") if row.curves else None

    def x(self, row: Row) -> np.ndarray | None:
        """Fraction of steps done, or of tokens revealed (None without a trace that fits)."""
        assert row.curves
        T = row.curves.mse_NT.shape[1]
        if self.key != "correct":
            return np.arange(1, T + 1) / T
        fits = row.trace is not None and len(row.trace.counts_T) == T
        return np.cumsum(row.trace.counts_T) / row.trace.counts_T.sum() if fits and row.trace else None

    def top(self, report: Report) -> float:
        highest = max((line.y.max() for line in self.lines(report)), default=1.0)
        return 1.0 if self.key != "mse" else float(highest) * 1.06 or 1.0

    def frame(self, report: Report, size: tuple[int, int], right: int = 8) -> draw.Frame:
        return draw.Frame(*size, self.top(report), self.x_title, right=right)


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


def minis(report: Report, row: Row, ghosts: Ghosts) -> str:
    if row.curves is None:
        return '<p class="absent">No curves of this order.</p>'
    drawn = "".join(_mini(report, row, kind, ghosts) for kind in KINDS[:2] if kind.table(row) is not None)
    return f'<div class="minis">{drawn}</div>'


def _mini(report: Report, row: Row, kind: Kind, ghosts: Ghosts) -> str:
    frame, line, table = ghosts.frames[kind.key], kind.line(report, row), kind.table(row)
    assert table is not None
    half = 1.96 * table.std(0, ddof=1) / len(table) ** 0.5 if len(table) > 1 else np.zeros(table.shape[1])
    body = f'<use href="#ghost-{kind.key}"/>{draw.band(frame, line, half)}{draw.polyline(frame, line)}'
    label = f"{row.order}: {kind.title.lower()} goes from {line.y[0]:.3g} to {line.y[-1]:.3g}"
    picture = draw.chart(frame, body, label, kind.digits)
    return f"<figure><figcaption>{escape(kind.title)}</figcaption>{picture}</figure>"


def section(report: Report) -> str:
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
        f"<p>Means over the first {n} images after each step. Point at a line or its name to bring it to the front; "
        "press the names below to keep them there.</p>"
        f'<div class="keys" role="group" aria-label="Orders to keep in front">{buttons}</div>'
        f'<div class="wide">{charts}</div></section>'
    )


def _wide(report: Report, kind: Kind) -> str:
    frame = kind.frame(report, WIDE, NAMES)
    lines = kind.lines(report)
    body = "".join(draw.polyline(frame, line) for line in lines) + draw.tags(frame, lines)
    label = f"{kind.title} over {kind.x_title}, one line for each of {len(lines)} orders"
    return (
        f"<figure><figcaption>{escape(kind.title)}</figcaption>{draw.chart(frame, body, label, kind.digits)}</figure>"
    )
