"""Look up a name in a dict literal; a wrong name gets the nearest one suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not in `known`, with the nearest match or the whole list."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; ValueError with the nearest match where the name is not there."""
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]
