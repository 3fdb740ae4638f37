"""One section of the study = one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

NAMES: Mapping[str, str] = {
    "variants": "section 3: thirteen ways to train a head, each against random",
}
"""Study -> what it answers."""


def _later(name: str) -> Callable[..., Path]:
    """The function `name` of the module `name`, imported when it is called."""

    def run(*args: Any, **options: Any) -> Path:
        return getattr(import_module(f"orderhead.studies.{name}"), name)(*args, **options)

    return run


STUDIES: Mapping[str, Callable[..., Path]] = {name: _later(name) for name in NAMES}
