"""On a GPU, where there is one (opt-in: `pytest -m gpu`): the same images as on a CPU."""

import pytest
import torch

from orderhead.body import load
from orderhead.sampling import sample

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="no GPU here"),
]
DEVICE = "cuda" if torch.cuda.is_available() else "mps"


def test_the_same_image_comes_out_on_another_device():
    body = load.load_body("fashion")
    settings = {"steps": 8, "denoise_steps": 10, "cfg_scale": 3.0, "solver": "dpm"}
    cpu = sample(body, range(10), "spread", **settings).tokens_BLC
    other = sample(body.to(DEVICE), range(10), "spread", **settings).tokens_BLC.cpu()
    assert (cpu - other).abs().max() < 1e-2


def test_reduced_precision_stays_close():
    body = load.load_body("fashion").to(DEVICE)
    settings = {"steps": 4, "denoise_steps": 10, "cfg_scale": 3.0, "solver": "dpm"}
    full = sample(body, range(10), **settings).tokens_BLC
    with torch.autocast(DEVICE, torch.bfloat16):
        half = sample(body, range(10), **settings).tokens_BLC
    assert (full - half).abs().mean() < 0.2
