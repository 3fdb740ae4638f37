"""Quality against cost, of `orderhead bench --pareto`: a point for each order, number of steps and solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from orderhead.core.files import read_json
from orderhead.report import markup, scatter
from orderhead.report.words import interval, number

RECORD = "pareto.json"
FIELDS = {"point": str, "fd_minus_reference": float, "ci": list, "flops": float, "seconds": float, "matched": bool}
CSV = ("point", "fd_minus_reference", "lo", "hi", "matched", "flops", "seconds")
REFERENCE = "reference"


def section(folder: Path) -> str:
    """Empty where the folder holds no such record, or a damaged one."""
    found = read(folder / RECORD)
    if not found:
        return ""
    rows = "".join(_row(line) for line in found)
    saved = [[p["point"], p["fd_minus_reference"], *p["ci"], p["matched"], p["flops"], p["seconds"]] for p in found]
    heads = ("point", "FD minus the reference's", "matched", "FLOPs", "seconds")
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    return (
        '<section id="cost" class="part" aria-labelledby="cost-h"><h2 id="cost-h">Quality against cost</h2>'
        "<p>How much less work a point takes than the reference (random order, one cell a step, 100 denoising steps), "
        "in FLOPs, and how much worse its images are: Frechet distance minus the reference's, mean over seeds, with "
        "its 95 % interval. matched: the interval contains 0 or lies below, which few images do easily: its upper end "
        "says what may be lost.</p>"
        f'<figure class="cost">{_plot(found)}</figure>'
        '<div class="scroll" role="region" aria-label="Quality against cost" tabindex="0"><table class="told"><thead>'
        f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p>{markup.csv_link('pareto', CSV, saved)}</p></section>"
    )


def read(path: Path) -> list[dict[str, Any]]:
    """The points of the record, the dearest first; those that are damaged are left out."""
    points = read_json(path).get("points") if path.is_file() else None
    usable = [p for p in points if isinstance(p, dict) and _whole(p)] if isinstance(points, list) else []
    return sorted(usable, key=lambda p: -p["flops"])


def _whole(point: Mapping[str, Any]) -> bool:
    fits = all(isinstance(point.get(k), kind) for k, kind in FIELDS.items())
    return fits and len(point["ci"]) == 2 and point["flops"] > 0 < point["seconds"]


def _plot(found: Sequence[Mapping[str, Any]]) -> str:
    points = [
        scatter.Point(p["point"], f"s{k % 10}", 1 / p["flops"], p["fd_minus_reference"], (p["ci"][0], p["ci"][1]))
        for k, p in enumerate(found)
    ]
    label = f"Frechet distance minus the reference's over times less work, {len(points)} points"
    reference = scatter.Point(REFERENCE, "base", 1.0, 0.0, None)
    return scatter.plot([reference, *points], "times less work (FLOPs)", "FD minus the reference's", label)


def _row(line: Mapping[str, Any]) -> str:
    gap = f"{number(line['fd_minus_reference'], 2, signed=True)}"
    return (
        f'<tr><th scope="row">{escape(line["point"])}</th><td class="num"><span class="v">{gap}</span>'
        f'<span class="ci">{interval((line["ci"][0], line["ci"][1]), 2)}</span></td>'
        f"<td>{'yes' if line['matched'] else 'no'}</td>"
        f'<td class="num">1/{1 / line["flops"]:.1f}</td><td class="num">1/{1 / line["seconds"]:.1f}</td></tr>'
    )
