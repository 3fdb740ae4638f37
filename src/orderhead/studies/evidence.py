"""What results say of a claim: holds, fails, or undecided, with the numbers that decide it.

Everything here reads `results.jsonl` of the sections of one run, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from scipy.special import ndtri

from orderhead.core import results
from orderhead.core.results import Result
from orderhead.metrics.correlation import rankings

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Finding:
    """A verdict and what it rests on."""

    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval, and at which epoch it was measured (None where a row has no epochs)."""

    value: float
    ci: tuple[float, float] | None
    epoch: float | None = None

    @classmethod
    def of(cls, result: Result) -> Figure:
        return cls(result.value, result.ci, result.protocol.get("epoch"))

    @property
    def half(self) -> float:
        return (self.ci[1] - self.ci[0]) / 2 if self.ci else math.inf

    def __str__(self) -> str:
        return f"{self.value:+.3g}" + (f" [{self.ci[0]:+.3g}, {self.ci[1]:+.3g}]" if self.ci else "")


@dataclass(frozen=True)
class Book:
    """The sections of one run of the study, by the name of their folder; one of section 2 is `heuristics/linear`."""

    root: Path

    @cached_property
    def _pages(self) -> dict[str, list[Result]]:
        return {}

    def _page(self, section: str) -> list[Result]:
        if section not in self._pages:
            path = self.root / section / "results.jsonl"
            self._pages[section] = results.read(path) if path.is_file() else []
        return self._pages[section]

    def rows(self, section: str, metric: str) -> dict[str, Figure]:
        """Row -> its figure, of those that have the metric; epochs left out."""
        return {row: Figure.of(r) for row, r in results.by_row(self._page(section), metric).items()}

    def figure(self, section: str, row: str, metric: str) -> Figure | None:
        """The figure that is of no epoch; None where there is none."""
        return self.rows(section, metric).get(row)

    def by_epoch(self, section: str, row: str, metric: str) -> list[Figure]:
        """The figures of a row's epochs, first to last."""
        dated = [r for r in self._page(section) if r.row == row and "epoch" in r.protocol]
        found = [Figure.of(r) for r in dated if results.plain(r.metric) == metric]
        return sorted(found, key=lambda f: f.epoch or 0.0)


Judge = Callable[[Book], Finding]
MISSING = "not measured"


def positive(section: str, metric: str, *rows: str) -> Judge:
    """Is the figure of every row above 0?"""

    def judge(book: Book) -> Finding:
        return all_above({row: book.figure(section, row, metric) for row in rows})

    return judge


def all_above(found: Mapping[str, Figure | None]) -> Finding:
    """holds: every interval above 0; fails: one below 0; undecided otherwise, and where one is missing."""
    numbers = (
        "; ".join(f"{name} {figure or MISSING}" for name, figure in found.items()) if any(found.values()) else MISSING
    )
    known = [f.ci for f in found.values() if f and f.ci]
    if any(hi < 0 for _, hi in known):
        return Finding("fails", numbers)
    sure = len(known) == len(found) > 0 and all(lo > 0 for lo, _ in known)
    return Finding("holds" if sure else "undecided", numbers)


def none_below(section: str, metric: str, expected: Collection[str]) -> Judge:
    """Does each of the expected rows lose? One that wins does so with all judged together (Bonferroni).

    It cannot hold while a row is missing.
    """

    def judge(book: Book) -> Finding:
        found = {row: f for row, f in book.rows(section, metric).items() if f.ci and row in expected}
        if not found:
            return Finding("undecided", MISSING)
        wider, lost = corrected(len(found)), sum(f.value - f.half > 0 for f in found.values())
        winners = [row for row, f in found.items() if f.value + f.half * wider < 0]
        name = min(winners or found, key=lambda row: found[row].value)
        numbers = f"the best of {len(found)}, {name}: {found[name]}; {lost} lose for themselves"
        return Finding("fails" if winners else "holds" if lost == len(expected) else "undecided", numbers)

    return judge


def corrected(m: int) -> float:
    """How much wider a normal interval is when m are to hold together (Bonferroni)."""
    return float(ndtri(1 - 0.025 / m) / ndtri(0.975))


def larger(section: str, metric: str, a: str, b: str) -> Judge:
    """Is a's figure above b's?

    The interval takes them as independent, which is too wide where they go up and down together: rows of one run share
    their images' noise, and differences to random share random's.
    """

    def judge(book: Book) -> Finding:
        x, y = book.figure(section, a, metric), book.figure(section, b, metric)
        if not (x and y and x.ci and y.ci):
            return Finding("undecided", MISSING)
        difference, half = x.value - y.value, math.hypot(x.half, y.half)
        return all_above({f"{a} - {b}": Figure(difference, (difference - half, difference + half))})

    return judge


Bound = Callable[[Book], float | None]
"""A number that a figure is held against, from the results themselves; None where they do not say."""


def fixed(value: float) -> Bound:
    return lambda book: value


def share(part: float, section: str, row: str, metric: str) -> Bound:
    """A part of another figure."""

    def bound(book: Book) -> float | None:
        found = book.figure(section, row, metric)
        return part * found.value if found else None

    return bound


def within(section: str, metric: str, row: str, margin: Bound) -> Judge:
    """Does the whole interval lie in [-margin, margin]? It fails where the whole interval lies outside."""

    def decide(lo: float, hi: float, most: float) -> Verdict:
        if -most < lo and hi < most:
            return "holds"
        return "fails" if lo > most or hi < -most else "undecided"

    return _against(section, metric, row, margin, "margin", decide)


def above(section: str, metric: str, row: str, bound: Bound) -> Judge:
    """Is the figure above the bound, interval and all? It fails where the whole interval lies below."""

    def decide(lo: float, hi: float, least: float) -> Verdict:
        return "holds" if lo > least else "fails" if hi < least else "undecided"

    return _against(section, metric, row, bound, "bound", decide)


def not_above(section: str, metric: str, row: str, bound: Bound) -> Judge:
    """Is the figure below the bound, interval and all? It fails where the whole interval lies above."""

    def decide(lo: float, hi: float, most: float) -> Verdict:
        return "holds" if hi < most else "fails" if lo > most else "undecided"

    return _against(section, metric, row, bound, "bound", decide)


def _against(
    section: str, metric: str, row: str, bound: Bound, called: str, decide: Callable[[float, float, float], Verdict]
) -> Judge:
    """Judge by a figure's interval and a number that it is held against."""

    def judge(book: Book) -> Finding:
        found, limit = book.figure(section, row, metric), bound(book)
        if not (found and found.ci) or limit is None:
            return Finding("undecided", MISSING)
        return Finding(decide(*found.ci, limit), f"{row} {found}, {called} {limit:.3g}")

    return judge


def highest(section: str, metric: str, row: str, others: Sequence[str]) -> Judge:
    """Is the row's figure above that of each of the others?"""

    def judge(book: Book) -> Finding:
        found = [larger(section, metric, row, other)(book) for other in others]
        verdicts = {f.verdict for f in found}
        verdict: Verdict = "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"
        numbers = [f.numbers for f in found]
        return Finding(verdict, MISSING if set(numbers) == {MISSING} else "; ".join(numbers))

    return judge


def rising(section: str, metric: str, row: str) -> Judge:
    """Does the figure rise from epoch to epoch (Spearman's correlation with the epoch, p < 0.05)?"""

    def judge(book: Book) -> Finding:
        found = book.by_epoch(section, row, metric)
        if len(found) < 5:
            return Finding("undecided", MISSING if not found else f"only {len(found)} epochs")
        rho, p = rankings([f.epoch or 0.0 for f in found], [f.value for f in found])
        numbers = f"{row}: {found[0].value:.3g} to {found[-1].value:.3g}, rho {rho:.2f} (p = {p:.2g})"
        return Finding("undecided" if p >= 0.05 else "holds" if rho > 0 else "fails", numbers)

    return judge


def ratio(section: str, metric: str, row: str, least: float, most: float) -> Judge:
    """Does the last epoch's figure lie between `least` and `most` times the first's? One run, so no interval."""

    def judge(book: Book) -> Finding:
        found = book.by_epoch(section, row, metric)
        if len(found) < 2 or found[0].value == 0:
            return Finding("undecided", MISSING)
        times = found[-1].value / found[0].value
        numbers = f"{row}: {found[0].value:.3g} to {found[-1].value:.3g}, {times:.2f} times"
        return Finding("holds" if least <= times <= most else "fails", numbers)

    return judge


def last(section: str, metric: str, row: str, most: float) -> Judge:
    """Is the last epoch's figure at most so much? One run, so no interval."""

    def judge(book: Book) -> Finding:
        found = book.by_epoch(section, row, metric)
        if not found:
            return Finding("undecided", MISSING)
        numbers = f"{row}: {found[0].value:.3g} to {found[-1].value:.3g}, at most {most:g}"
        return Finding("holds" if found[-1].value <= most else "fails", numbers)

    return judge


def together(section: str, a: str, b: str) -> Judge:
    """Do the two metrics rise together over the rows (Spearman's correlation, p < 0.05)?"""

    def judge(book: Book) -> Finding:
        first, second = book.rows(section, a), book.rows(section, b)
        rows = [row for row in first if row in second]
        if len(rows) < 5:
            return Finding("undecided", MISSING)
        rho, p = rankings([first[row].value for row in rows], [second[row].value for row in rows])
        verdict: Verdict = "undecided" if p >= 0.05 else "holds" if rho > 0 else "fails"
        return Finding(verdict, f"{a} against {b} over {len(rows)} rows: rho {rho:.2f} (p = {p:.2g})")

    return judge
