"""Fixtures that several rooms' tests share: the full-size MAR-B of `parity/fill.py`, built once a session."""

import json
from pathlib import Path

import pytest
import torch
from parity.fill import state_dict
from torch import Tensor

from orderhead.body import MAR, official

PARITY = Path(__file__).parent / "parity"


@pytest.fixture(scope="session")
def mar_base_state() -> dict[str, Tensor]:
    """MAR-B's state dict under the published names, 0.8 GB; read only."""
    return state_dict(json.loads((PARITY / "mar_base_keys.json").read_text()))


@pytest.fixture(scope="session")
def mar_base(mar_base_state: dict[str, Tensor]) -> MAR:
    """The body with those weights, frozen, in eval mode; read only."""
    assert torch.get_default_dtype() == torch.float32
    return official.from_state_dict(mar_base_state).requires_grad_(False)
