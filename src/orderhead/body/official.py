"""Checkpoints of LTH14/mar: its MAR bodies and its KL-16 autoencoder. Nothing else knows their names.

A body's parameters carry the published names already, so only its sizes are read off; the autoencoder's are renamed
to diffusers'. Keys and shapes are checked strictly, and errors speak the checkpoint's own names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orderhead.body.mar import MAR, SIZES, MARConfig
from orderhead.body.tokenizer import TOKENIZERS, KLTokenizer
from orderhead.core.checkpoint import load_pickled_tensors, save_model

EXPECTED = "expected LTH14/mar's checkpoint-last.pth ('model', 'model_ema') or its kl16.ckpt ('model' or 'state_dict')"

# The head count of each published width; it leaves no trace in the shapes.
HEADS = {size.encoder_width: size.encoder_heads for size in SIZES.values()}

# What a body's sizes are read off, and the number of its dimensions.
READ_OFF = {
    "class_emb.weight": 2, "z_proj.weight": 2, "encoder_pos_embed_learned": 3, "encoder_blocks.0.mlp.fc1.weight": 2,
    "decoder_embed.weight": 2, "diffusion_pos_embed_learned": 3, "diffloss.net.input_proj.weight": 2,
}  # fmt: skip

# diffusers' name -> the published autoencoder's, applied in this order.
KL16_NAMES = (
    (r"\bmid_block\.resnets\.0\.", "mid.block_1."),
    (r"\bmid_block\.resnets\.1\.", "mid.block_2."),
    (r"\bmid_block\.attentions\.0\.", "mid.attn_1."),
    (r"\b(down|up)_blocks\.", r"\1."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def from_state_dict(sd: Mapping[str, Tensor]) -> MAR:
    """The published body with these weights, copied to the CPU as float32; sizes are read off the shapes.

    Head counts are the published ones of the width, else width / 64. ValueError names the first keys that are
    missing, unexpected or misshapen.
    """
    config = _sizes(sd)
    with torch.device("meta"):
        body = MAR(config)
    _check("MAR", sd, _shapes(body))
    body.to_empty(device="cpu").load_state_dict(sd)
    return body.eval()


def kl16_from_state_dict(sd: Mapping[str, Tensor]) -> KLTokenizer:
    """The published KL-16 autoencoder with these weights (`loss.*` is dropped), on the CPU as float32.

    ValueError names the first keys that are missing, unexpected or misshapen.
    """
    sd = {name: value for name, value in sd.items() if not str(name).startswith("loss.")}
    with torch.device("meta"):
        tokenizer = KLTokenizer(TOKENIZERS["kl16"])
    ours = _shapes(tokenizer.vae)
    _check("KL-16", sd, {_kl16_name(name): _kl16_shape(name, shape) for name, shape in ours.items()})
    tokenizer.to_empty(device="cpu")
    tokenizer.vae.load_state_dict({name: sd[_kl16_name(name)].reshape(shape) for name, shape in ours.items()})
    return tokenizer.eval()


def read(path: str | Path, ema: bool = True) -> MAR | KLTokenizer:
    """The model in an official checkpoint, a body (its moving average unless `ema` is False) or KL-16, told by keys.

    The file's pickle cannot run code. ValueError, one line with the path, where the file is missing, damaged,
    hostile or of another kind.
    """
    try:
        contents = load_pickled_tensors(path)
        weights = _weights(contents)
        if _any_starts(weights, "diffloss.net."):
            return from_state_dict(_averaged(contents, ema))
        if _any_starts(weights, "encoder.down."):
            return kl16_from_state_dict(weights)
        raise ValueError(f"holds weights {_few(weights)}; {EXPECTED}")
    except ValueError as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path}: {message}") from None


def import_checkpoint(path: str | Path, out: str | Path, ema: bool = True) -> Path:
    """Write the model of an official checkpoint as the folder `out`: config.json and model.safetensors.

    Nothing is written unless the whole checkpoint was read and found right, and config.json, without which no folder
    loads, comes last. ValueError as for `read`, or where `out` is a file.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder to write")
    save_model(read(path, ema), out)
    return out


# Sizes of a body.


def _sizes(sd: Mapping[str, Tensor]) -> MARConfig:
    missing = [f"{key} ({dims} dimensions)" for key, dims in READ_OFF.items() if len(_shape(sd.get(key))) != dims]
    if missing:
        raise ValueError(f"not a MAR state dict: its sizes are read off {_few(missing)}, missing or misshapen")
    classes, width = sd["class_emb.weight"].shape
    decoder_width, cells = sd["decoder_embed.weight"].shape[0], sd["diffusion_pos_embed_learned"].shape[1]
    side, channels = _side(cells), sd["z_proj.weight"].shape[1]
    return MARConfig(
        grid_h=side, grid_w=side, channels=channels, classes=classes, class_names=_class_names(classes),
        encoder_width=width, encoder_depth=_depth(sd, "encoder_blocks"), encoder_heads=_heads(width),
        decoder_width=decoder_width, decoder_depth=_depth(sd, "decoder_blocks"), decoder_heads=_heads(decoder_width),
        mlp_ratio=sd["encoder_blocks.0.mlp.fc1.weight"].shape[0] / width,
        buffer_size=_buffer(sd["encoder_pos_embed_learned"].shape[1], cells),
        diffloss_width=sd["diffloss.net.input_proj.weight"].shape[0],
        diffloss_depth=_depth(sd, "diffloss.net.res_blocks"), tokenizer=_tokenizer(side, channels),
    )  # fmt: skip


def _class_names(classes: int) -> tuple[str, ...]:
    """ImageNet's, in the order of its folders, where there are a thousand classes as in the published bodies."""
    if classes != 1000:
        return ()
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _depth(sd: Mapping[str, Tensor], blocks: str) -> int:
    return len({match[1] for key in sd if (match := re.match(rf"{re.escape(blocks)}\.(\d+)\.", str(key)))})


def _side(cells: int) -> int:
    side = math.isqrt(cells)
    if side < 1 or side**2 != cells:
        raise ValueError(f"diffusion_pos_embed_learned holds {cells} cells, which is no square grid")
    return side


def _buffer(positions: int, cells: int) -> int:
    if positions <= cells:
        raise ValueError(f"encoder_pos_embed_learned holds {positions} positions, no more than the {cells} cells")
    return positions - cells


def _heads(width: int) -> int:
    heads = HEADS.get(width, max(1, width // 64))
    if width < 1 or width % heads:
        raise ValueError(f"no head count is known for width {width}: neither a published width nor a multiple of 64")
    return heads


def _tokenizer(side: int, channels: int) -> str:
    kl16 = TOKENIZERS["kl16"]
    return "kl16" if (side, channels) == (kl16.grid.h, kl16.channels) else ""


# Names of the autoencoder.


def _kl16_name(name: str) -> str:
    """The published name of diffusers' `name`; the decoder's levels count the other way."""
    levels = len(TOKENIZERS["kl16"].widths)
    name = re.sub(r"\bup_blocks\.(\d+)", lambda match: f"up_blocks.{levels - 1 - int(match[1])}", name)
    for pattern, published in KL16_NAMES:
        name = re.sub(pattern, published, name)
    return name


def _kl16_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The published shape of diffusers' `name`: attention is 1 x 1 convolutions there."""
    return (*shape, 1, 1) if ".attentions." in name and len(shape) == 2 else shape


# What a checkpoint holds.


def _weights(contents: Any) -> Mapping[str, Any]:
    """The first state dict in a checkpoint. ValueError says what is there instead."""
    if not isinstance(contents, Mapping):
        raise ValueError(f"holds a {type(contents).__name__}; {EXPECTED}")
    for key in ("model", "state_dict", "model_ema"):
        if isinstance(contents.get(key), Mapping):
            return contents[key]
    raise ValueError(f"holds {_few(contents)}; {EXPECTED}")


def _averaged(contents: Mapping[str, Any], ema: bool) -> Mapping[str, Any]:
    key = "model_ema" if ema else "model"
    if not isinstance(contents.get(key), Mapping):
        other = "import the weights themselves (--no-ema)" if ema else "import the moving average (without --no-ema)"
        raise ValueError(f"holds {_few(contents)} and no {key!r}; {other}")
    return contents[key]


def _any_starts(weights: Mapping[str, Any], prefix: str) -> bool:
    return any(str(name).startswith(prefix) for name in weights)


def _check(what: str, found: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError, one line, unless the keys and shapes of `found` are those expected."""
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "misshapen": [
            f"{key} {_shape(found[key])}, not {shape}"
            for key, shape in expected.items()
            if key in found and _shape(found[key]) != shape
        ],
    }
    parts = [f"{problem} {_few(keys)}" for problem, keys in problems.items() if keys]
    if parts:
        raise ValueError(f"not a {what} state dict: {'; '.join(parts)}")


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else (-1,)


def _few(names: Iterable[Any], count: int = 3) -> str:
    """The first names, and how many there are besides; on one line."""
    names = [" ".join(str(name).split())[:80] for name in names]
    return (", ".join(names[:count]) or "nothing") + (f" and {len(names) - count} more" if len(names) > count else "")
