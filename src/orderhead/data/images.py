"""Real images, a slice at a time: a set that ships, or a folder that is read when it is asked for.

Legend: M images, B batch, C H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from tqdm import tqdm

from orderhead.data import fashion

MODES = {1: "L", 3: "RGB"}  # channels -> how PIL calls them


class RealImages(Protocol):
    """`images[rows]` are float (B, C, H, W) in [-1, 1]; `labels_M` is None where nobody knows them.

    `key` changes with the images ("" = they are read in no time, so nothing about them need be kept); `identity` says
    which they are, in words and numbers.
    """

    @property
    def labels_M(self) -> Tensor | None: ...
    @property
    def key(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that are in memory, float (M, C, H, W) in [-1, 1], and their labels (M,)."""

    name: str
    images_MCHW: Tensor
    labels_M: Tensor
    key: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "images": len(self)}

    def __len__(self) -> int:
        return len(self.images_MCHW)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.images_MCHW[rows]


IMAGES: Mapping[str, Callable[[], ImageSet]] = {
    "fashion-test": lambda: ImageSet("Fashion-MNIST test images", *fashion.test_set()),
    "fashion-train": lambda: ImageSet("Fashion-MNIST training images", *fashion.training_set()),
}
"""Images that are found by name."""


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images in files, cropped and resized to `channels` x `size` x `size` when they are read.

    `labels_M` number the subfolders in the order of their names, as torchvision's ImageFolder does; None where there
    are none.
    """

    folder: Path
    files: tuple[Path, ...]
    labels_M: Tensor | None
    channels: int
    size: int

    @cached_property
    def _listing(self) -> list[tuple[str, int, int]]:
        files = tqdm(self.files, desc=f"listing {self.folder.name}", unit="file", delay=2, leave=False)
        stats = ((file, file.stat()) for file in files)
        return [(str(f.relative_to(self.folder)), s.st_size, s.st_mtime_ns) for f, s in stats]

    @property
    def key(self) -> str:
        """Changes with every file's name, size and time, and with what is made of them."""
        return self.key_of(slice(None))

    def key_of(self, rows: slice) -> str:
        """The same of some of the images."""
        return _digest(self._listing[rows], self.channels, self.size)

    @property
    def identity(self) -> dict[str, Any]:
        """`files` changes with their names and sizes; where they lie and when they were copied does not count."""
        names = [(name, size) for name, size, _ in self._listing]
        return {"name": self.folder.resolve().name, "images": len(self), "files": _digest(names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice) -> Tensor:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return torch.stack(list(pool.map(self._read, self.files[rows])))

    def _read(self, file: Path) -> Tensor:
        """ValueError names a file that is no image."""
        try:
            with Image.open(file) as image:
                pixels = np.asarray(centre_crop(image.convert(MODES[self.channels]), self.size))
        except (OSError, SyntaxError, ValueError) as error:  # what PIL raises on damaged files
            raise ValueError(f"{file} cannot be read ({error}); fetch it again, or take it away") from None
        return torch.from_numpy(pixels.copy()).view(self.size, self.size, -1).permute(2, 0, 1).float() / 127.5 - 1


def read_folder(folder: str | Path, channels: int, size: int) -> ImageFolder:
    """The images of a folder: one subfolder a class, or flat. ValueError where it is missing or holds none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; give a folder of images, flat or with one subfolder a class")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbers = {name: number for number, name in enumerate(classes)}
    found = make_dataset(str(folder), numbers, IMG_EXTENSIONS, allow_empty=True) if classes else []
    if found:
        return ImageFolder(
            folder, tuple(Path(f) for f, _ in found), torch.tensor([k for _, k in found]), channels, size
        )
    flat = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
    if not flat:
        raise ValueError(f"{folder} holds no image ({', '.join(IMG_EXTENSIONS)}), and neither do its subfolders")
    return ImageFolder(folder, tuple(flat), None, channels, size)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle square of an image at `size` x `size`, as ADM and MAR cut their real images.

    Halved with a box filter while its shorter side is twice `size`, then bicubic (Dhariwal & Nichol 2021,
    guided-diffusion's `center_crop_arr`; LTH14/mar's util/crop.py).
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
