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
from worlds import fashion_body, few_real_images, inception_weights, one_line

from orderhead.body import MAR, official
from orderhead.cli import main
from orderhead.core.rng import torch_generator
from orderhead.report import build
from orderhead.studies.plan import SCALES, Scale
from orderhead.training.ground import Ground

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


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """A small untrained body, noise for training images, and few real images to be measured against."""
    tokens = torch.randn(48, 64, 4, generator=torch_generator(0))
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("orderhead.training.head_recipes.image_tokens", lambda *a: (tokens, torch.arange(48) % 10))
    monkeypatch.setitem(SCALES, "smoke", Scale("smoke", 10, {"steps": 8, "denoise_steps": 2, "cfg_scale": 2.0}))
    few_real_images(monkeypatch)
    return Ground(body=str(fashion_body(tmp_path)))
