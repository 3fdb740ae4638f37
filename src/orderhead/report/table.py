"""The table of orders: sorted, with intervals, and the same numbers as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from orderhead.report import draw, markup, notes, verdicts
from orderhead.report.load import Number, Report, Row
from orderhead.report.words import interval, number

CSV = ("order", "metric", "value", "lo", "hi", "n")


@dataclass(frozen=True)
class Column:
    """A metric's column: values are shown times `factor`, with `digits`, under a heading that names the unit."""

    key: str
    heading: str
    factor: float
    digits: int

    def show(self, value: float, signed: bool = False) -> str:
        return number(value * self.factor, self.digits, signed)

    def show_interval(self, ci: tuple[float, float], signed: bool = False) -> str:
        return interval((ci[0] * self.factor, ci[1] * self.factor), self.digits, signed)


def section(report: Report) -> str:
    columns = [c for key in report.readings if (c := _column(report, key))]
    differences = [d for r in report.measured if (d := report.difference(r, "fd")) and d.ci]
    scale = draw.forest_scale(d.ci for d in differences if d.ci)
    head = _head(report, columns, scale if differences else None)
    body = "".join(_row(report, row, columns, scale if differences else None) for row in report.measured)
    return (
        '<section id="table" aria-labelledby="table-h"><h2 id="table-h">Orders by '
        f"{report.readings['fd'].title}, lowest first</h2>"
        '<div class="scroll" role="region" aria-label="Table of orders" tabindex="0"><table class="orders">'
        f"<thead>{head}</thead><tbody>{body}</tbody>{_real(report, columns, bool(differences))}</table></div>"
        f"{_under(report)}{_legend(report, columns)}</section>"
    )


def _column(report: Report, key: str) -> Column | None:
    found = [r.numbers[key] for r in report.measured if key in r.numbers]
    if not found:
        return None
    values = np.array([abs(n.value) for n in found])
    halves = np.array([(n.ci[1] - n.ci[0]) / 2 for n in found if n.ci])
    heading, factor = report.readings[key].short, 1.0
    if values.max() < 0.02:
        heading, factor = f"{heading} \N{MULTIPLICATION SIGN} 10³", 1000.0
    spread = float(np.median(halves)) if len(halves) else float(np.median(values)) / 10
    return Column(key, heading, factor, markup.digits_for(spread * factor))


def _th(key: str, heading: str, explain: str, best: str, sort: str = "none", extra: str = "", css: str = "") -> str:
    return (
        f'<th scope="col" aria-sort="{sort}" class="{css}"><button type="button" data-key="{key}" data-best="{best}" '
        f'title="{escape(explain)}">{escape(heading)}</button>{extra}</th>'
    )


def _head(report: Report, columns: Sequence[Column], scale: draw.Scale | None) -> str:
    cells = [_th("order", "Order", "In which order the cells are revealed; small map: dark = early", "ascending")]
    for c in columns:
        reading = report.readings[c.key]
        best = "descending" if reading.higher else "ascending"
        n = notes.images_of(report, c.key)
        explain = f"{reading.title}: {reading.explain} {'Higher' if reading.higher else 'Lower'} is better."
        explain += f" n = {n} images." if n else ""
        cells.append(_th(c.key, c.heading, explain, best, "ascending" if c.key == "fd" else "none"))
        if c.key == "fd":
            cells += _difference_heads(report, scale)
    return f"<tr>{''.join(cells)}</tr>"


def _difference_heads(report: Report, scale: draw.Scale | None) -> list[str]:
    if scale is None:
        return []
    explain = (
        f"{report.readings['fd'].title} minus that of {report.baseline} on the same images and noise; 95 % interval"
    )
    heading = f"{report.readings['fd'].short} \N{MINUS SIGN} {report.baseline}"
    rule = "better or worse where the difference holds at 95 % for all orders of this table together"
    return [
        _th("difference", heading, explain, "ascending", extra=draw.forest_axis(scale), css="plot"),
        _th("verdict", "Verdict", rule, "ascending"),
    ]


def _row(report: Report, row: Row, columns: Sequence[Column], scale: draw.Scale | None) -> str:
    cells = [_name(report, row)]
    for c in columns:
        cells.append(_cell(report, row, c))
        if c.key == "fd" and scale:
            cells.append(_difference(report, row, c, scale))
            cells.append(f'<td data-v="{_rank(report, row)}">{markup.chip(row, report)}</td>')
    css = ' class="baseline"' if row.order == report.baseline else ""
    return f'<tr data-order="{escape(row.order)}"{css}>{"".join(cells)}</tr>'


def _name(report: Report, row: Row) -> str:
    thumb = '<span class="thumb"></span>'
    if row.trace:
        thumb = markup.heat(row.trace.rank_NL.mean(0).tolist(), report, "", "thumb")
    return (
        f'<th scope="row" data-v="{escape(row.order)}"><a href="#{markup.anchor(row, report)}">{thumb}'
        f"<span>{markup.breakable(row.order)}{markup.own_steps(row, report)}</span></a></th>"
    )


def _cell(report: Report, row: Row, column: Column) -> str:
    found = row.numbers.get(column.key)
    if found is None:
        return '<td class="num missing" data-v="">\N{EN DASH}</td>'
    ci = f'<span class="ci">{column.show_interval(found.ci)}</span>' if found.ci else ""
    value = f"{_mark(report, row, column)}{column.show(found.value)}"
    return f'<td class="num" data-v="{found.value:.6g}"><span class="v">{value}</span>{ci}</td>'


def _mark(report: Report, row: Row, column: Column) -> str:
    """A small sign where another metric's paired interval excludes 0, however many comparisons there are."""
    difference = report.difference(row, column.key)
    said = None if column.key == "fd" or row.order == report.baseline else verdicts.verdict(column.key, difference)
    if said in (None, "no evidence") or difference is None or difference.ci is None:
        return ""
    shown = f"{column.show(difference.value, True)} {column.show_interval(difference.ci, True)}"
    sign = "\N{BLACK UP-POINTING TRIANGLE}" if said == "better" else "\N{BLACK DOWN-POINTING TRIANGLE}"
    label = escape(f"{said} than {report.baseline}, uncorrected: {shown}")
    return f'<span class="mark {said}" role="img" aria-label="{label}" title="{label}">{sign}</span>'


def _difference(report: Report, row: Row, column: Column, scale: draw.Scale) -> str:
    difference = report.difference(row, "fd")
    if difference is None or difference.ci is None:
        zero = draw.forest_row(0, (0, 0), "", scale, "the baseline") if row.order == report.baseline else ""
        return f'<td class="plot reference" data-v="0">{zero}</td>'
    said = verdicts.of(report, row) or ""
    shown = f"{column.show(difference.value, True)} {column.show_interval(difference.ci, True)}"
    picture = draw.forest_row(difference.value, difference.ci, said, scale, f"{row.order}: {shown}, {said}")
    value, ci = column.show(difference.value, True), column.show_interval(difference.ci, True)
    words = f'<div class="num"><span class="v">{value}</span><span class="ci">{ci}</span></div>'
    return f'<td class="plot" data-v="{difference.value:.6g}"><div>{picture}{words}</div></td>'


def _rank(report: Report, row: Row) -> int:
    if row.order == report.baseline:
        return 1
    return {"better": 0, "no evidence": 2, "worse": 3}.get(verdicts.of(report, row) or "", 4)


def _real(report: Report, columns: Sequence[Column], compared: bool) -> str:
    """The anchor: what as many real images score."""
    if not any(c.key in report.real for c in columns):
        return ""
    cells = [f'<th scope="row"><span class="thumb real"></span><span>{escape(report.real_name)}</span></th>']
    for c in columns:
        found = report.real.get(c.key)
        cells.append(f'<td class="num">{"" if found is None else c.show(found)}</td>')
        if c.key == "fd" and compared:
            many = "as many" if report.stand_ins == report.images else f"only {report.stand_ins:,}"
            cells.append(f'<td colspan="2" class="aside">{many} real images, against the others</td>')
    return f'<tfoot><tr class="real">{"".join(cells)}</tr></tfoot>'


def _under(report: Report) -> str:
    link = markup.csv_link(f"{report.study}-{report.body}", CSV, _saved(report))
    said = "&nbsp;· ".join(f"{escape(name)} {escape(value)}" for name, value in settings(report))
    reference = f"reference {escape(report.real_name)}" + (f" ({report.real_n:,} images)" if report.real_n else "")
    absent = f"<p>Not measured here: {escape('; '.join(report.left_out))}.</p>" if report.left_out else ""
    asides = "".join(f"<li>{escape(n)}</li>" for n in notes.under_the_table(report))
    return (
        f'<ul class="aside">{asides}</ul>{absent}'
        f'<p class="protocol">images an order {images(report)}&nbsp;· {said}&nbsp;· {reference}</p><p>{link}</p>'
    )


def settings(report: Report) -> list[tuple[str, str]]:
    """The protocol in the reader's terms, without what the page names anyway."""
    named = {"body": report.body, "images": report.images}
    pairs = [(k, v) for k, v in report.protocol.items() if k not in named or named[k] != v]
    own = {"schedule": _own_schedule(report), "x0_bound": "the body's own"}
    return [(k.replace("_", " "), own[k] if v is None and k in own else shown(v)) for k, v in pairs]


def _own_schedule(report: Report) -> str:
    other = any(report.own_steps(row) for row in report.measured)
    return f"each order's own (cosine{', but where another number of steps is shown' if other else ''})"


def images(report: Report) -> str:
    """The number of images, and of which metrics it is not."""
    fewer = notes.fewer_images(report)
    return f"{report.images}{f' ({fewer})' if fewer else ''}"


def _legend(report: Report, columns: Sequence[Column]) -> str:
    pairs = [
        (
            reading.short,
            f"{reading.explain} {'Higher' if reading.higher else 'Lower'} is better.",
        )
        for reading in (report.readings[c.key] for c in columns)
    ]
    return f"<details><summary>What the columns mean</summary>{markup.listing(pairs, 'legend')}</details>"


def shown(value: object) -> str:
    """A setting in the reader's terms."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no"}.get(value, "none") if value is not None else "none"
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _saved(report: Report) -> Iterator[list[object]]:
    """Every number that the run holds."""
    for row in report.measured:
        yield from ([row.order, *_csv(metric, found)] for metric, found in row.numbers.items())
    yield from ([report.real_name, metric, value, "", "", report.images] for metric, value in report.real.items())


def _csv(metric: str, found: Number) -> list[object]:
    return [metric, found.value, *(found.ci or ("", "")), found.n]
