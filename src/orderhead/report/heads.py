"""What a head said: its scores whenever it was asked, which quarter revealed each cell, how far its ranking turned.

Legend: N images, R rescorings, L cells.
"""

from __future__ import annotations

from html import escape

import numpy as np

from orderhead.core.ranking import rank_change, ranking
from orderhead.report import markup
from orderhead.report.load import Report, Row
from orderhead.report.words import number

MAPS = 4


def section(report: Report, row: Row) -> str:
    """The maps and figures of a learned order, for one shown image; empty for every other order."""
    if row.head is None or row.trace is None or row.trace.scores_NRL is None:
        return ""
    scores_NRL = row.trace.scores_NRL
    image = next((i for i in report.shown if i < len(scores_NRL)), 0)
    maps = [_map(report, row, image, k) for k in _asked(scores_NRL.shape[1])]
    return (
        f'<div class="scores"><div class="heats">{"".join(maps)}{_quarters(report, row, image)}</div>'
        f"<p>{escape(_said(scores_NRL))}</p></div>"
    )


def _asked(R: int) -> list[int]:
    """At most MAPS of R rescorings, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, R - 1, min(R, MAPS))})


def _map(report: Report, row: Row, image: int, k: int) -> str:
    """The ranking that the scores of the k-th rescoring give to all cells, revealed ones too."""
    assert row.trace is not None
    assert row.trace.scores_NRL is not None
    R, T = row.trace.scores_NRL.shape[1], len(row.trace.counts_T)
    ranks = ranking(row.trace.scores_NRL[image, k])
    step = k * T // R
    drawn = markup.heat(
        ranks.tolist(), report, f"{row.order}: rank of each cell by its score at step {step}, dark = high"
    )
    return f"<figure>{drawn}<figcaption>scores, step {step}</figcaption></figure>"


def _quarters(report: Report, row: Row, image: int) -> str:
    """The quarter of the cells to which each belongs, by when it was revealed."""
    assert row.trace is not None
    L = report.grid.L
    quarter = row.trace.rank_NL[image] * 4 // L
    drawn = markup.heat(
        (quarter * (L - 1) / 3).tolist(), report, f"{row.order}: quarter in which each cell was revealed"
    )
    return f"<figure>{drawn}<figcaption>revealed, by quarter</figcaption></figure>"


def _said(scores_NRL: np.ndarray) -> str:
    """score_std, and what rescoring changed, in words."""
    spread_R = scores_NRL.std(axis=2).mean(axis=0)
    if len(spread_R) == 1:
        return f"Standard deviation of the scores over cells: {number(spread_R[0])}."
    turned = rank_change(scores_NRL).mean()
    first, last = number(spread_R[0]), number(spread_R[-1])
    return (
        f"Standard deviation of the scores over cells: {first} when first asked, {last} at last. From one rescoring to "
        f"the next the ranking moves by {number(100 * turned, 0)} % of the way to its reverse."
    )
