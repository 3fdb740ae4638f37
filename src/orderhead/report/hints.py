"""What goes with a Frechet distance: the linter's figures, known before any model runs, over the orders compared."""

from __future__ import annotations

from html import escape

import numpy as np

from orderhead.report import markup, scatter, verdicts
from orderhead.report.load import Report, Row
from orderhead.report.reading import LINTER
from orderhead.report.words import listed, number

FIGURES = ("same_step_pairs", "visible_neighbours", "guidance_spread", "entropy_bits")
LEAST = 4  # orders
RHO = "\N{GREEK SMALL LETTER RHO}"


def section(report: Report, again: str) -> str:
    """Empty where too few orders have figures; `again` is the command, if any, that takes guidance out of it."""
    drawn = {key: picture for key in FIGURES if (picture := _figure(report, key))}
    if not drawn:
        return ""
    spread = _guidance(report, again) if "guidance_spread" in drawn else ""
    return (
        '<section id="hints" aria-labelledby="hints-h"><h2 id="hints-h">What goes with it</h2>'
        f'<p>{escape(_caution(report))}</p><div class="hints">{"".join(drawn.values())}</div>{spread}</section>'
    )


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation; equal values share their mean rank. NaN where one of them does not vary."""
    a, b = (r - r.mean() for r in map(_ranks, (x, y)))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")


def by_chance(orders: int) -> float:
    """The |rho| that unrelated figures exceed in one case of twenty, by the approximation with Student's t."""
    t = verdicts.quantile(orders - 2)
    return t / (orders - 2 + t**2) ** 0.5


def _ranks(values: np.ndarray) -> np.ndarray:
    return (values[:, None] > values).sum(1) + (values[:, None] == values).sum(1) / 2


def _rows(report: Report, key: str) -> list[Row]:
    """The orders that differ in nothing but the order: those with the baseline's number of steps."""
    measured = [r for r in report.measured if "fd" in r.numbers and key in r.numbers]
    return [r for r in measured if report.own_steps(r) is None]


def _figure(report: Report, key: str) -> str:
    rows = _rows(report, key)
    x, y = (np.array([r.numbers[k].value for r in rows]) for k in (key, "fd"))
    rho = spearman(x, y) if len(rows) >= LEAST else float("nan")
    if np.isnan(rho):
        return ""
    title, said = LINTER[key][0], f"{RHO} = {number(rho, 2, True)}, n = {len(rows)} orders"
    points = [
        scatter.Point(r.order, markup.style(r, report), float(a), float(b), r.numbers["fd"].ci)
        for r, a, b in zip(rows, x, y, strict=True)
    ]
    unit = ", bits" if key == "entropy_bits" else ""
    reading = report.readings["fd"]
    picture = scatter.plot(points, f"{title}{unit}", reading.short, f"{reading.title} over {title}, {said}")
    return f'<figure data-figure="{key}"><figcaption><b>{escape(title)}</b> {said}</figcaption>{picture}</figure>'


def _caution(report: Report) -> str:
    n = max(len(_rows(report, key)) for key in FIGURES)
    left = [r.order for r in report.measured if report.own_steps(r)]
    said = (
        f"Each order's {report.readings['fd'].title} over what the linter finds in it before any model runs. {RHO} is "
        "Spearman's rank correlation, above 0 where more of a figure goes with a larger distance. A correlation over "
        f"{n} orders is a hint, not a cause: of figures that have nothing to do with it, one in twenty exceeds "
        f"|{RHO}| = {by_chance(n):.2f}. Visible and same-step neighbours are one hint, since every pair is either."
    )
    return said + (f" Without {listed(left)}, with another number of steps." if left else "")


def _guidance(report: Report, again: str) -> str:
    rows = [r for r in _rows(report, "guidance_spread") if "entropy_bits" in r.numbers]
    x, y = (np.array([r.numbers[key].value for r in rows]) for key in ("guidance_spread", "entropy_bits"))
    rho = spearman(x, y)
    both = "" if np.isnan(rho) else f" Spread and entropy go together as well ({RHO} = {number(rho, 2, True)})."
    return (
        "<p><b>Guidance spread</b> is how much the mean guidance of a cell depends on its place (0: not at all). "
        "Linear guidance grows with every step, so an order that always comes to a place late guides it more, and what "
        f"looks like an effect of the order may be one of guidance.{both} <code>--cfg-schedule equalized</code> gives "
        "every cell the same mean guidance and so measures without that confound.</p>"
        + (f'<pre tabindex="0"><code>{escape(again)}</code></pre>' if again else "")
    )
