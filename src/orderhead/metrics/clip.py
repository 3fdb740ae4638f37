"""CLIP (Radford et al. 2021) as OpenCLIP rebuilds it: the judge whose kernel distance is CMMD, and who reads prompts.

Legend: B batch, C H W pixels, F embedding, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orderhead.core.checkpoint import load_pickled_tensors, load_tensors, sha256
from orderhead.metrics.fidelity import as_rgb
from orderhead.metrics.judge import Judge

WEIGHTS = "ViT-L-14-336px.pt"
OFFICIAL = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"  # sha256 of that file, OpenAI's
WEIGHTS_FROM = f"https://openaipublic.azureedge.net/clip/models/{OFFICIAL}/{WEIGHTS}"

PROMPT = "a photo of a {}."
"""What a class is called in words, as in the CLIP paper's section 3.1.4."""

SIZES = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's file holds beside weights
SCALE = 100.0  # of logits: where CLIP's own temperature ended, and what CLIP scores are multiplied by


def clip(weights: str | Path, class_names: Sequence[str]) -> Judge:
    """A CLIP vision transformer with the weights of a local file, any size (told by the shapes; QuickGELU as OpenAI's).

    Features are image embeddings (F,), logits 100 cos(image, `PROMPT` of each class): CLIP's own zero-shot classifier,
    in the order of `class_names`. Images are rounded to uint8, repeated to RGB where they are grey, resized (bicubic
    with antialiasing, as the reference of CMMD and PIL do) and normalised as CLIP's were.

    The file is OpenAI's (a TorchScript program: run only where its sha256 is the published one), a state dict in
    safetensors, or one in a torch file. With the official ViT-L/14-336 `mmd_rbf` is called `cmmd`; other weights give
    a distance that compares with no published one.

    ValueError where open_clip is not installed, the body names no classes, or the file is missing, wants to run code or
    holds other weights.
    """
    if not class_names:
        raise ValueError("features of clip need the names of the body's classes; add class_names to its config.json")
    build = _builder()
    official = Path(weights).is_file() and sha256(weights) == OFFICIAL
    network = Clip(_model(build, _state_dict(weights, official), weights), class_names)
    return Judge(
        "clip ViT-L/14-336" if official else "clip with unofficial weights", network, "image embedding", network,
        outputs=len(class_names), knows_classes=True, reads_prompts=True, named={"mmd_rbf": "cmmd"} if official else {},
    )  # fmt: skip


class Clip(nn.Module):
    """The image tower, and each class's prompt as it was embedded (K, F), of norm 1."""

    prompts_KF: Tensor
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, model: Any, class_names: Iterable[str]) -> None:
        super().__init__()
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, tokenize

        prompts = tokenize([PROMPT.format(name) for name in class_names], context_length=model.context_length)
        with torch.no_grad():
            parts = [model.encode_text(part, normalize=True) for part in prompts.split(256)]
        self.visual = model.visual
        self.register_buffer("prompts_KF", torch.cat(parts))
        self.register_buffer("mean_C11", torch.tensor(OPENAI_DATASET_MEAN).view(-1, 1, 1))
        self.register_buffer("std_C11", torch.tensor(OPENAI_DATASET_STD).view(-1, 1, 1))

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] -> embeddings (B, F) and logits (B, K)."""
        embedding_BF = self.visual(self.pixels(images_BCHW))
        cosine_BK = nn.functional.normalize(embedding_BF, dim=-1) @ self.prompts_KF.T
        return embedding_BF, SCALE * cosine_BK

    def pixels(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1] as the tower reads them, (B, 3, side, side)."""
        rgb = as_rgb(images_BCHW).float() / 255
        sized = nn.functional.interpolate(rgb, self.visual.image_size, mode="bicubic", antialias=True)
        return (sized - self.mean_C11) / self.std_C11


def _builder() -> Callable[[dict[str, Tensor]], Any]:
    try:
        from open_clip.model import build_model_from_openai_state_dict
    except ImportError:
        raise ValueError("features of clip need open_clip; pip install 'orderhead[clip]'") from None
    return build_model_from_openai_state_dict


def _model(build: Callable[[dict[str, Tensor]], Any], sd: Mapping[str, Tensor], weights: str | Path) -> Any:
    """OpenCLIP's model with these weights, in float32."""
    try:
        sd = {name: value for name, value in sd.items() if name not in SIZES}
        model = build(dict(sd)).float()  # rounds weights to half precision on its way
        model.load_state_dict(sd)
    except Exception:  # whatever it raises on other names and shapes
        raise ValueError(f"{weights} holds other weights than CLIP's; get {WEIGHTS} from {WEIGHTS_FROM}") from None
    return model.eval().requires_grad_(False)


def _state_dict(weights: str | Path, official: bool) -> Mapping[str, Tensor]:
    if official:  # a program, but one whose every byte is known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's file stays what it is
            return torch.jit.load(str(weights), map_location="cpu").state_dict()
    return load_tensors(weights) if Path(weights).suffix == ".safetensors" else load_pickled_tensors(weights)
