"""What real images say of orders: agreement with the oracle image by image, and the error of drawn cells step by step.

Legend: N images, T steps.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from orderhead.report import draw

KEPT, INJECTED = "mse_kept", "mse_injected"
BINS = 12
TITLES = {KEPT: "Its own tokens as context", INJECTED: "Real tokens as context"}


def section(folder: Path) -> str:
    """Empty where `errors.npz` and `spearman.npz` are not there."""
    errors, spearman = (_arrays(folder / name) for name in ("errors.npz", "spearman.npz"))
    charts = [_errors(errors, metric, title) for metric, title in TITLES.items()] if errors else []
    charts += [_histogram(spearman)] if any(name.endswith(" spearman") for name in spearman) else []
    if not charts:
        return ""
    return (
        '<section id="probes" aria-labelledby="probes-h"><h2 id="probes-h">On real images</h2>'
        "<p>Left and middle: how far the cells drawn in each step lie from those of a real image of the class, mean "
        "over images. Right: how many images have which rank correlation between scores and the oracle's importance."
        f'</p><div class="wide">{"".join(charts)}</div></section>'
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name].astype(np.float64) for name in file.files}
    except Exception:  # whatever NumPy and the zip reader raise on a missing, damaged or foreign file
        return {}


def _errors(found: dict[str, np.ndarray], metric: str, title: str) -> str:
    names = [name.removesuffix(f" {metric}") for name in found if name.endswith(f" {metric}")]
    lines = [_line(name, k, found[f"{name} {metric}"].mean(0)) for k, name in enumerate(names)]
    top = 1.06 * max(float(error_NT.mean(0).max()) for error_NT in found.values())
    return _chart(lines, top, "steps done", f"{title}: squared error of the cells of a step", title)


def _histogram(found: dict[str, np.ndarray]) -> str:
    """Share of images by rho, from -1 to 1."""
    lines = []
    shown = {name.removesuffix(" spearman"): rho_N for name, rho_N in found.items() if name.endswith(" spearman")}
    for k, (name, rho_N) in enumerate(shown.items()):
        counts, edges = np.histogram(rho_N, bins=BINS, range=(-1, 1))
        middles = (edges[1:] + edges[:-1]) / 2
        lines.append(draw.Line(name, f"s{k % 10}", (middles + 1) / 2, counts / max(len(rho_N), 1)))
    top = 1.06 * max(float(line.y.max()) for line in lines)
    return _chart(lines, top, "Spearman, from \N{MINUS SIGN}1 to 1", "images by rank correlation", "Share of images")


def _line(name: str, k: int, y: np.ndarray) -> draw.Line:
    return draw.Line(name, "base" if name == "random" else f"s{k % 10}", np.arange(1, len(y) + 1) / len(y), y)


def _chart(lines: list[draw.Line], top: float, x_title: str, label: str, title: str) -> str:
    frame = draw.Frame(400, 290, top or 1.0, x_title, right=108)
    body = "".join(draw.polyline(frame, line) for line in lines) + draw.tags(frame, lines)
    return f"<figure><figcaption>{escape(title)}</figcaption>{draw.chart(frame, body, label, 3)}</figure>"
