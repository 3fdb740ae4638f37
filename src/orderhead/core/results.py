"""`results.jsonl`: one line a number, appended, read back leniently (a killed run may leave half a line)."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any


@cache
def commit() -> str:
    """The short commit of the source tree, with `+` where it has changes; the version where git does not hold it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside another project's repository?
        return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return version("orderhead")


@dataclass(frozen=True)
class Result:
    """One number: what was measured, of what, how, and how sure it is.

    `ci` is a 95 % interval [lo, hi] (None where the number has none), `n` the images behind it, `seconds` the wall
    time that it cost, `protocol` every setting that can change it.
    """

    study: str
    row: str
    metric: str
    value: float
    ci: tuple[float, float] | None
    n: int
    protocol: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    commit: str = field(default_factory=commit)
    date: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"))

    def line(self) -> str:
        return json.dumps(asdict(self), allow_nan=False) + "\n"


FIELDS = frozenset(f.name for f in fields(Result))


@cache
def plain(metric: str) -> str:
    """A metric without its number of images or its features: `fd400`, `fid5k` -> `fd`; `is50k` -> `is`; `cmmd` ->
    `mmd_rbf`.

    Also where more comes after or before: `fid5k_minus_random` -> `fd_minus_random`, `gap_fd400` -> `gap_fd`.
    """
    metric = re.sub(r"^cmmd(?=$|_minus_)", "mmd_rbf", metric)
    return re.sub(r"(^|_)(?:(is)|fi?d)\d*k?(?=$|_minus_)", lambda m: m[1] + (m[2] or "fd"), metric)


def figures(found: Iterable[Result]) -> dict[tuple[str, str], Result]:
    """(row, `plain` metric) -> the row's number as it was measured in the end; those of epochs are left out."""
    return {(r.row, plain(r.metric)): r for r in found if "epoch" not in r.protocol}


def by_row(found: Iterable[Result], metric: str) -> dict[str, Result]:
    """Row -> its figure of that plain metric, of the rows that have it."""
    return {row: r for (row, name), r in figures(found).items() if name == metric}


def append(path: str | Path, results: Iterable[Result]) -> None:
    """Append whole lines in one write; a half line left by a killed run is closed first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(r.line() for r in results)
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                text = "\n" + text
        file.write(text.encode())


def read(path: str | Path) -> list[Result]:
    """The results in the file, later lines replacing earlier ones of the same study, row, metric and protocol.

    A damaged line is passed over. ValueError where the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; run `orderhead demo` or `orderhead compare` there first")
    found: dict[tuple[str, str, str, str], Result] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            record["ci"] = tuple(record["ci"]) if record["ci"] else None
            result = Result(**{k: v for k, v in record.items() if k in FIELDS})  # a later version may write more
        except (json.JSONDecodeError, TypeError, KeyError):
            continue
        key = (result.study, result.row, result.metric, json.dumps(result.protocol, sort_keys=True))
        found[key] = result
    return list(found.values())
