"""The modes of a learned order side by side: when each cell came, the image at four moments, what the head said.

One PNG an order holds its maps, as one PNG an order holds its pictures; every panel is a window on one of the two.

Legend: N images, n shown images, R rescorings, L cells, h x w cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile
from pathlib import Path

import numpy as np

from orderhead.core.ranking import rank_change, ranking
from orderhead.report import markup, pixels
from orderhead.report.cards import Pictures
from orderhead.report.load import Report, Row, Trace
from orderhead.report.words import number

ASKINGS = 8
PARTS = (25, 50, 75, 100)  # percent
MAP_CELLS = 600_000  # cells in all maps together
NOW, BEFORE = 0.15, 0.8  # tones of the cells of a quarter, and of those before it


@dataclass(frozen=True)
class Head:
    """A head's rows, from the mode that asks it least to the one that asks it most, and the baseline."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Shown:
    """The images that can be chosen: their numbers, and what they are called."""

    numbers: tuple[int, ...]
    names: tuple[str, ...]


def section(report: Report, found: Mapping[str, Pictures]) -> str:
    """Empty where no head was asked."""
    learned = heads(report)
    if not learned:
        return ""
    rows = {row.order: row for head in learned for row in head.rows}
    shown = _shown(report, list(rows.values()), found)
    sheets = "".join(_sheet(report, row, shown) for row in rows.values())
    groups = "".join(_group(report, head, k, found) for k, head in enumerate(learned))
    return (
        '<section id="modes" aria-labelledby="modes-h"><h2 id="modes-h">One head, asked once or often</h2>'
        "<p>Same class, same noise in every cell. Order and scores: dark = early, high. Pictures: after so many "
        f"percent of the steps. Under the scores: the cells of each quarter, dark.</p>{_choice(learned, shown)}"
        f'<svg width="0" height="0" aria-hidden="true"><defs>{sheets}</defs></svg>{groups}</section>'
    )


def heads(report: Report) -> list[Head]:
    """The heads whose rows have traces, in the order asked for; the baseline stands in every group."""
    modes: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.numbers and row.head is not None and _scores(row) is not None:
            modes.setdefault(row.head, []).append(row)
    base = tuple(r for r in report.measured if r.order == report.baseline and r.trace)
    short = [Path(head).name for head in modes]
    return [
        Head(head if short.count(Path(head).name) > 1 else Path(head).name, (*sorted(rows, key=_askings), *base))
        for head, rows in modes.items()
    ]


def asked(R: int) -> list[int]:
    """At most ASKINGS of R rescorings, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, R - 1, min(R, ASKINGS))})


def maps(trace: Trace, image: int, several: bool) -> np.ndarray:
    """An image's maps in [0, 1], NaN = nothing (K, L): its order; if `several`, each asking's ranking, four quarters.

    A ranking is of all cells, revealed ones too.
    """
    rank_L = trace.rank_NL[image]
    scale = max(len(rank_L) - 1, 1)
    found = [rank_L / scale]
    if several and trace.scores_NRL is not None:
        scores_RL = trace.scores_NRL[image]
        found += [ranking(scores_RL[k]) / scale for k in asked(len(scores_RL))]
        quarter_L = rank_L * 4 // len(rank_L)
        found += [np.where(quarter_L == q, NOW, np.where(quarter_L < q, BEFORE, np.nan)) for q in range(4)]
    return np.stack(found)


def _scores(row: Row) -> np.ndarray | None:
    return row.trace.scores_NRL if row.trace else None


def _askings(row: Row) -> int:
    """How often a head was asked for one image; 0 for what is no head."""
    scores_NRL = _scores(row)
    return scores_NRL.shape[1] if row.head is not None and scores_NRL is not None else 0


def _shown(report: Report, rows: Sequence[Row], found: Mapping[str, Pictures]) -> Shown:
    """The images in the pictures' columns that every trace holds, no more than the maps have room for."""
    N = min(len(row.trace.order_NL) for row in rows if row.trace)
    per_image = sum(_rows_of_maps(row) for row in rows) * report.grid.L
    n = min((p.shape[0] for p in found.values()), default=N)
    numbers = list(takewhile(lambda i: i < N, report.shown or (0,)))[: min(n, max(1, MAP_CELLS // per_image))] or [0]
    panels = next((row.panels for row in rows if row.panels), None)
    labels = panels.labels_n.tolist() if panels else []
    classes = [report.class_name(label) for label in labels] + ["image"] * len(numbers)
    return Shown(tuple(numbers), tuple(f"{name} ({i})" for name, i in zip(classes, numbers, strict=False)))


def _rows_of_maps(row: Row) -> int:
    R = _askings(row)
    return 1 + (len(asked(R)) + len(PARTS) if R > 1 else 0)


def _sheet(report: Report, row: Row, shown: Shown) -> str:
    """All maps of an order: image i in column i."""
    assert row.trace
    h, w = report.grid.h, report.grid.w
    found = np.stack([maps(row.trace, i, _askings(row) > 1).reshape(-1, h, w) for i in shown.numbers])
    return markup.picture(f"{markup.anchor(row, report)}-maps", pixels.maps(found))


# ---------------------------------------------------------------- what is chosen


def _choice(learned: Sequence[Head], shown: Shown) -> str:
    """The script shows it; without one the page stays at the first head and the first image."""
    names = [head.name for head in learned]
    return (
        f'<div class="choice" hidden>{_select("head", "Head", names)}{_select("image", "Image", shown.names)}</div>'
        f"<noscript><p>The head {escape(names[0])}; another head or image takes JavaScript.</p></noscript>"
    )


def _select(key: str, title: str, names: Sequence[str]) -> str:
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(names))
    return f'<label>{title} <select id="modes-{key}">{options}</select></label>'


# ---------------------------------------------------------------- a head's modes


def _group(report: Report, head: Head, k: int, found: Mapping[str, Pictures]) -> str:
    rows = "".join(_mode(report, row, found.get(row.order)) for row in head.rows)
    return f'<div class="modes" data-head="{k}"{" hidden" if k else ""}>{rows}</div>'


def _mode(report: Report, row: Row, picture: Pictures | None) -> str:
    strip = _window(report, row, "maps", 0, "order", f"{row.order}: when each cell is revealed, dark = early")
    if picture is None:
        strip += '<p class="absent">No pictures.</p>'
    else:
        strip += "".join(_moment(report, row, picture, q) for q in range(4))
    return f'<div class="mode">{_name(report, row)}<div class="strip">{strip}</div>{_evolution(report, row)}</div>'


def _name(report: Report, row: Row) -> str:
    R = _askings(row)
    times = {0: "baseline", 1: "asked once"}.get(R, f"asked {R} times")
    fd = row.numbers.get("fd")
    said = [times, *([f"{report.readings['fd'].short} {number(fd.value)}"] if fd else [])]
    name = markup.breakable(row.asked or row.order)
    small = "".join(f"<small>{escape(s)}</small>" for s in said)
    return f'<p class="name"><a href="#{markup.anchor(row, report)}">{name}</a>{small}</p>'


def _moment(report: Report, row: Row, picture: Pictures, q: int) -> str:
    H, W = picture.shape[2:4]
    label = f"{row.order} after {PARTS[q]} % of the steps"
    return markup.window(f"{markup.anchor(row, report)}-sheet", (W, H), q, f"{PARTS[q]} %", label)


def _window(report: Report, row: Row, source: str, k: int, caption: str, label: str) -> str:
    size = report.grid.w, report.grid.h
    return markup.window(f"{markup.anchor(row, report)}-{source}", size, k, caption, label)


def _evolution(report: Report, row: Row) -> str:
    """What the head said whenever it was asked, which cells came in each quarter, and both in words."""
    scores_NRL, R = _scores(row), _askings(row)
    if scores_NRL is None or not R:
        return ""
    drawn = _askings_drawn(report, row, R) if R > 1 else ""
    return f'<div class="evolution">{drawn}<p>{escape(said(scores_NRL))}</p></div>'


def _askings_drawn(report: Report, row: Row, R: int) -> str:
    assert row.trace
    T, chosen = len(row.trace.counts_T), asked(R)
    scores = "".join(
        _window(report, row, "maps", 1 + j, f"step {k * T // R}", f"{row.order}: scores at step {k * T // R}")
        for j, k in enumerate(chosen)
    )
    quarters = "".join(
        _window(report, row, "maps", 1 + len(chosen) + q, f"{part} %", f"{row.order}: the first {part} % of the cells")
        for q, part in enumerate(PARTS)
    )
    return f'<div class="askings">{scores}</div><div class="cells">{quarters}</div>'


def said(scores_NRL: np.ndarray) -> str:
    """score_std, and what rescoring changed, in words."""
    spread_R = scores_NRL.std(axis=2).mean(axis=0)
    if len(spread_R) == 1:
        return f"Standard deviation of the scores over cells: {number(spread_R[0])}."
    first, last = number(spread_R[0]), number(spread_R[-1])
    turned = f"{number(100 * rank_change(scores_NRL).mean(), 0)}\N{NO-BREAK SPACE}%"
    return (
        f"Standard deviation of the scores over cells: {first} when first asked, {last} at last. From one asking to "
        f"the next the ranking moves by {turned} of the way to its reverse."
    )
