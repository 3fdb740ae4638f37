"""Tables of the document with our figures beside its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from orderhead.report import markup
from orderhead.report.load import Number, Report
from orderhead.report.words import interval, number

HEADS = ("row", "metric", "ours", "lo", "hi", "document")


def section(report: Report) -> str:
    """Empty where the run tells none."""
    tables = "".join(_table(report, told) for told in report.told)
    if not tables:
        return ""
    return f'<section id="told" aria-labelledby="told-h"><h2 id="told-h">Beside the document</h2>{tables}</section>'


def _table(report: Report, told: Mapping[str, Any]) -> str:
    metrics, rows = told["metrics"], told["rows"]
    given = [m for m in metrics if any(row.get(m) is not None for row in rows.values())]
    head = "".join(
        f'<th scope="col">{escape(heading)}</th>' + ('<th scope="col">document</th>' if m in given else "")
        for m, heading in metrics.items()
    )
    body = "".join(_row(report, name, list(metrics), given, theirs) for name, theirs in rows.items())
    return (
        f"<h3>{escape(told['title'])}</h3><p>{escape(told['reads'])}</p>"
        f'<div class="scroll" role="region" aria-label="{escape(told["title"])}" tabindex="0"><table class="told">'
        f'<thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<p>{markup.csv_link(report.study, HEADS, _saved(report, metrics, rows))}</p>"
    )


def _row(
    report: Report, name: str, metrics: Sequence[str], given: Sequence[str], theirs: Mapping[str, float | None]
) -> str:
    """Ours of every metric, and the document's of those that it gives anywhere."""
    cells = "".join(
        _ours(report.figures.get((name, m))) + (_theirs(theirs.get(m)) if m in given else "") for m in metrics
    )
    return f'<tr><th scope="row">{escape(name).replace("_", "_<wbr>")}</th>{cells}</tr>'


def _ours(found: Number | None) -> str:
    if found is None:
        return '<td class="num missing">\N{EN DASH}</td>'
    ci = f'<span class="ci">{interval(found.ci, 3)}</span>' if found.ci else ""
    return f'<td class="num"><span class="v">{number(found.value, 3)}</span>{ci}</td>'


def _theirs(value: float | None) -> str:
    return f'<td class="num aside">{"" if value is None else f"{value:g}"}</td>'


def _saved(report: Report, metrics: Mapping[str, str], rows: Mapping[str, Any]) -> Iterator[list[object]]:
    for name, theirs in rows.items():
        for metric in metrics:
            found = report.figures.get((name, metric))
            ours = (found.value, *(found.ci or ("", ""))) if found else ("", "", "")
            yield [name, metric, *ours, theirs.get(metric, "")]
