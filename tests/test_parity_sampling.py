"""Sampled latents of the published code at full MAR-B size, number for number."""

from pathlib import Path

from safetensors import safe_open

from orderhead.body import MAR
from orderhead.sampling import sample

TOLERANCE = 1e-5  # relative to the norm: what float32 allows with these weights


def test_sampled_latents_equal_the_published_codes(mar_base: MAR):
    with safe_open(Path(__file__).parent / "parity/mar_base.safetensors", "pt") as file:
        settings, labels, expected = file.metadata(), file.get_tensor("labels"), file.get_tensor("sampled")
    samples = sample(
        mar_base, labels, "random", steps=int(settings["num_iter"]), denoise_steps=int(settings["num_sampling_steps"]),
        cfg_scale=float(settings["cfg"]), cfg_schedule=settings["cfg_schedule"],
        temperature=float(settings["temperature"]), seed=int(settings["seed"]), rng="official",
    )  # fmt: skip
    latents = samples.tokens_BLC.transpose(1, 2).reshape(expected.shape)
    assert ((latents - expected).norm() / expected.norm()).item() <= TOLERANCE
