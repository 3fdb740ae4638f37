"""Whose folder it is: `run.json` says what is measured there, so that numbers of different runs never meet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orderhead.core import dist
from orderhead.core.files import read_json, write_json
from orderhead.core.text import changes


def claim(out: Path, now: dict[str, Any], rows: str, also: Sequence[str] = ()) -> None:
    """Write `out/run.json`, on one process: what a run says of itself, beside what it has said of other rows before.

    The field `rows` of `now` maps a row to what makes its numbers its own, `also` are other fields that go by row.
    ValueError where the folder holds a run whose numbers, or a row's, would not belong with these.
    """
    path, now = out / "run.json", json.loads(json.dumps(now))  # as it will be read back: tuples are lists
    found = read_json(path) if path.exists() else {}
    before, wanted = ({"study": one.get("study"), **(one.get("protocol") or {})} for one in (found, now))
    if path.exists() and (said := changes(before, wanted)):
        raise ValueError(f"{out} holds a run with other settings ({said}); choose another --out, or remove it")
    for name, identity in found.get(rows, {}).items():
        if name in now[rows] and _moved(identity) != _moved(now[rows][name]):
            raise ValueError(f"{out} holds {name} with another head or body; choose another --out, or remove it")
    if dist.rank() == 0:
        write_json(path, found | now | {field: _joined(found.get(field), now[field]) for field in (rows, *also)})


def _joined(before: Any, now: Any) -> Any:
    """What is said by row, or the rows that are named, before and now."""
    return (before or {}) | now if isinstance(now, dict) else list(dict.fromkeys([*(before or []), *now]))


def _moved(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A row's identity but for where its head lies: a run may be moved."""
    return {name: value for name, value in identity.items() if name != "head"}
