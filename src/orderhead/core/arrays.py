"""Arrays in `.npz` files, made once and read back without trusting them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from orderhead.core.files import replacing


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays of those names. ValueError where the file is missing or damaged; nothing pickled is loaded."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); remove it and run again") from None


def kept_arrays(path: Path, make: Callable[[], Mapping[str, np.ndarray]], *names: str) -> list[np.ndarray]:
    """The same of a file that `make` fills where it is not there yet."""
    if not path.exists():
        arrays = make()
        with replacing(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
    return read_arrays(path, *names)
