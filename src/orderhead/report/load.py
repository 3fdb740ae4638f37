"""The files of a results folder -> one frozen `Report`. What is missing is left out; what is damaged becomes a note.

Legend: N images, n shown images, L cells, T steps, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from orderhead.core import results
from orderhead.core.files import read_json
from orderhead.core.grid import Grid
from orderhead.report.pixels import thin
from orderhead.report.reading import Reading, readings

T = TypeVar("T")
FIELDS = {
    "protocol": dict, "reference": dict, "class_names": list, "shown": list, "images": int, "given": dict,
    "left_out": list, "arms": dict, "reported": dict, "told": list,
}  # fmt: skip
PANEL_BYTES = 12_000_000  # an order
LAST = "seconds_per_image"  # the last line that a run writes about an order


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval (None where it has none) and the images behind it."""

    value: float
    ci: tuple[float, float] | None = None
    n: int = 0


@dataclass(frozen=True)
class Trace:
    """`order_NL[i, k]` = cell of image i revealed k-th; `counts_T` cells per step; `scores_NRL` at each asking."""

    order_NL: np.ndarray
    counts_T: np.ndarray
    scores_NRL: np.ndarray | None = None

    @property
    def rank_NL(self) -> np.ndarray:
        """When each cell was revealed, 0 first."""
        return np.argsort(self.order_NL, axis=1)

    @property
    def step_NL(self) -> np.ndarray:
        """The step (0 first) in which each cell was revealed."""
        return np.repeat(np.arange(len(self.counts_T)), self.counts_T)[self.rank_NL]


@dataclass(frozen=True)
class Panels:
    """The shown images during generation, uint8 (n, frames, H, W) or (n, frames, H, W, 3), and their labels (n,).

    Big files are thinned as they are read, so that there may be fewer frames than the `T` steps.
    """

    images: np.ndarray
    labels_n: np.ndarray
    T: int


@dataclass(frozen=True)
class Curves:
    """After each step: MSE to the final image, p(true class), top-1 correctness; each float (N, T).

    The last two are None where no classifier looked.
    """

    mse_NT: np.ndarray
    confidence_NT: np.ndarray | None = None
    correct_NT: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """One order: its numbers by metric, the head that gives it and how often that is asked (None for others), files.

    Of the files, those that are not there are None.
    """

    order: str
    numbers: dict[str, Number]
    head: str | None = None
    asked: str | None = None
    trace: Trace | None = None
    panels: Panels | None = None
    curves: Curves | None = None

    @property
    def steps(self) -> int | None:
        """Unmasking steps, by whichever file is there."""
        if self.trace:
            return len(self.trace.counts_T)
        return self.panels.T if self.panels else self.curves.mse_NT.shape[1] if self.curves else None


@dataclass(frozen=True)
class Report:
    """Everything that the page shows. `rows` are in the order asked for, those not measured yet included."""

    study: str
    body: str
    title: str
    grid: Grid
    class_names: tuple[str, ...]
    baseline: str
    images: int
    shown: tuple[int, ...]
    protocol: dict[str, Any]
    real: dict[str, float]
    real_name: str
    real_n: int
    stand_ins: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    provenance: str
    command: str | None
    given: dict[str, str]
    left_out: tuple[str, ...]
    readings: dict[str, Reading]
    told: tuple[dict[str, Any], ...]
    figures: dict[tuple[str, str], Number]

    @property
    def measured(self) -> tuple[Row, ...]:
        """The orders with numbers, by rising Frechet distance; those without one last, as asked for."""
        found = [r for r in self.rows if r.numbers]
        return tuple(sorted(found, key=lambda r: r.numbers["fd"].value if "fd" in r.numbers else math.inf))

    def difference(self, row: Row, metric: str) -> Number | None:
        """The paired difference of a metric to the baseline."""
        return row.numbers.get(f"{metric}_minus_{self.baseline}")

    @property
    def steps(self) -> int | None:
        """Unmasking steps of the baseline, and of every order that has no schedule of its own."""
        asked = self.protocol.get("steps")
        found = next((r.steps for r in self.rows if r.order == self.baseline), None)
        return found or (asked if isinstance(asked, int) else None)

    def own_steps(self, row: Row) -> int | None:
        """An order's unmasking steps where they are not the baseline's."""
        return row.steps if row.steps != self.steps else None

    def class_name(self, label: int) -> str:
        return self.class_names[label] if 0 <= label < len(self.class_names) else f"class {label}"


def load(folder: str | Path) -> Report:
    """ValueError, one line, where run.json or results.jsonl is missing or says nothing usable."""
    folder = Path(folder)
    run = _run(folder / "run.json")
    grid, notes = Grid(*run["grid"]), []
    found = results.read(folder / "results.jsonl")
    if not found:
        raise ValueError(f"{folder / 'results.jsonl'} holds no result; run the command that made it again")
    lines = [r for r in found if _belongs(r, run)]
    figures = {key: _number(r) for key, r in results.figures(lines).items()}
    rows = tuple(_row(folder, order, _of(order, figures), grid, run, notes) for order in run["orders"])
    reference = run.get("reference") or {}
    return Report(
        study=str(run.get("study", "compare")),
        body=str(run.get("body", "?")),
        title=f"{len(rows)} orders on the {run.get('body', '?')} body",
        grid=grid,
        class_names=tuple(str(c) for c in run.get("class_names") or ()),
        baseline=str(run.get("baseline", "random")),
        images=run.get("images") or 0,
        shown=tuple(int(i) for i in run.get("shown") or ()),
        protocol=dict(run.get("protocol") or {}),
        real=_real(reference.get("real")),
        real_name=str(reference.get("name", "real images")),
        real_n=reference["n"] if isinstance(reference.get("n"), int) else 0,
        stand_ins=reference["stand_ins"] if isinstance(reference.get("stand_ins"), int) else run.get("images") or 0,
        rows=rows,
        notes=(*_progress(rows), *notes),
        provenance=_provenance(lines),
        command=str(run["command"]) if run.get("command") else None,
        given={str(k): str(v) for k, v in (run.get("given") or {}).items()},
        left_out=tuple(str(reason) for reason in run.get("left_out") or ()),
        readings=readings(r.metric for r in lines),
        told=tuple(table for table in run.get("told") or () if _is_told(table)),
        figures=figures,
    )


def _run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"no run.json in {path.parent}; run `orderhead demo` or `orderhead compare` there first")
    run = read_json(path)
    orders = run.get("orders")
    if not isinstance(orders, list) or not orders or not all(isinstance(o, str) for o in orders):
        raise ValueError(f"{path} names no orders; run the command that wrote it again")
    grid = run.get("grid")
    if not (isinstance(grid, list) and len(grid) == 2 and all(isinstance(g, int) and g > 0 for g in grid)):
        raise ValueError(f"{path}: grid should be [rows, columns], got {grid!r}; run the command that wrote it again")
    for field, kind in FIELDS.items():
        if not isinstance(run.get(field) or kind(), kind):
            raise ValueError(f"{path}: {field} should be a {kind.__name__}; run the command that wrote it again")
    if not all(isinstance(i, int) and i >= 0 for i in run.get("shown") or ()):
        raise ValueError(f"{path}: shown should hold image numbers; run the command that wrote it again")
    return run


def _belongs(result: results.Result, run: dict[str, Any]) -> bool:
    """Is the line of this run? Its study and every protocol setting that both name must agree."""
    protocol = run.get("protocol") or {}
    same = all(protocol[k] == v for k, v in result.protocol.items() if k in protocol)
    return same and result.study == run.get("study", result.study) and _finite(result.value)


def _real(metrics: object) -> dict[str, float]:
    """What real images score; what is no number is left out."""
    return {k: float(v) for k, v in metrics.items() if _finite(v)} if isinstance(metrics, dict) else {}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(result: results.Result) -> Number:
    ci = result.ci if result.ci and len(result.ci) == 2 else None
    return Number(float(result.value), ci, result.n)


def _of(order: str, figures: Mapping[tuple[str, str], Number]) -> dict[str, Number]:
    """The order's numbers; `fd5k` and `fid5k` are filed under `fd`. None where a killed run wrote only some."""
    found = {metric: number for (row, metric), number in figures.items() if row == order}
    return found if LAST in found else {}


def _is_told(table: object) -> bool:
    """Is it a table of the document: title, reads, metrics with headings, rows of numbers?"""
    if not (isinstance(table, dict) and all(isinstance(table.get(k), str) for k in ("title", "reads"))):
        return False
    metrics, rows = table.get("metrics"), table.get("rows")
    return isinstance(metrics, dict) and isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())


def _row(folder: Path, order: str, numbers: dict[str, Number], grid: Grid, run: dict, notes: list[str]) -> Row:
    def read(kind: str, parse: Callable[[Any], T]) -> T | None:
        path = folder / kind / f"{order}.npz"
        return _npz(path, parse, notes) if path.parent == folder / kind and path.is_file() else None

    trace = read("traces", lambda f: _trace(f, grid))
    arm = (run.get("arms") or {}).get(order, {})
    head, asked = (str(arm[key]) if arm.get(key) is not None else None for key in ("head", "asked"))
    reported = (run.get("reported") or {}).get(order)
    if numbers and reported is not None and _finite(reported):
        numbers = {**numbers, "reported": Number(float(reported))}
    return Row(order, numbers, head, asked, trace, read("panels", _panels), read("curves", _curves))


def _npz(path: Path, parse: Callable[[Any], T], notes: list[str]) -> T | None:
    """What `parse` makes of the file, or None and a note. Nothing pickled is loaded."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return parse(file)
    except Exception:  # whatever NumPy and the zip reader raise on a damaged or foreign file
        notes.append(f"{path.parent.name}/{path.name} is damaged and was left out; delete it and run the command again")
        return None


def _trace(file: Any, grid: Grid) -> Trace:
    order, counts = file["order"].astype(np.int64), file["counts"].astype(np.int64)
    if (
        order.ndim != 2
        or len(order) < 1
        or order.shape[1] != grid.L
        or (np.sort(order, axis=1) != np.arange(grid.L)).any()
    ):
        raise ValueError("not permutations of the grid's cells")
    if counts.ndim != 1 or (counts < 1).any() or counts.sum() != grid.L:
        raise ValueError("counts do not sum to the number of cells")
    return Trace(order, counts, _scores(file, order))


def _scores(file: Any, order_NL: np.ndarray) -> np.ndarray | None:
    scores = file["scores"].astype(np.float64) if "scores" in file else None
    if scores is None or scores.ndim != 3 or (len(scores), scores.shape[2]) != order_NL.shape or 0 in scores.shape:
        return None
    return scores if np.isfinite(scores).all() else None


def _panels(file: Any) -> Panels:
    images, labels = file["images"], file["labels"].astype(np.int64)
    colour = images.ndim == 5 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (images.ndim == 4 or colour) or 0 in images.shape:
        raise ValueError("not images after each step")
    if labels.shape != images.shape[:1]:
        raise ValueError("one label an image")
    return Panels(thin(images, PANEL_BYTES), labels, images.shape[1])


def _curves(file: Any) -> Curves:
    names = [name for name in ("mse", "confidence", "correct") if name == "mse" or name in file]
    tables = [file[name].astype(np.float64) for name in names]
    if tables[0].ndim != 2 or 0 in tables[0].shape or any(t.shape != tables[0].shape for t in tables):
        raise ValueError("not tables of images x steps")
    if not all(np.isfinite(t).all() for t in tables):
        raise ValueError("not finite")
    return Curves(**{f"{name}_NT": table for name, table in zip(names, tables, strict=True)})


def _progress(rows: tuple[Row, ...]) -> list[str]:
    done = sum(bool(r.numbers) for r in rows)
    if done == len(rows):
        return []
    return [f"{done} of {len(rows)} orders measured so far; run the same command again to continue"]


def _provenance(lines: list[results.Result]) -> str:
    dates, commits = sorted({r.date for r in lines}), sorted({r.commit for r in lines})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else ""
    return f"measured {when} at commit {', '.join(commits)}" if lines else ""
