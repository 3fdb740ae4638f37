"""Models by name: what ships with the package, a folder, or a hub id."""

from __future__ import annotations

import contextlib
import io
from importlib import resources
from pathlib import Path
from typing import TypeVar

from orderhead.core.files import read_json
from orderhead.core.names import unknown

M = TypeVar("M")
KINDS = ("bodies", "tokenizers", "classifiers", "metrics", "heads")


def root() -> Path:
    """The folder of everything that ships."""
    return Path(str(resources.files("orderhead"))) / "assets"


def shipped(kind: str) -> list[str]:
    """The names of the shipped models of a kind (`bodies`, `tokenizers`, `classifiers`, `metrics`, `heads`)."""
    return sorted(p.parent.name for p in (root() / kind).glob("*/config.json"))


def folder_of(kind: str, name: str) -> Path:
    """The shipped folder of a name, or else the name as a path, whether it is there or not."""
    folder = root() / kind / name
    return folder if folder.is_dir() else Path(name)


def written(kind: str, name: str) -> tuple[int, ...]:
    """When a model's files were last written, in nanoseconds; empty for a hub id."""
    files = [folder_of(kind, name) / file for file in ("config.json", "model.safetensors")]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())


def load(model_class: type[M], kind: str, name: str) -> M:
    """The model called `name`, in eval mode on the CPU: a shipped one, a folder with config.json, or a hub id.

    ValueError for an unknown name (with the nearest match) or files that are damaged or of another model.
    """
    folder = folder_of(kind, name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f"{name} holds no config.json; a model is a folder with config.json and model.safetensors")
    if folder.exists():
        read_json(folder / "config.json")  # whose errors are clearer than the hub mixin's
    elif name.count("/") != 1:  # a hub id is owner/name
        raise unknown({"bodies": "body"}.get(kind, kind[:-1]), name, shipped(kind))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the hub's mixin prints where it loads from
            return model_class.from_pretrained(str(folder), strict=True).eval()  # type: ignore[attr-defined]
    except Exception as error:  # whatever the hub, JSON, safetensors and torch raise on damaged or missing files
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ValueError(f"cannot load {model_class.__name__} from {name}: {reason}") from None
