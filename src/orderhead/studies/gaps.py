"""What section 2 found: each order's gap to random under each setting, beside the document's, and how gaps move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orderhead.core import results
from orderhead.core.files import write_text
from orderhead.core.results import Result
from orderhead.metrics.correlation import rankings
from orderhead.studies.beside import DOCUMENT_RANDOM, Difference
from orderhead.studies.compare import BASELINE
from orderhead.studies.seeds import pooled


@dataclass(frozen=True)
class Reported:
    """The document's FID-50K and Inception score (MAR-B, guidance 2.9, 64 steps; multiscale 256)."""

    fid: float
    inception_score: float


DOCUMENT: Mapping[str, Reported] = {
    BASELINE: Reported(DOCUMENT_RANDOM, 265.6),
    "multiscale": Reported(2.30, 264.3),
    "ar_random": Reported(2.41, 274.4),
    "center_perturbed": Reported(2.44, 254.6),
    "center_spiral": Reported(2.70, 253.7),
    "edge_spiral": Reported(3.95, 336.5),
}
"""Row -> what the document's section 2 reports."""

REFERENCE = "linear"  # the setting that the others are compared with: the published guidance, equal steps

Cell = tuple[str, str]
"""(setting, row)."""


def reported() -> dict[str, float | None]:
    """Row -> the document's FID-50K."""
    return {name: row.fid for name, row in DOCUMENT.items()}


@dataclass(frozen=True)
class Found:
    """Gaps to random, random's own distances, and the guidance scales, by (setting, row)."""

    gaps: Mapping[Cell, Difference]
    own: Mapping[Cell, Difference]
    scales: Mapping[Cell, float]


def gather(out: Path, settings: Iterable[str]) -> None:
    """Write `out/results.jsonl`: every line of `out/SETTING/results.jsonl`, the setting's name in its protocol."""
    lines = [
        replace(found, protocol={"setting": setting, **found.protocol})
        for setting in settings
        for found in results.read(out / setting / "results.jsonl")
    ]
    write_text(out / "results.jsonl", "".join(result.line() for result in lines))


def differences(out: str | Path) -> dict[Cell, Difference]:
    """(setting, row) -> Frechet distance minus random's, of `out/results.jsonl`. ValueError where it is missing."""
    return _cells(_by_setting(out), "fd_minus_random")


def read(out: str | Path) -> Found:
    """All that the tables say, of `out/results.jsonl`. ValueError where the file is missing."""
    found = _by_setting(out)
    own = {cell: fd for cell, fd in _cells(found, "fd").items() if cell[1] == BASELINE}
    scales = {(name, r.row): float(r.protocol["cfg_scale"]) for name, lines in found.items() for r in lines}
    return Found(_cells(found, "fd_minus_random"), own, scales)


def _by_setting(out: str | Path) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for line in results.read(Path(out) / "results.jsonl"):
        found.setdefault(str(line.protocol["setting"]), []).append(line)
    return found


def _cells(found: Mapping[str, Sequence[Result]], metric: str) -> dict[Cell, Difference]:
    """(setting, row) -> a metric with its interval."""
    each = {name: results.by_row(lines, metric) for name, lines in found.items()}
    return {(name, row): (r.value, r.ci) for name, rows in each.items() for row, r in rows.items()}


def table(found: Found, says: Mapping[str, str], rows: Sequence[str]) -> str:
    """Markdown: gaps by order and setting beside the document's, then how far the settings agree.

    `says`: setting -> what it is, in the order of the columns; `rows`: the orders from the top.
    """
    settings = [name for name in says if any(setting == name for setting, _ in found.gaps)]
    present = [row for row in rows if any(order == row for _, order in found.gaps)]
    gaps = [_row(row, [found.gaps.get((setting, row)) for setting in settings]) for row in present]
    head = ["order", *settings, "document: FID-50K minus random's"]
    return "\n".join([
        "Frechet distance minus random's under the same setting, with its 95 % interval; bold where that excludes 0.",
        "", *markdown(head, [*gaps, *_random(found, settings)]), "",
        *(f"- {name}: {says[name]}" for name in settings), "", *_tuned(found, rows),
        *markdown(AGREEMENT, [_agreement(found.gaps, name) for name in settings]), "", NOTE, "",
    ])  # fmt: skip


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _row(row: str, gaps: Sequence[Difference | None]) -> list[str]:
    document = f"{DOCUMENT[row].fid - DOCUMENT_RANDOM:+.2f}" if row in DOCUMENT else "none reported"
    return [row, *("" if gap is None else signed(*gap) for gap in gaps), document]


def signed(value: float, ci: tuple[float, float] | None, digits: int = 2) -> str:
    """A difference with its interval; bold where that excludes 0."""
    said = f"{value:+.{digits}f}"
    if ci is None:
        return said
    lo, hi = ci
    return f"{f'**{said}**' if lo > 0 or hi < 0 else said} [{lo:.{digits}f}, {hi:.{digits}f}]"


def _random(found: Found, settings: Sequence[str]) -> list[list[str]]:
    """The line of random's own distance, where it is known."""
    own = [found.own.get((setting, BASELINE)) for setting in settings]
    cells = ["" if each is None else f"{each[0]:.2f}" for each in own]
    return [["random's own distance", *cells, f"{DOCUMENT_RANDOM:.2f}"]] if any(cells) else []


def _tuned(found: Found, rows: Sequence[str]) -> list[str]:
    """The line of the scales that were chosen, where they are known."""
    chosen = [f"{row} {found.scales['tuned', row]:g}" for row in rows if ("tuned", row) in found.scales]
    return [f"Guidance scales that `tuned` chose: {', '.join(chosen)}.", ""] if chosen else []


AGREEMENT = (
    "setting", f"rank correlation with {REFERENCE}", f"mean change of the gaps from {REFERENCE}",
    "rank correlation with the document",
)  # fmt: skip

NOTE = (
    "Rank correlations are Spearman's, over the orders that both have, random (gap 0) among them; a change is without "
    "its sign. Where a ranking under other guidance is another ranking, guidance was what was measured."
)


def _agreement(gaps: Mapping[Cell, Difference], setting: str) -> list[str]:
    here, there = _values(gaps, setting), _values(gaps, REFERENCE)
    document = {name: each.fid - DOCUMENT_RANDOM for name, each in DOCUMENT.items()}
    change = [abs(here[row] - there[row]) for row in here if row in there and row != BASELINE]
    return [setting, correlation(here, there), f"{np.mean(change):.2f}" if change else "", correlation(here, document)]


def _values(gaps: Mapping[Cell, Difference], setting: str) -> dict[str, float]:
    """Row -> gap under a setting; random's is 0. Empty where nothing was measured."""
    found = {row: value for (name, row), (value, _) in gaps.items() if name == setting}
    return {BASELINE: 0.0, **found} if found else {}


def correlation(a: Mapping[str, float], b: Mapping[str, float]) -> str:
    """Spearman's over the rows of both, with their number; empty for fewer than three, or where all are level."""
    rows = [row for row in a if row in b]
    ours, theirs = ([each[row] for row in rows] for each in (a, b))
    if len(rows) < 3 or len(set(ours)) == 1 or len(set(theirs)) == 1:
        return ""
    return f"{rankings(ours, theirs)[0]:.2f} ({len(rows)} orders)"


def pool(folders: Sequence[Path]) -> Found:
    """What runs under several seeds have in common: mean gaps, with intervals over runs (see `seeds.pooled`).

    Each setting is pooled by itself; cells that a run lacks are left out.
    """
    runs = [differences(folder) for folder in folders]
    cells = [cell for cell in runs[0] if all(cell in run for run in runs)]
    gaps: dict[Cell, Difference] = {}
    for setting in dict.fromkeys(name for name, _ in cells):
        values = {row: [run[setting, row][0] for run in runs] for name, row in cells if name == setting}
        gaps |= {(setting, row): each for row, each in pooled(values).items()}
    return Found(gaps, {}, {})
