"""Where to compute, when nobody says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def default_device() -> torch.device:
    """CUDA (this process's own, under torchrun), else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name() -> str:
    """What a table calls it: the name of the CUDA device, else cpu or mps."""
    device = default_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """On CUDA, products of float32 matrices in TF32 (10 bits of mantissa): for training."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
