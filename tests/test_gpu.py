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


def test_a_gradient_reaches_the_scores_through_a_frozen_body():
    from orderhead.body.soft import predict_soft

    body = load.load_body("fashion").requires_grad_(False)
    mask, tokens = torch.rand(4, 64, generator=torch.Generator().manual_seed(0)), torch.randn(4, 64, 4)
    gradients = []
    for device in ("cpu", DEVICE):
        leaf = mask.to(device, copy=True).requires_grad_()
        z_BLD = predict_soft(body.to(device), tokens.to(device), leaf, torch.arange(4, device=device))
        z_BLD.square().mean().backward()
        gradients.append(leaf.grad.cpu())
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()


def test_reduced_precision_stays_close():
    body = load.load_body("fashion").to(DEVICE)
    settings = {"steps": 4, "denoise_steps": 10, "cfg_scale": 3.0, "solver": "dpm"}
    full = sample(body, range(10), **settings).tokens_BLC
    with torch.autocast(DEVICE, torch.bfloat16):
        half = sample(body, range(10), **settings).tokens_BLC
    assert (full - half).abs().mean() < 0.2


@pytest.mark.skipif(DEVICE != "cuda", reason="graphs are CUDA's")
@pytest.mark.parametrize(
    "more",
    [
        {"cfg_scale": 1.0},
        {"cfg_scale": 1.0, "solver": "dpm"},
        {},
        {"solver": "dpm"},
        {"seed": 5},
        {"null_every": 2},
        {"full_every": 3},
        {"denoise_by": "pull"},
        {"denoise_by": "contrast"},
    ],
)
def test_a_replayed_graph_gives_what_was_computed(more):
    """The third call replays what the second recorded; other labels and images go through the same graphs."""
    body = load.load_body("fashion").to(DEVICE)
    settings = {"steps": 8, "denoise_steps": 10, "cfg_scale": 3.0, "solver": "ancestral"} | more
    computed, *again = [sample(body, [0] * 8, **settings).tokens_BLC for _ in range(3)]
    assert all((tokens - computed).abs().max() < 1e-4 for tokens in again)
    other = sample(body, [3] * 8, index_B=range(8, 16), **settings).tokens_BLC.cpu()
    cpu = sample(load.load_body("fashion"), [3] * 8, index_B=range(8, 16), **settings).tokens_BLC
    assert (other - cpu).abs().max() < 1e-2


@pytest.mark.skipif(DEVICE != "cuda", reason="graphs are CUDA's")
def test_new_weights_are_seen_by_a_body_that_has_been_recorded():
    body = load.load_body("fashion").to(DEVICE)
    settings = {"steps": 4, "denoise_steps": 10, "cfg_scale": 3.0}
    before = [sample(body, range(8), **settings).tokens_BLC for _ in range(3)][-1]
    with torch.no_grad():
        body.diffloss.net.res_blocks[0].adaLN_modulation[1].bias.add_(0.1)
    after = [sample(body, range(8), **settings).tokens_BLC for _ in range(3)]
    assert (after[0] - before).abs().max() > 1e-3
    assert (after[2] - after[0]).abs().max() < 1e-4
