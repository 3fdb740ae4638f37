"""The page of a whole study: what became of every claim, then the tables and curves of each section.

A folder without a run of its own whose subfolders hold runs (sections, or the settings of a section) has such a page.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

from orderhead.core import results
from orderhead.core.files import read_json
from orderhead.report import answer, cost, curves, diagnosis, probes, settings, shell, table, told, training
from orderhead.report.load import load
from orderhead.report.words import listed

FINDINGS = "findings.json"
KINDS = {"holds": ("hold", "better"), "fails": ("fail", "worse"), "undecided": ("are undecided", "open")}
"""Verdict -> what several claims do, and the class that colours it."""
NOTHING = "not measured"


def runs_in(folder: Path) -> list[Path]:
    """The folder where it is a run, else those of its subfolders that are, in the order of `contents.json`."""
    if (folder / "run.json").is_file():
        return [folder]
    found = {part.name: part for part in sorted(folder.iterdir()) if (part / "results.jsonl").is_file()}
    return [run for name in contents(folder) or found if name in found for run in runs_in(found[name])]


def contents(folder: Path) -> dict[str, str]:
    """Section -> what it answers; empty where nobody says."""
    path = folder / "contents.json"
    return {k: str(v) for k, v in read_json(path).items()} if path.is_file() else {}


def _says(folder: Path, run: Path) -> str:
    """What the contents of the folder, and of those between, say of the run."""
    parts = run.relative_to(folder).parts
    said = (contents(folder.joinpath(*parts[:k])).get(part, "") for k, part in enumerate(parts))
    return "; ".join(filter(None, said))


def is_one(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "run.json").exists() and bool(runs_in(folder))


def render(folder: Path) -> str:
    """The page as text. Runs that say nothing yet are left out, with a note."""
    sections, waiting, runs = {}, [], runs_in(folder)
    beside = {parent: _beside(parent, runs) for parent in dict.fromkeys(run.parent for run in runs)}
    grids = {parent: settings.section(parent.name, each, contents(parent)) for parent, each in beside.items()}
    lost = next(filter(None, map(settings.answer, beside.values())), "")
    for run in runs:
        name = run.relative_to(folder).as_posix()
        try:
            if grid := grids.pop(run.parent, ""):
                sections[run.parent.name] = grid
            sections[name] = _section(run, name, _says(folder, run))
        except ValueError as error:
            waiting.append(f"{name}: {error}")
    found = _findings(folder / FINDINGS)
    notes = "".join(f"<li>{escape(note)}</li>" for note in waiting)
    return shell.page(
        {"Claims": _claims(found), "Cost": cost.section(folder)} | sections,
        script=shell.asset("page.js"),
        data='{"orders":[]}',
        title=escape(f"The study: {folder.name}"),
        kicker=f"The study <span>{len(runs) - len(waiting)} comparisons</span>",
        answer=_answer(found, lost or f"{len(runs) - len(waiting)} comparisons, one under the other."),
        below="<p>Each part has a page of its own beside this one, with all pictures; the links lead there.</p>",
        notes=f'<ul class="notes" role="note">{notes}</ul>' if notes else "",
        footer="orderhead",
    )


def _beside(parent: Path, runs: list[Path]) -> dict[str, list[results.Result]]:
    """Setting -> what one study measured under it; nothing where the folder does not say what its parts are."""
    if not contents(parent):
        return {}
    found = {}
    for run in runs:
        with suppress(ValueError):  # told where its own section would be
            if run.parent == parent and (lines := results.read(run / "results.jsonl")):
                found[run.name] = lines
    return found if len({line.study for lines in found.values() for line in lines}) == 1 else {}


def _findings(path: Path) -> list[dict[str, str]]:
    """What was written of each claim; what is damaged is passed over."""
    if not path.is_file():
        return []
    records = read_json(path).get("claims")
    fields = ("says", "section", "document", "verdict", "numbers")
    usable = records if isinstance(records, list) else []
    return [r for r in usable if isinstance(r, dict) and all(isinstance(r.get(k), str) for k in fields)]


def _answer(found: list[dict[str, str]], otherwise: str) -> str:
    if not found:
        return otherwise
    counts, unmeasured = Counter(r["verdict"] for r in found), sum(r["numbers"] == NOTHING for r in found)
    parts = [f'<em class="{kind}">{counts[v]} {said}</em>' for v, (said, kind) in KINDS.items() if counts[v]]
    rest = f", {unmeasured} of them because nothing of theirs is measured" if unmeasured else ""
    return f"Of {len(found)} claims about orders, {listed(parts)} here{rest}."


def _claims(found: list[dict[str, str]]) -> str:
    """The table of claims, and the same as a file."""
    if not found:
        return ""
    rows = "".join(
        f'<tr><td>{escape(r["section"])}</td><th scope="row">{escape(r["says"])}</th>'
        f'<td><span class="chip {KINDS.get(r["verdict"], ("", "none"))[1]}">{escape(r["verdict"])}</span></td>'
        f'<td>{_spaced(r["numbers"])}</td><td class="aside">{escape(r["document"])}</td></tr>'
        for r in found
    )
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("Section", "Claim", "Here", "Ours", "The document's"))
    uri = "data:application/json;charset=utf-8," + quote(json.dumps(found, indent=1))
    return (
        '<section id="claims" aria-labelledby="claims-h"><h2 id="claims-h">Claims</h2>'
        "<p>holds: the figures are on the claim's side, at 95 % where they have an interval or a p; fails: on the "
        "other; undecided: neither, or not measured. Section: the document's; ours: it makes no such claim. One body, "
        "one run: another seed may decide otherwise.</p>"
        '<div class="scroll" role="region" aria-label="Claims" tabindex="0"><table class="claims"><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p><a class="button" download="findings.json" href="{uri}">Download the claims (JSON)</a></p></section>'
    )


def _spaced(numbers: str) -> str:
    """One figure a line; names may break after an underscore."""
    return escape(numbers).replace("; ", "<br>").replace("_", "_<wbr>").replace("-", "\N{NON-BREAKING HYPHEN}")


def _section(run: Path, name: str, says: str) -> str:
    """A run's answer and its parts under one heading. ValueError where it says nothing yet."""
    key = re.sub(r"\W+", "-", name)
    said, *found = _parts(run)
    parts = "".join(_scoped(part, f"{key}-", f"{quote(name)}/report.html") for part in found if part)
    link = f'<a href="{escape(quote(f"{name}/report.html"))}">all of it, with pictures</a>'
    return (
        f'<section id="{key}" class="part" aria-labelledby="{key}-h"><h2 id="{key}-h">{escape(name)}</h2>'
        f'<p class="aside">{escape(says)}</p><p>{escape(said)} {link}</p>{parts}</section>'
    )


def _parts(run: Path) -> Iterator[str]:
    """The run's answer in a sentence, then its tables and curves."""
    if diagnosis.is_one(run):
        yield "What the gap to random is made of."
        yield from diagnosis.sections(run).values()
        return
    report = load(run)
    yield answer.text(answer.answer(report))
    yield table.section(report)
    yield told.section(report)
    yield probes.section(run)
    yield curves.section(report)
    yield training.section(training.logs(run), training.looks(run))


def _scoped(html: str, prefix: str, page: str) -> str:
    """The same with ids under a prefix, links leading to the run's own page, and nested sections one level down."""
    html = re.sub(r'\b(id|aria-labelledby)="', rf'\1="{prefix}', html)
    html = re.sub(r'(<a [^>]*)href="#', rf'\1href="{page}#', html)
    html = re.sub(r"<(/?)section\b", r"<\1div", html)
    return re.sub(r"<(/?)h([23])\b", lambda m: f"<{m[1]}h{int(m[2]) + 1}", html)
