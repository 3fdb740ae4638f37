"""A table of the document with our figures beside its own. `told` is such a table, here, in run.json and on the page.

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
        found = results.figures(results.read(folder / "results.jsonl"))
        given = {m for m in self.metrics if any(document.get(m) is not None for document in self.rows.values())}
        columns = [(m, ours) for m in self.metrics for ours in ((True, False) if m in given else (True,))]
        heads = [f"{self.metrics[m]}: ours" if ours else "document" for m, ours in columns]
        rows = [
            (row, *(_ours(found.get((row, m))) if ours else _theirs(document.get(m)) for m, ours in columns))
            for row, document in self.rows.items()
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in (("", *heads), ("---",) * (1 + len(heads)), *rows)]
        return "\n".join([f"### {self.title}", "", self.reads, "", *lines, ""])


def _ours(found: Result | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.3g}" + (f" [{found.ci[0]:.3g}, {found.ci[1]:.3g}]" if found.ci else "")


def _theirs(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
