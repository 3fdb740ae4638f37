"""Where to compute, when nobody says."""

from __future__ import annotations

import os

import torch


def default_device() -> torch.device:
    """CUDA (this process's own, under torchrun), else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
