"""Words and numbers as text that is read in a terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def aligned(rows: Sequence[dict[str, Any]]) -> str:
    """A table with a heading where there are more than two columns: words left, numbers right.

    Numbers have two decimals, those that would vanish so two digits and a power of ten.
    """
    text = [[_shown(v) for v in row.values()] for row in rows]
    table = [list(rows[0]), *text] if len(rows[0]) > 2 else text
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [any(isinstance(row[key], int | float) for row in rows) for key in rows[0]]
    cells = [[c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
             for line in table]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in cells)


def told_path(folder: Path) -> str:
    """A folder in a command that is written down: as it was given, but nobody else has an absolute path."""
    return folder.name if folder.is_absolute() else str(folder)


def changes(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 3) -> str:
    """What differs, in words: `images was 5, not 6; ...`; empty where nothing does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    said = [f"{name} was {_short(before.get(name))}, not {_short(now.get(name))}" for name in names[:most]]
    return "; ".join([*said, *(["..."] if len(names) > most else [])])


def _short(value: Any) -> str:
    return textwrap.shorten(json.dumps(value), 60, placeholder=" ...")


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"
