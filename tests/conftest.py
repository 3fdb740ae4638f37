"""Fixtures that several tests share, built once a session: the full-size MAR-B of `parity/fill.py`, weights for
Inception, a results folder and its page; and the command that refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import report_fixture
import torch
from parity.fill import state_dict
from torch import Tensor
from worlds import inception_weights, one_line

from orderhead.body import MAR, official
from orderhead.cli import main
from orderhead.report import build

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


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of torch-fidelity's Inception, never trained, 96 MB."""
    pytest.importorskip("torch_fidelity")
    return inception_weights(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of `report_fixture`; read only, but for its page."""
    return report_fixture.make(tmp_path_factory.mktemp("report") / "demo")


@pytest.fixture(scope="session")
def page(folder: Path) -> str:
    """That folder's page."""
    return build(folder).read_text(encoding="utf-8")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command in this process; what it says when it refuses."""

    def run(*argv: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in argv]) == 2
        return one_line(capsys.readouterr().err)

    return run
