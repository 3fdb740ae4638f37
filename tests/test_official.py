"""The published code, number for number: outputs of LTH14/mar are in `parity/`, weights come from `parity/fill.py`.

Relative errors are to the norm; 1e-5 is what float32 allows.
"""

import argparse
import json
import math
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.fill import fill, state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from orderhead.body import MAR, SIZES, MARConfig, official
from orderhead.body.tokenizer import TOKENIZERS, KLTokenizer

PARITY = Path(__file__).parent / "parity"
SMALL = replace(
    SIZES["tiny"], grid_h=4, grid_w=4, classes=3, encoder_width=64, encoder_heads=1, encoder_depth=2,
    decoder_width=128, decoder_heads=4, decoder_depth=1, diffloss_width=32, diffloss_depth=2, tokenizer="",
)  # fmt: skip


def relative(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def parameters(config: MARConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in MAR(config).parameters())


# Parity at full size.


@torch.no_grad()
def test_mar_base_conditions_equal_the_published_ones(mar_base: MAR) -> None:
    want = load_file(PARITY / "mar_base.safetensors")
    z_BLD = mar_base.predict(want["tokens"], want["mask"].bool(), want["labels"])
    assert relative(z_BLD[:, ::4], want["z"]) <= 1e-5


@torch.no_grad()
def test_mar_base_denoiser_equals_the_published_one(mar_base: MAR) -> None:
    want = load_file(PARITY / "mar_base.safetensors")
    assert relative(mar_base.denoise(want["diff_x"], want["diff_t"], want["diff_c"]), want["diff_out"]) <= 1e-5


def test_mar_base_sizes_are_read_off_the_shapes(mar_base: MAR) -> None:
    assert replace(mar_base.config, class_names=()) == SIZES["base"]
    assert (len(mar_base.config.class_names), mar_base.config.class_names[207]) == (1000, "golden retriever")
    assert not mar_base.training
    assert mar_base.fake_latent.dtype == torch.float32


@pytest.fixture(scope="module")
def kl16_state() -> dict[str, Tensor]:
    return state_dict(json.loads((PARITY / "kl16_keys.json").read_text()))


@pytest.fixture(scope="module")
def kl16(kl16_state: dict[str, Tensor]) -> KLTokenizer:
    """With a discriminator's weights beside it, as in the published file."""
    return official.kl16_from_state_dict({**kl16_state, "loss.logvar": torch.zeros(())})


@torch.no_grad()
def test_kl16_moments_equal_the_published_ones(kl16: KLTokenizer) -> None:
    want, g = load_file(PARITY / "kl16.safetensors"), torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 256, 256, generator=g) * 2 - 1
    mean, log_var = kl16.moments(image)
    assert relative(torch.cat([mean, log_var], dim=1), want["moments"]) <= 1e-5
    tokens = kl16.to_tokens(mean)
    assert relative(tokens.transpose(1, 2).reshape(1, 16, 16, 16), 0.2325 * want["moments"][:, :16]) <= 1e-5


@torch.no_grad()
def test_kl16_decoding_equals_the_published_one(kl16: KLTokenizer) -> None:
    want, g = load_file(PARITY / "kl16.safetensors"), torch.Generator().manual_seed(0)
    torch.rand(1, 3, 256, 256, generator=g)
    latents = torch.randn(1, 16, 16, 16, generator=g)
    assert torch.equal(latents, want["latents"])
    raw = kl16.vae.decode(latents / 0.2325).sample  # type: ignore[union-attr]
    assert relative(raw[:, :, ::2, ::2], want["decoded"]) <= 1e-5


@torch.no_grad()
def test_tokens_are_the_scaled_latents_in_raster_order() -> None:
    """`encode` and `decode` at the small size, against the autoencoder itself."""
    config = replace(TOKENIZERS["fashion"], latent_scale=0.5, latent_shift=0.25)
    tokenizer = fill(KLTokenizer(config)).eval()
    assert isinstance(tokenizer, KLTokenizer)
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents, tokens = tokenizer.moments(image)[0], tokenizer.encode(image)
    assert torch.equal(tokens[:, 8 * 3 + 5], (latents[:, :, 3, 5] - 0.25) * 0.5)
    raw = tokenizer.vae.decode(latents).sample  # type: ignore[union-attr]
    torch.testing.assert_close(tokenizer.decode(tokens), raw.clamp(-1, 1), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="reads 1 x 32 x 32 images"):
        tokenizer.encode(image[..., :-1])


def test_kl16_checkpoint_round_trip(kl16: KLTokenizer, kl16_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": kl16_state}, tmp_path / "kl16.ckpt")
    again = KLTokenizer.from_pretrained(official.import_checkpoint(tmp_path / "kl16.ckpt", tmp_path / "kl16"))
    assert again.config == kl16.config
    assert again.state_dict().keys() == kl16.state_dict().keys()
    assert all(torch.equal(value, kl16.state_dict()[key]) for key, value in again.state_dict().items())


def test_kl16_under_lightning_s_key_and_with_a_key_gone(kl16_state: dict[str, Tensor], tmp_path: Path) -> None:
    rest = {key: value for key, value in kl16_state.items() if key != "decoder.up.3.upsample.conv.bias"}
    torch.save({"state_dict": rest}, tmp_path / "kl16.ckpt")
    with pytest.raises(ValueError, match=r"not a KL-16 state dict: missing decoder\.up\.3\.upsample\.conv\.bias$"):
        official.read(tmp_path / "kl16.ckpt")


# Sizes.


def test_parameter_counts() -> None:
    """B as counted from the published shapes; the study's 208, 479 and 943 M are the counts rounded up."""
    shapes = json.loads((PARITY / "mar_base_keys.json").read_text()).values()
    assert parameters(SIZES["base"]) == sum(map(math.prod, shapes))
    counts = [parameters(SIZES[name]) for name in ("base", "large", "huge")]
    assert counts == [207_924_768, 478_326_304, 942_403_104]
    assert [math.ceil(count / 1e6) for count in counts] == [208, 479, 943]


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large", "huge"])
def test_every_size_is_read_off_its_shapes(name: str) -> None:
    with torch.device("meta"):
        shapes = MAR(SIZES[name]).state_dict()
    found = replace(official._sizes(shapes), class_names=())
    assert replace(found, tokenizer="", classes=0) == replace(SIZES[name], tokenizer="", classes=0)


# Checkpoint files, at a small size.


@pytest.fixture(scope="module")
def small() -> MAR:
    return fill(MAR(SMALL)).eval()  # type: ignore[return-value]


def checkpoint(path: Path, small: MAR, **changes: Any) -> Path:
    """A file as `main_mar.py` writes it: the average is made of parameters, twice the weights here."""
    weights = small.state_dict()
    average = {name: nn.Parameter(2 * value) for name, value in weights.items()}
    arguments = argparse.Namespace(model="mar_base", diffloss_d=6, output_dir="./output")
    torch.save({"model": weights, "model_ema": average, "epoch": 799, "args": arguments, **changes}, path)
    return path


@pytest.mark.parametrize(("ema", "factor"), [(True, 2), (False, 1)])
def test_import_writes_a_folder_that_loads(small: MAR, tmp_path: Path, ema: bool, factor: int) -> None:
    path = checkpoint(tmp_path / "checkpoint-last.pth", small)
    out = official.import_checkpoint(path, tmp_path / "deep" / "body", ema=ema)
    assert {file.name for file in out.iterdir()} >= {"config.json", "model.safetensors"}
    body = MAR.from_pretrained(out)
    assert body.config == SMALL
    assert all(torch.equal(value, factor * small.state_dict()[key]) for key, value in body.state_dict().items())
    assert os.listdir(tmp_path / "deep") == ["body"]


def test_import_defaults_to_the_average_and_may_be_repeated(small: MAR, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint-last.pth", small)
    official.import_checkpoint(path, tmp_path / "body", ema=False)
    body = MAR.from_pretrained(official.import_checkpoint(path, tmp_path / "body"))
    assert torch.equal(body.fake_latent, 2 * small.fake_latent)
    assert (tmp_path / "body" / "model.safetensors").stat().st_mode & 0o077 == 0o077 & ~_umask() & 0o666


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_weights_are_copied(small: MAR) -> None:
    state = {name: value.clone() for name, value in small.state_dict().items()}
    body = official.from_state_dict(state)
    with torch.no_grad():
        body.fake_latent.zero_()
    assert torch.equal(state["fake_latent"], small.fake_latent)


def test_half_precision_weights_become_float32(small: MAR) -> None:
    body = official.from_state_dict({name: value.half() for name, value in small.state_dict().items()})
    assert {p.dtype for p in body.parameters()} == {torch.float32}


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def hostile(path: Path, small: MAR) -> Path:
    return checkpoint(path, small, optimizer=Hostile(path.parent / "ran"))


def hostile_of_old_torch(path: Path, small: MAR) -> Path:
    """As torch wrote before 1.6: no zip, several pickles in a row."""
    contents = {"model_ema": small.state_dict(), "args": Hostile(path.parent / "ran")}
    torch.save(contents, path, _use_new_zipfile_serialization=False)
    return path


def bare_hostile_pickle(path: Path, small: MAR) -> Path:
    path.write_bytes(pickle.dumps(Hostile(path.parent / "ran")))
    return path


def truncated(path: Path, small: MAR) -> Path:
    content = checkpoint(path, small).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def garbage(path: Path, small: MAR) -> Path:
    path.write_bytes(b"not a checkpoint")
    return path


def other_zip(path: Path, small: MAR) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    return path


def missing_file(path: Path, small: MAR) -> Path:
    return path


def foreign_weights(path: Path, small: MAR) -> Path:
    torch.save({"model": nn.Linear(2, 2).state_dict()}, path)
    return path


def foreign_keys(path: Path, small: MAR) -> Path:
    torch.save({"generator": {}, "epoch": 3}, path)
    return path


def a_tensor(path: Path, small: MAR) -> Path:
    torch.save(torch.zeros(3), path)
    return path


def no_average(path: Path, small: MAR) -> Path:
    return checkpoint(path, small, model_ema=None)


def with_average(path: Path, small: MAR, **changes: Any) -> Path:
    average = {**small.state_dict(), **changes}
    return checkpoint(path, small, model_ema={key: value for key, value in average.items() if value is not None})


def key_gone(path: Path, small: MAR) -> Path:
    return with_average(path, small, **{"encoder_blocks.1.attn.proj.bias": None})


def size_key_gone(path: Path, small: MAR) -> Path:
    return with_average(path, small, diffusion_pos_embed_learned=None)


def key_misshapen(path: Path, small: MAR) -> Path:
    return with_average(path, small, mask_token=torch.zeros(1, 1, 5))


def key_too_many(path: Path, small: MAR) -> Path:
    return with_average(path, small, **{f"head_{i}.weight": torch.zeros(1) for i in range(9)})


def no_square(path: Path, small: MAR) -> Path:
    return with_average(path, small, diffusion_pos_embed_learned=torch.zeros(1, 15, 128))


REFUSED = [
    (hostile, r"refused, nothing was loaded"),
    (hostile_of_old_torch, r"wants to run .*; refused, nothing was loaded"),
    (bare_hostile_pickle, r"not a whole torch checkpoint \(it is no pickle of tensors\)"),
    (truncated, r"not a whole torch checkpoint"),
    (garbage, r"not a whole torch checkpoint \(it is no pickle of tensors\)"),
    (other_zip, r"not a whole torch checkpoint"),
    (missing_file, r"no file"),
    (foreign_weights, r"holds weights weight, bias; expected LTH14/mar's checkpoint-last\.pth"),
    (foreign_keys, r"holds generator, epoch; expected"),
    (a_tensor, r"holds a Tensor; expected"),
    (no_average, r"no 'model_ema'; import the weights themselves \(--no-ema\)"),
    (key_gone, r"not a MAR state dict: missing encoder_blocks\.1\.attn\.proj\.bias$"),
    (size_key_gone, r"read off diffusion_pos_embed_learned"),
    (key_misshapen, r"misshapen mask_token \(1, 1, 5\), not \(1, 1, 128\)$"),
    (key_too_many, r"unexpected head_0\.weight, head_1\.weight, head_2\.weight and 6 more$"),
    (no_square, r"15 cells"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_is_refused_is_said_in_one_line_and_leaves_nothing(
    small: MAR, tmp_path: Path, make: Any, message: str
) -> None:
    path = make(tmp_path / "checkpoint-last.pth", small)
    with pytest.raises(ValueError, match=message) as caught:
        official.import_checkpoint(path, tmp_path / "body")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert set(os.listdir(tmp_path)) <= {path.name}


def test_a_checkpoint_of_old_torch_is_read(small: MAR, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-last.pth"
    torch.save({"model_ema": small.state_dict()}, path, _use_new_zipfile_serialization=False)
    read = official.read(path)
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in read.state_dict().items())


def test_a_file_in_the_way_is_not_replaced(small: MAR, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint-last.pth", small)
    with pytest.raises(ValueError, match="is a file; name a folder"):
        official.import_checkpoint(path, path)


def test_a_failed_write_leaves_nothing(small: MAR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    path = checkpoint(tmp_path / "checkpoint-last.pth", small)
    monkeypatch.setattr("orderhead.core.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space"):
        official.import_checkpoint(path, tmp_path / "body")
    assert os.listdir(tmp_path / "body") == []


@pytest.mark.parametrize(("width", "heads"), [(1280, 16), (1024, 16), (768, 12), (128, 4), (512, 8), (48, 1)])
def test_heads_are_the_published_ones_of_a_width_or_64_wide(width: int, heads: int) -> None:
    assert official._heads(width) == heads


def test_a_width_without_a_head_count_is_refused() -> None:
    with pytest.raises(ValueError, match="width 200"):
        official._heads(200)
