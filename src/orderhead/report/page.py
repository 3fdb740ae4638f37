"""A results folder -> `report.html`: one file, no request to anywhere."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template

from orderhead.core.files import write_text
from orderhead.core.text import told_path
from orderhead.report import (
    cards,
    curves,
    diagnosis,
    hints,
    information,
    markup,
    modes,
    probes,
    shell,
    table,
    told,
    training,
    whole,
)
from orderhead.report.answer import answer, below, text
from orderhead.report.load import Report, load
from orderhead.report.notes import few_images
from orderhead.report.power import paired_sentence

FLAGS = {
    "steps": "--steps", "denoise_steps": "--denoise-steps", "cfg_scale": "--cfg", "cfg_schedule": "--cfg-schedule",
    "temperature": "--temperature", "rescore": "--rescore", "schedule": "--schedule", "solver": "--solver",
    "seed": "--seed", "null_every": "--null-every", "full_every": "--full-every",
    "denoise_by": "--denoise-by",
}  # fmt: skip


def build(folder: str | Path) -> Path:
    """Write `folder/report.html` from run.json, results.jsonl, traces, panels and curves; whole or not at all.

    A folder of runs has a page of all of them, beside theirs.
    Files that are missing leave gaps, damaged ones a note on the page. ValueError, one line, without run.json or
    results.jsonl.
    """
    folder = Path(folder)
    path = folder / "report.html"
    if whole.is_one(folder):
        for run in whole.runs_in(folder):
            with contextlib.suppress(ValueError):  # the page of all says what is not measured yet
                build(run)
        text = whole.render(folder)
    else:
        own = next((page for page in (diagnosis, information) if page.is_one(folder)), None)
        text = own.render(folder) if own else render(load(folder), folder)
    write_text(path, text)
    return path


def render(report: Report, folder: Path) -> str:
    """The page as text."""
    found = cards.pictures(report) if any(r.panels for r in report.measured) else {}
    sections = {
        "Table": table.section(report) if report.measured else "",
        "Document": told.section(report),
        "Real images": probes.section(folder),
        "Gallery": cards.gallery(report, found),
        "Modes": modes.section(report, found),
        "Hints": hints.section(report, _equalized(report, folder)),
        "Orders": cards.cards(report, found),
        "Curves": curves.section(report),
        "Training": training.section(training.logs(folder), training.looks(folder)),
        "Protocol": _protocol(report, folder),
    }
    return shell.page(
        sections,
        script=shell.asset("page.js"),
        data=markup.inert_json(cards.gallery_data(report, found)),
        title=escape(report.title),
        kicker=_kicker(report),
        answer=_answer(report),
        below="".join(f"<p>{escape(sentence)}</p>" for sentence in below(report)),
        notes=_notes(report),
        footer=f"orderhead · {escape(report.provenance)}",
    )


def _kicker(report: Report) -> str:
    cells = f"{report.grid.h} \N{MULTIPLICATION SIGN} {report.grid.w} cells"
    return f"{escape(report.title)} <span>{escape(report.study)} · {escape(report.body)} · {cells}</span>"


def _answer(report: Report) -> str:
    kinds = {"better": "better", "worse": "worse", "no evidence": "open"}
    parts = answer(report)
    marked = [f'<em class="{kinds[kind]}">{escape(part)}</em>' if kind else escape(part) for part, kind in parts]
    assert text(parts)
    return "".join(marked)


def _notes(report: Report) -> str:
    waiting = [r.order for r in report.rows if not r.numbers]
    notes = [*report.notes, *([f"not measured yet: {', '.join(waiting)}"] if waiting else []), *few_images(report)]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes" role="note">{items}</ul>' if items else ""


def command(report: Report, folder: Path) -> str:
    """The command that measures this folder again."""
    if report.command:
        return report.command
    words = ["orderhead", report.study]
    words += ["--body", report.body] if report.study != "demo" else []
    words += ["--orders", ",".join(r.order for r in report.rows), "--images", str(report.images)]
    heads = {r.head for r in report.rows if r.head} if report.study == "compare" else set()
    words += ["--head", *heads] if len(heads) == 1 else []  # no single command has two
    allowed = ("steps", "seed") if report.study == "demo" else tuple(FLAGS)
    for name in allowed:
        value = report.protocol.get(name)
        if value is not None:
            words += [FLAGS[name], table.shown(value).replace(" ", "")]
    words += [word for name, value in report.given.items() for word in (f"--{name}", value)]
    return shlex.join([*words, "--out", told_path(folder)])


def _equalized(report: Report, folder: Path) -> str:
    """The command that measures the same rows where guidance does not depend on the place; "" where there is none."""
    if report.command:
        with contextlib.suppress(ValueError):  # quotes that are not closed: not our words
            return _evened(shlex.split(report.command), folder)
        return ""
    protocol = {**report.protocol, "cfg_schedule": "equalized"}
    return command(replace(report, study="compare", command=None, protocol=protocol), Path("out/equalized"))


def _evened(words: list[str], folder: Path) -> str:
    """A study's command under even guidance, with the models that it has trained; ValueError where it has no such."""
    for option, value in {"--cfg-schedule": "equalized", "--out": "out/equalized"}.items():
        words[words.index(option) + 1] = value
    lends = (folder / "heads").is_dir() and "--models" not in words
    return shlex.join([*words, *(["--models", told_path(folder)] if lends else [])])


def _protocol(report: Report, folder: Path) -> str:
    pairs = [
        ("body", report.body),
        ("grid", f"{report.grid.h} \N{MULTIPLICATION SIGN} {report.grid.w}"),
        ("images an order", table.images(report)),
    ]
    pairs += table.settings(report)
    pairs.append(("reference", report.real_name + (f", {report.real_n:,} images" if report.real_n else "")))
    return Template(shell.asset("protocol.html")).substitute(
        settings=markup.listing(pairs, "settings"),
        baseline=escape(report.baseline),
        pairing=escape(paired_sentence(report)),
        command=escape(command(report, folder)),
    )
