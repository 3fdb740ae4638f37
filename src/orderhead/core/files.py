"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` if the block succeeds, delete it if not.

    What killed processes left in the folder is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent.absolute())
    prefix = f".{path.name}.{_machine()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _sweep(folder: Path) -> None:
    """Remove the temporary files whose writers ran here and are dead; once a process, since listing is slow."""
    ours = re.compile(rf"\..+\.{_machine()}-(\d{{1,9}})-\w{{8}}(\..*)?")
    with suppress(OSError):  # a folder that cannot be listed, a file that is another user's
        for found in filter(None, map(ours.fullmatch, os.listdir(folder))):
            if not _alive(int(found[1])):
                (folder / found[0]).unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Eight hex digits of where a process's number is its own: this boot of this kernel, and its container."""
    try:
        place = f"{Path('/proc/sys/kernel/random/boot_id').read_text()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        place = socket.gethostname()
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # another user's process lives too
    return True


def copy_missing(source: Path, folder: Path) -> None:
    """Copy every file below `source` that `folder` lacks, each whole or not at all."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        own = folder / path.relative_to(source)
        if not own.exists():
            with replacing(own) as temporary:
                shutil.copyfile(path, temporary)


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError where the file is missing, is not JSON, or holds anything but an object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} should hold a JSON object, got {json.dumps(value)[:40]}")
    return value
