"""Fashion-MNIST (Xiao et al. 2017, MIT): 10,000 test images that ship, 60,000 training images that do not.

The training images come from a folder with the four `*-ubyte.gz` files (`ORDERHEAD_DATA`), from Debian's package
`dataset-fashion-mnist`, or from torchvision's download, whichever is found first.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def read_idx(path: str | Path) -> np.ndarray:
    """The uint8 array of an IDX file (LeCun's format: magic 0x00000800 + dimensions, big-endian sizes, bytes).

    ValueError where the file is damaged or of another type.
    """
    try:
        data = Path(path).read_bytes()
        data = gzip.decompress(data) if str(path).endswith(".gz") else data
        if len(data) < 4 or data[:3] != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from None


def pixels(images_N: np.ndarray) -> Tensor:
    """uint8 (N, 28, 28) -> float (N, 1, 32, 32) in [-1, 1], padded by two black pixels on each side."""
    images = torch.from_numpy(images_N.copy()).float().div(127.5).sub(1).unsqueeze(1)
    return torch.nn.functional.pad(images, (2, 2, 2, 2), value=-1.0)


def cache_folder() -> Path:
    """`ORDERHEAD_CACHE`, or `~/.cache/orderhead`."""
    return Path(os.environ.get("ORDERHEAD_CACHE", Path.home() / ".cache/orderhead"))


def _folders() -> Iterable[Path]:
    if "ORDERHEAD_DATA" in os.environ:
        yield Path(os.environ["ORDERHEAD_DATA"])
    yield DEBIAN_FOLDER
    yield cache_folder() / "FashionMNIST/raw"


def _download() -> Path:
    from torchvision.datasets import FashionMNIST

    root = cache_folder()
    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"no Fashion-MNIST training images: not in {DEBIAN_FOLDER} (apt install dataset-fashion-mnist), "
            f"ORDERHEAD_DATA is not set, and the download failed ({error})"
        ) from None
    return root / "FashionMNIST/raw"


def training_set() -> tuple[Tensor, Tensor]:
    """60,000 training images: float (N, 1, 32, 32) in [-1, 1], and labels, int64 (N,).

    ValueError where they are nowhere and cannot be downloaded; it names the places.
    """
    found = next((f for f in _folders() if (f / "train-images-idx3-ubyte.gz").is_file()), None)
    folder = found or _download()
    images = read_idx(folder / "train-images-idx3-ubyte.gz")
    return pixels(images), torch.from_numpy(read_idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int64))


def test_set() -> tuple[Tensor, Tensor]:
    """The 10,000 test images that ship with the package, as `training_set` gives the training images."""
    folder = resources.files("orderhead") / "assets" / "fashion-mnist"
    with resources.as_file(folder) as path:
        images = read_idx(path / "t10k-images-idx3-ubyte.gz")
        return pixels(images), torch.from_numpy(read_idx(path / "t10k-labels-idx1-ubyte.gz").astype(np.int64))
