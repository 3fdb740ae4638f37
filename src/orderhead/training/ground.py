"""What models are trained on: a body, who recognises its images, its tokenizer, and the images themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orderhead.body.load import body_config, load_body, load_tokenizer, with_tokenizer
from orderhead.body.mar import MAR, SIZES, MARConfig
from orderhead.body.tokenizer import KLTokenizer
from orderhead.core.device import default_device
from orderhead.core.names import unknown
from orderhead.data.images import IMAGES, ImageFolder, read_folder
from orderhead.data.latents import cached_tokens, fingerprint
from orderhead.data.posteriors import Tokens, cached_posteriors
from orderhead.training.loop import Evaluation, LoopConfig, Loss
from orderhead.training.recipe import Recipe


@dataclass(frozen=True)
class Ground:
    """Names or folders of a body, a classifier, a tokenizer (auto: the body's) and images (a data set or a folder).

    The study's own ground is MAR-B, its classifier and ImageNet, which are the user's to bring.
    """

    body: str = "fashion"
    classifier: str = "fashion"
    images: str = "fashion-train"
    tokenizer: str = "auto"

    @property
    def identity(self) -> dict[str, str]:
        """What was named."""
        return {name: value for name, value in asdict(self).items() if value != "auto"}


def ground_at(scale: str, ground: Ground | None) -> Ground:
    """The ground, or where none is named the world that ships. ValueError for `full` without one."""
    if ground is None and scale == "full":
        raise ValueError(
            "the study's full scale is MAR-B, a classifier of its latents (`orderhead train latent-classifier`) and "
            "ImageNet, which do not ship: give --body, --classifier and --train-images, or take --scale mini"
        )
    return ground or Ground()


def ground_config(ground: Ground) -> MARConfig:
    """The sizes of the ground's body, and its tokenizer. ValueError where either is not here."""
    return with_tokenizer(body_config(ground.body), ground.tokenizer)


def ground_body(ground: Ground) -> MAR:
    """The ground's body, frozen, on the default device. ValueError where it or its tokenizer is not here."""
    body = load_body(ground.body).to(default_device()).requires_grad_(False)
    body.config = with_tokenizer(body.config, ground.tokenizer)
    return body


@dataclass(frozen=True)
class GroundRecipe:
    """A model of a ground's tokens: `build` makes it for a body's sizes, `task` gives what a `Recipe`'s does.

    `about` as in `Recipe`, beside what the ground decides.
    """

    summary: str
    build: Callable[[MARConfig], nn.Module]
    task: Callable[[Tokens, Tensor], tuple[int, Loss, Evaluation | None]]
    scales: Mapping[str, LoopConfig]
    about: Mapping[str, Any] = field(default_factory=dict)

    def on(self, ground: Ground) -> Recipe:
        """The recipe on a ground. ValueError where the ground's body or tokenizer is not here."""
        body = ground_config(ground)
        folder = opened(ground.images, body)
        sizes = {name: value for name, value in asdict(body).items() if name != "tokenizer"}
        about = {**self.about, "sizes": sizes, **images_identity(ground.images, body, folder)}
        return Recipe(
            self.summary, lambda: self.build(body),
            lambda config: self.task(*image_tokens(ground.images, body, folder)), self.scales, about=about,
        )  # fmt: skip


def opened(images: str, body: MARConfig) -> ImageFolder | None:
    """The folder of that name, listed once for all that is asked of it; None for a data set. ValueError as for
    `image_tokens`."""
    return None if images in IMAGES else _folder(images, body, _tokenizer(body))


def image_tokens(
    images: str, body: MARConfig = SIZES["tiny"], folder: ImageFolder | None = None
) -> tuple[Tokens, Tensor]:
    """Tokens of images under a body's tokenizer, and their labels (N,).

    `images` is a name of `data.images.IMAGES`, whose tokens (the posteriors' means) are in memory, or a folder with one
    subfolder a class, whose tokens are drawn (`data.posteriors`); the order of the subfolders' names is that of the
    body's classes. ValueError where there are no such images, or they or the tokenizer do not fit the body.
    """
    tokenizer = _tokenizer(body)
    if images not in IMAGES:
        return _folder_tokens(folder or _folder(images, body, tokenizer), body, tokenizer)
    tokens, labels_N = cached_tokens(images, tokenizer.encode, fingerprint(tokenizer))
    _check_classes(images, labels_N, body)
    return tokens, labels_N


def images_identity(images: str, body: MARConfig, folder: ImageFolder | None) -> dict[str, Any]:
    """What decides `image_tokens`: which images they are, wherever those lie, and the tokenizer's weights."""
    which = images if folder is None else folder.identity
    return {"train_images": which, "tokenizer_weights": fingerprint(_tokenizer(body))}


def few(tokens: Tokens, labels_N: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`k` images, at most all, in memory and not drawn: for what is asked about an image beforehand.

    The first ones of a data set, whose classes are mixed; of a folder, which stands class by class, every N/k-th.
    """
    N = len(tokens)
    rows = torch.arange(N)[:k] if isinstance(tokens, Tensor) else torch.arange(min(k, N)) * N // min(k, N)
    return tokens[rows], labels_N[rows]


def _tokenizer(body: MARConfig) -> KLTokenizer:
    """The body's tokenizer. ValueError where it is not here, or makes other tokens than the body reads."""
    tokenizer = load_tokenizer(body.tokenizer)
    makes, reads = (tokenizer.grid, tokenizer.config.channels), (body.grid, body.channels)
    if makes != reads:
        made, read = (f"{grid.h} x {grid.w} tokens of {channels} channels" for grid, channels in (makes, reads))
        raise ValueError(
            f"the tokenizer {body.tokenizer} makes {made}, the body reads {read}; give another --tokenizer"
        )
    return tokenizer


def _folder(images: str, body: MARConfig, tokenizer: KLTokenizer) -> ImageFolder:
    if "/" not in images and not Path(images).is_dir():
        raise ValueError(f"{unknown('data set', images, IMAGES)}; or give a folder with one subfolder a class")
    folder = read_folder(images, tokenizer.config.image_channels, tokenizer.config.image_size)
    if folder.labels_M is None:
        raise ValueError(f"{images} is flat, so nobody knows its classes; training takes one subfolder a class")
    _check_classes(images, folder.labels_M, body)
    return folder


def _folder_tokens(folder: ImageFolder, body: MARConfig, tokenizer: KLTokenizer) -> tuple[Tokens, Tensor]:
    assert folder.labels_M is not None
    device = default_device()
    network = deepcopy(tokenizer).to(device)  # the loaded one stays where it is
    cells = (body.grid.L, body.channels)
    tokens = cached_posteriors(folder, lambda x: network.posterior(x.to(device)), fingerprint(tokenizer), cells)
    return tokens, folder.labels_M


def _check_classes(images: str, labels_N: Tensor, body: MARConfig) -> None:
    found = int(labels_N.max()) + 1
    if found != body.classes:
        raise ValueError(
            f"{images} has images of {found} classes, the body {body.classes}; give --train-images and --body that go "
            "together"
        )
