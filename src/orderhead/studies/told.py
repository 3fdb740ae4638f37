"""A table of the document with our figures beside its own.

Legend: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orderhead.core import results
from orderhead.core.results import Result


@dataclass(frozen=True)
class Told:
    """Row -> metric -> the document's number, None where it gives none; `metrics` are the columns, with headings.

    Metrics are called as in results.jsonl, but for the number of images: `fd` finds fd400 and fid50k. `reads` says in a
    sentence what is compared.
    """

    title: str
    reads: str
    metrics: Mapping[str, str]
    rows: Mapping[str, Mapping[str, float | None]]

    @property
    def record(self) -> dict[str, Any]:
        """As it stands in run.json."""
        return asdict(self)

    def markdown(self, folder: Path) -> str:
        """The table with what `folder/results.jsonl` holds."""
        found = measured(folder)
        heads = [head for heading in self.metrics.values() for head in (f"{heading}: ours", "document")]
        rows = [
            (row, *(cell for m in self.metrics for cell in _cells(found.get((row, m)), told.get(m))))
            for row, told in self.rows.items()
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in (("", *heads), ("---",) * (1 + len(heads)), *rows)]
        return "\n".join([f"### {self.title}", "", self.reads, "", *lines, ""])


def measured(folder: Path) -> dict[tuple[str, str], Result]:
    """(row, metric without its number of images) -> the result."""
    return {(r.row, results.plain(r.metric)): r for r in results.read(folder / "results.jsonl")}


def _cells(ours: Result | None, theirs: float | None) -> tuple[str, str]:
    mine = "" if ours is None else f"{ours.value:.3g}" + (f" [{ours.ci[0]:.3g}, {ours.ci[1]:.3g}]" if ours.ci else "")
    return mine, "" if theirs is None else f"{theirs:g}"
