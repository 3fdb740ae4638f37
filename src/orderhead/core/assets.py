"""Models by name: what ships with the package, a folder, or a hub id."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from orderhead.core.configs import read_config
from orderhead.core.names import unknown

M = TypeVar("M")
KINDS = ("bodies", "tokenizers", "classifiers", "metrics", "heads")
SINGULAR = {"bodies": "body", "metrics": "judge"}
_LOADING = threading.Lock()  # stdout is everybody's


def root() -> Path:
    """The folder of everything that ships."""
    return Path(str(resources.files("orderhead"))) / "assets"


def shipped(kind: str) -> list[str]:
    """The names of the shipped models of a kind (`bodies`, `tokenizers`, `classifiers`, `metrics`, `heads`)."""
    return sorted(p.parent.name for p in (root() / kind).glob("*/config.json"))


def folder_of(kind: str, name: str) -> Path:
    """The folder of what ships under exactly that name, or else the name as a path, whether it is there or not."""
    return root() / kind / name if name in shipped(kind) else Path(name)


def written(kind: str, name: str) -> tuple[int, ...]:
    """When a model's files were last written, in nanoseconds; empty for a hub id."""
    files = [folder_of(kind, str(name)) / file for file in ("config.json", "model.safetensors")]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())


def load(model_class: type[M], kind: str, name: str) -> M:
    """The model called `name`, in eval mode on the CPU: a shipped one, a folder with config.json, or a hub id.

    ValueError for an unknown name (with the nearest match) or files that are damaged or of another model.
    """
    folder = _found(kind, name)
    with _LOADING, _told(model_class, name), contextlib.redirect_stdout(io.StringIO()):  # the mixin prints
        read_config(model_class, folder)  # whose errors are clearer than the mixin's
        return model_class.from_pretrained(str(folder), strict=True).eval()  # type: ignore[attr-defined]


def config_of(model_class: type, kind: str, name: str) -> Any:
    """The config of the model called `name`, without its weights. ValueError as for `load`."""
    folder = _found(kind, name)
    with _told(model_class, name):
        return read_config(model_class, folder)


def _found(kind: str, name: str) -> Path:
    """The folder of a model's files: shipped, the user's, or fetched from the hub. ValueError where there is none."""
    one = SINGULAR.get(kind, kind[:-1])
    if not isinstance(name, str | Path) or not str(name).strip():
        raise ValueError(f"a {one} is named by a shipped name, a folder or a hub id; got {name!r}")
    name = str(name)
    folder = folder_of(kind, name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f"{name} holds no config.json; a model is a folder with config.json and model.safetensors")
    if folder.exists():
        return folder
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        return _fetched(one, name)
    if "/" in name:
        raise ValueError(f"there is no folder {name}; a {one} is a shipped name, a folder or a hub id (owner/name)")
    raise unknown(one, name, shipped(kind))


def _fetched(one: str, name: str) -> Path:
    """The local copy of a model on the hub; what was fetched once is there without a network too."""
    from huggingface_hub import snapshot_download

    try:  # unlike the mixin's download of single files, this asks an absent network only once
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"], etag_timeout=5))
    except Exception as error:  # whatever the hub and the network raise
        raise ValueError(
            f"there is no folder {name}, and the hub gives no {one} of that name: {_reason(error)}"
        ) from None


@contextlib.contextmanager
def _told(model_class: type, name: str) -> Iterator[None]:
    """ValueError, in one line, for whatever JSON, safetensors and torch raise on damaged or missing files."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"cannot load {model_class.__name__} from {name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """An error's message on one line, shortened between words."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
