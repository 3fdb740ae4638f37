"""How the heads of a study were trained: losses and the spread of their scores over the run, one line a row.

Legend: K logged steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType

import numpy as np

from orderhead.report import draw

KINDS: Mapping[str, str] = {
    "diffusion": "Diffusion loss under the scores' mask",
    "order": "Distance to the oracle (order loss)",
    "score_std": "score_std: standard deviation of the scores",
}
"""What the training loop logs -> the name on the page."""

LOOKS: Mapping[str, str] = {"fd": "Frechet distance by epoch, under the head's fast order"}
"""What a study that trains bodies logs now and then -> the name on the page."""

Log = Mapping[str, np.ndarray]


def logs(folder: Path) -> dict[str, Log]:
    """Row -> its logged numbers (K,) by name, of every `heads/ROW/log.jsonl`; damaged lines are passed over."""
    return _found(folder, tuple(KINDS))


def looks(folder: Path) -> dict[str, Log]:
    """The same of the lines at which the model in training was sampled; rows that have none are left out."""
    return _found(folder, tuple(LOOKS))


def _found(folder: Path, keys: tuple[str, ...]) -> dict[str, Log]:
    found = {path.parent.name: _read(path, ("images", *keys)) for path in sorted(folder.glob("heads/*/log.jsonl"))}
    return {row: log for row, log in found.items() if log}


def _read(path: Path, keys: tuple[str, ...]) -> Log:
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            lines.append([float(line[key]) for key in keys])
        except (ValueError, TypeError, KeyError):
            continue
    table = np.array([line for line in lines if all(map(math.isfinite, line))])
    return dict(zip(keys, table.T, strict=True)) if len(table) else {}


def section(found: Mapping[str, Log], looked: Mapping[str, Log] = MappingProxyType({})) -> str:
    """A chart a kind, and of looks where models were `looked` at while they were trained; nothing where no head was."""
    if not found:
        return ""
    charts = "".join(_chart(key, title, found) for key, title in KINDS.items())
    charts += "".join(_chart(key, title, looked) for key, title in LOOKS.items() if looked)
    return (
        '<section id="training" aria-labelledby="training-h"><h2 id="training-h">How the heads were trained</h2>'
        "<p>Each point is one batch. A score_std that falls to 0 is a head that has collapsed; one that keeps growing, "
        f'a head that explodes.</p><div class="wide">{charts}</div></section>'
    )


def _chart(key: str, title: str, found: Mapping[str, Log]) -> str:
    lines = [
        draw.Line(row, f"s{k % 10}" + (" dashed" if k >= 10 else ""), log["images"] / log["images"].max(), log[key])
        for k, (row, log) in enumerate(found.items())
    ]
    top = 1.06 * max(float(line.y.max()) for line in lines) or 1.0
    frame = draw.Frame(400, 290, top, "images seen, of the row's own number", right=108)
    body = "".join(draw.polyline(frame, line) for line in lines) + draw.tags(frame, lines)
    label = f"{title} during training, one line for each of {len(lines)} rows"
    return f"<figure><figcaption>{escape(title)}</figcaption>{draw.chart(frame, body, label, 3)}</figure>"
