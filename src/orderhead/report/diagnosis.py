"""The page of `orderhead diagnose`: what an order's gap to random is made of, bars first.

Legend: N images, n shown images, L cells, T steps, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from orderhead.core import results
from orderhead.core.files import read_json
from orderhead.report import draw, markup, pixels, shell
from orderhead.report.load import Number
from orderhead.report.verdicts import freedom, holm, p_value
from orderhead.report.words import interval, listed, number

BINS = 16  # points of a curve
WIDTH, HEIGHT = 400, 26  # of a bar


@dataclass(frozen=True)
class Family:
    """Shares of one gap in one unit: metric -> its title, and what was switched; the first is the gap itself."""

    unit: str
    digits: int
    causes: Mapping[str, tuple[str, str]]

    @property
    def gap(self) -> str:
        return next(iter(self.causes))


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the page shows: by order and metric, the shares of the gap."""

    folder: Path
    run: Mapping[str, Any]
    families: Sequence[Family]
    numbers: Mapping[str, Mapping[str, Number]]
    provenance: str

    @property
    def orders(self) -> list[str]:
        return [order for order in self.run["orders"] if order in self.numbers]

    def causes(self, order: str, family: Family) -> list[str]:
        """The family's causes that were told apart for the order."""
        return [cause for cause in family.causes if cause in self.numbers[order]]

    def kinds(self, order: str, family: Family) -> dict[str, str]:
        """Metric -> worse (it makes the order lose), better, or open. The causes of a family are judged together."""
        numbers, classes = self.numbers[order], int(self.run.get("classes", 1))
        gap, *rest = self.causes(order, family)
        kinds = {}
        for judged in ([gap], rest):
            sure = holm([p_value(numbers[c], freedom(numbers[c].n, classes)) for c in judged])
            for cause, proven in zip(judged, sure, strict=True):
                kinds[cause] = "open" if not proven else "worse" if numbers[cause].value > 0 else "better"
        return kinds


def is_one(folder: Path) -> bool:
    """Is the folder a diagnosis's?"""
    path = folder / "run.json"
    return path.is_file() and read_json(path).get("study") == "diagnose"


def load(folder: Path) -> Diagnosis:
    """ValueError, one line, where results.jsonl is missing or says nothing usable yet."""
    run, found = read_json(folder / "run.json"), results.read(folder / "results.jsonl")
    try:
        families = [_family(record) for record in run["families"]]
        protocol = dict(run["protocol"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder / 'run.json'} is damaged; run the command that wrote it again") from None
    lines = [r for r in found if all(protocol.get(k, v) == v for k, v in r.protocol.items())]
    numbers: dict[str, dict[str, Number]] = {}
    for r in lines:
        numbers.setdefault(r.row, {})[r.metric] = Number(r.value, r.ci, r.n)
    gaps = {family.gap for family in families}
    numbers = {order: {c: v for c, v in n.items() if v.ci} for order, n in numbers.items()}
    whole = {order: n for order, n in numbers.items() if gaps <= n.keys()}
    if not whole:
        raise ValueError(f"no order is taken apart in {folder} yet; run the command that made it again")
    dated = sorted({f"{r.date} at commit {r.commit}" for r in lines})
    return Diagnosis(folder, run, families, whole, "measured " + listed(dated))


def _family(record: Mapping[str, Any]) -> Family:
    causes = {name: (str(title), str(says)) for name, (title, says) in record["causes"].items()}
    return Family(str(record["unit"]), int(record["digits"]), causes)


def render(folder: Path) -> str:
    """The page as text."""
    found = load(folder)
    return shell.page(
        sections(folder) | {"Protocol": _protocol(found)},
        title="Why an order wins or loses",
        kicker=f"Why an order wins or loses <span>diagnose · {escape(str(found.run.get('body', '?')))}</span>",
        answer=" ".join(_answer(found, order) for order in found.orders),
        below="".join(f"<p>{sentence}</p>" for sentence in _below(found)),
        notes=_notes(found),
        footer=f"orderhead · {escape(found.provenance)}",
    )


def sections(folder: Path) -> dict[str, str]:
    """Order -> what its gap is made of. ValueError as for `load`."""
    found = load(folder)
    return {order: _order(found, order, f"order-{k}") for k, order in enumerate(found.orders)}


def _answer(found: Diagnosis, order: str) -> str:
    """One order in a sentence, for example "raster loses to random by +0.78 [+0.50, +1.06] in Frechet distance."."""
    family = found.families[0]
    kind = found.kinds(order, family)[family.gap]
    said = {"worse": "loses to random by", "better": "beats random by", "open": "is not told from random:"}[kind]
    gap = f"{_figure(found, order, family, family.gap)} in {escape(family.unit)}"
    return f'<em class="{kind}">{escape(order)}</em> {said} {gap}{_made(found, order, family)}.'


def _below(found: Diagnosis) -> Iterator[str]:
    """What the other families say of each order, and how to read the bars."""
    for order in found.orders:
        said = [
            f"{_figure(found, order, family, family.gap)} in {escape(family.unit)}{_made(found, order, family)}"
            for family in found.families[1:]
        ]
        yield f"{escape(order)} against random: {'; '.join(said)}."
    yield (
        "In each run one thing was switched, on the same noise. A bar to the right makes the order lose. Causes "
        "overlap, so bars of the first kind need not sum to the gap; those of the others do."
    )


def _made(found: Diagnosis, order: str, family: Family) -> str:
    """The causes that are sure to make the order lose, largest first, for example ", of which uneven guidance +0.3"."""
    kinds, numbers = found.kinds(order, family), found.numbers[order]
    sure = [
        c for c in found.causes(order, family) if kinds[c] == "worse" and c != family.gap and not c.startswith("left")
    ]
    sure.sort(key=lambda c: -numbers[c].value)
    made = [f"{family.causes[c][0]} {number(numbers[c].value, family.digits, True)}" for c in sure]
    return f" ({escape(listed(made))})" if made else ""


def _figure(found: Diagnosis, order: str, family: Family, cause: str) -> str:
    return _shown(found.numbers[order][cause], family.digits)


def _shown(value: Number, digits: int = 2) -> str:
    said = number(value.value, digits, True)
    return f"{said} {interval(value.ci, digits, True)}" if value.ci else said


def _value(value: Number, digits: int) -> str:
    shown, _, rest = _shown(value, digits).partition(" ")
    return f"{shown}<small>{rest}</small>"


def _order(found: Diagnosis, order: str, name: str) -> str:
    distance, *others = (_bars(found, order, family) for family in found.families)
    return (
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(order)}</h2>'
        f'<div class="causes"><div>{distance}</div><div>{"".join(others)}{_curve(found, order)}</div></div>'
        f"{_pictures(found, order)}</section>"
    )


def _bars(found: Diagnosis, order: str, family: Family) -> str:
    """A row a cause: title, bar with its interval, value."""
    numbers, kinds, digits = found.numbers[order], found.kinds(order, family), family.digits
    bounds = [b for cause in found.causes(order, family) for b in numbers[cause].ci or ()]
    lo, hi = min(*bounds, 0.0), max(*bounds, 0.0)
    pad = 0.04 * (hi - lo) or 1.0
    scale = draw.Scale(lo - pad, hi + pad, 0, WIDTH)
    rows = [
        f'<div class="cause {kinds[c]}"><div><b>{escape(title)}</b><small>{escape(says)}</small></div>'
        f"{_bar(numbers[c], scale, f'{title}: {_shown(numbers[c], digits)}')}"
        f'<span class="num">{_value(numbers[c], digits)}</span></div>'
        for c in found.causes(order, family)
        for title, says in [family.causes[c]]
    ]
    return f"<figure><figcaption>In {escape(family.unit)}, minus random</figcaption>{''.join(rows)}</figure>"


def _bar(value: Number, scale: draw.Scale, label: str) -> str:
    zero, end, middle, whisker = scale(0), scale(value.value), HEIGHT / 2, ""
    if value.ci:
        whisker = (
            f'<line class="whisker" x1="{scale(value.ci[0])}" x2="{scale(value.ci[1])}" y1="{middle}" y2="{middle}"/>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<rect x="{min(zero, end)}" y="5" width="{abs(end - zero):g}" height="{HEIGHT - 10}"/>{whisker}'
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{HEIGHT}"/></svg>'
    )


def _curve(found: Diagnosis, order: str) -> str:
    """Bits of the next cell, by how much of the real image is revealed: the order's contexts beside random's."""
    folder = found.folder / "bits"
    tables = {name: _bits(folder / f"{name}, one a step.npz") for name in (order, "random")}
    if any(table is None for table in tables.values()):
        return ""
    styles = {order: "s0", "random": "base"}
    lines = [draw.Line(n, styles[n], _middles(len(t)), t) for n, t in tables.items() if t is not None]
    frame = draw.Frame(440, 210, 1.08 * max(float(line.y.max()) for line in lines), "revealed before", right=108)
    body = "".join(draw.polyline(frame, line) for line in lines) + draw.tags(frame, lines)
    return (
        "<figcaption>Bits of the next cell, one cell a step</figcaption>"
        f"{draw.chart(frame, body, f'bits of the next cell under {order} and under random', 1)}"
    )


def _middles(points: int) -> np.ndarray:
    return (np.arange(points) + 0.5) / points


def _bits(path: Path) -> np.ndarray | None:
    """Mean bits of a cell over images, by when it was revealed, in BINS equal spans; None where it cannot be read."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            bits_NL, step_NL = file["bits"].astype(np.float64), file["step"].astype(np.int64)
            by_rank_L = np.take_along_axis(bits_NL, step_NL.argsort(axis=1, kind="stable"), axis=1).mean(axis=0)
            return np.array([span.mean() for span in np.array_split(by_rank_L, min(BINS, len(by_rank_L)))])
    except Exception:  # whatever NumPy and the zip reader raise on a damaged or foreign file
        return None


def _pictures(found: Diagnosis, order: str) -> str:
    """The same images in every run: same class, same noise."""
    strips = []
    for name, random in found.run.get("arms", {}).items():
        images = _images(found.folder / "judged" / f"{name if random else f'{order}, {name}'}.npz")
        if images is not None:
            label = name if random else f"{order}, {name}" if name != "order" else order
            source = pixels.sprite(images[:, None])
            strips.append(
                f'<figure><img src="{source}" alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>'
            )
    return f'<div class="strips">{"".join(strips)}</div>' if strips else ""


def _images(path: Path) -> np.ndarray | None:
    """uint8 (n, H, W) or (n, H, W, 3); None where there are none."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            images = file["shown"]
    except Exception:  # whatever NumPy and the zip reader raise on a damaged or foreign file
        return None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        return None
    images = pixels.thin(images[:, None], 2_000_000)[:, 0]
    return images[..., 0] if images.shape[-1] == 1 else images


def _notes(found: Diagnosis) -> str:
    waiting = [order for order in found.run["orders"] if order not in found.numbers]
    notes = [f"{order}: left out are {reason}" for order in found.orders for reason in _reasons(found, order)]
    notes += [f"not taken apart yet: {listed(waiting)}; run the same command again to continue"] if waiting else []
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes" role="note">{items}</ul>' if items else ""


def _reasons(found: Diagnosis, order: str) -> list[str]:
    reasons = found.run.get("left_out") or {}
    return [str(reason) for reason in reasons.get(order, [])] if isinstance(reasons, dict) else []


def _protocol(found: Diagnosis) -> str:
    shown = {k: v for k, v in found.run["protocol"].items() if v is not None and not isinstance(v, dict)}
    pairs = [(name.replace("_", " "), str(value)) for name, value in shown.items()]
    return markup.protocol(
        pairs,
        "Intervals are 95 %, over images, paired by noise. A bar is coloured where its cause holds at 95 % for all "
        "causes of its kind together (Holm's correction).",
    )
