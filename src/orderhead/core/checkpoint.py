"""Tensors on disk: safetensors of our own, and foreign pickles that cannot run code."""

from __future__ import annotations

import argparse
import dataclasses
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
    that names any other global is refused by name before anything is loaded. ValueError says what was found.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if foreign:
                raise ValueError(f"{path} wants to run {', '.join(sorted(foreign))}; refused, nothing was loaded")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ValueError:
        raise
    except Exception as error:  # whatever the zip and pickle readers raise on a damaged file
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a whole torch checkpoint ({reason}); download it again") from None


def save_model(model: Any, folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors` of a model whose `config` is a dataclass; config last, each whole."""
    folder = Path(folder)
    (folder / "config.json").unlink(missing_ok=True)  # no folder loads while its weights are being replaced
    save_tensors(folder / "model.safetensors", model.state_dict())
    write_json(folder / "config.json", dataclasses.asdict(model.config))
