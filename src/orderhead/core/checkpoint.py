"""Tensors on disk: safetensors of our own, and foreign pickles that cannot run code."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from orderhead.core.files import replacing, write_json


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    with replacing(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. ValueError where it is missing, truncated, or of another kind."""
    if not Path(path).is_file():
        raise ValueError(f"no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from None


def load_pickled_tensors(path: str | Path) -> dict[str, Any]:
    """A torch checkpoint's contents, without running a line of what it pickles.

    Tensors, plain containers and `argparse.Namespace` (which the published MAR checkpoint carries) are allowed; a file
    that names any other global is refused by name. Files of torch before 1.6, which are no zip (the published
    Inception's), are read too. ValueError says what was found.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {path}")
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch tells of unusual pickles before it refuses them
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
            if not foreign:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever the zip and pickle readers raise on a damaged file
        foreign = re.findall(r"GLOBAL (\w+(?:\.\w+)+)", str(error))
        if not foreign:
            raise ValueError(f"{path} is not a whole torch checkpoint ({_reason(error)}); download it again") from None
    raise ValueError(f"{path} wants to run {', '.join(sorted(foreign))}; refused, nothing was loaded")


def sha256(path: str | Path) -> str:
    """Of a file's bytes, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """What is wrong, without torch's advice to load the file all the same."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is no pickle of tensors"
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def save_model(model: Any, folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors` of a model whose `config` is a dataclass; config last, each whole."""
    folder = Path(folder)
    (folder / "config.json").unlink(missing_ok=True)  # no folder loads while its weights are being replaced
    save_tensors(folder / "model.safetensors", model.state_dict())
    write_json(folder / "config.json", dataclasses.asdict(model.config))
