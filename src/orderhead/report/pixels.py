"""Arrays -> PNG data URIs: heatmaps, contact sheets, sprites.

Legend: n images, T steps, H x W pixels, h x w cells.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

STOPS = np.array([[10, 24, 45], [24, 70, 104], [52, 128, 146], [140, 190, 172], [240, 238, 214]], dtype=np.float64)

CLEAR = 255  # the transparent entry of a palette


def data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def colours(fraction: np.ndarray) -> np.ndarray:
    """[0, 1] (...) -> uint8 (..., 3): 0 (early) dark, 1 (late) light."""
    at = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(fraction, at, STOPS[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def heatmap(rank_hw: np.ndarray) -> str:
    """Ranks (h, w) -> one pixel a cell, on the fixed scale 0 = first (dark) to L - 1 = last (light)."""
    return data_uri(Image.fromarray(colours(rank_hw / max(rank_hw.size - 1, 1))))


def ramp(width: int = 64) -> str:
    """The colour scale, early to late."""
    return data_uri(Image.fromarray(colours(np.linspace(0, 1, width))[None]))


def quarters(T: int) -> list[int]:
    """The steps (0 first) after which 25, 50, 75 and 100 % of T steps are done."""
    return [max(round(T * q / 4), 1) - 1 for q in (1, 2, 3, 4)]


def sprite(images: np.ndarray) -> str:
    """Frames (n, T, H, W[, 3]) -> one PNG: image i, step t at column i, row t."""
    n, T, H, W = images.shape[:4]
    tiled = np.moveaxis(images, 0, 2).reshape(T * H, n * W, *images.shape[4:])
    return data_uri(_compact(tiled))


def sheet(images: np.ndarray, gap: int = 1) -> str:
    """Frames (n, T, H, W[, 3]) -> four rows (25, 50, 75, 100 % of the steps) of n images, transparent gaps."""
    frames = images[:, quarters(images.shape[1])]
    n, _, H, W = frames.shape[:4]
    grey = frames.ndim == 4
    canvas = np.zeros((4 * (H + gap) - gap, n * (W + gap) - gap, 2 if grey else 4), np.uint8)
    for i in range(n):
        for q in range(4):
            cell = canvas[q * (H + gap) : q * (H + gap) + H, i * (W + gap) : i * (W + gap) + W]
            cell[..., :-1] = frames[i, q][..., None] if grey else frames[i, q]
            cell[..., -1] = 255
    return data_uri(Image.fromarray(canvas))


def maps(fraction: np.ndarray, gap: int = 1) -> str:
    """[0, 1] (n, K, h, w) -> one PNG, a pixel a cell: map k of image i at row k, column i; NaN and gaps transparent."""
    n, K, h, w = fraction.shape
    canvas = np.full((K, h + gap, n, w + gap), CLEAR, np.uint8)
    levels = np.where(np.isnan(fraction), CLEAR, (np.nan_to_num(fraction) * (CLEAR - 1)).round())
    canvas[:, :h, :, :w] = levels.transpose(1, 2, 0, 3)
    image = Image.fromarray(canvas.reshape(K * (h + gap), n * (w + gap)))
    image.putpalette([*colours(np.linspace(0, 1, CLEAR)).ravel().tolist(), 0, 0, 0])
    image.info["transparency"] = CLEAR
    return data_uri(image)


def thin(images: np.ndarray, limit: int) -> np.ndarray:
    """Frames (n, T, H, W[, 3]) of at most `limit` bytes where that can be: fewer pixels, then images, then steps."""
    while images.nbytes > limit:
        n, T, H, W = images.shape[:4]
        if min(H, W) > 96:
            images = _halved(images)
        elif n > 6:
            images = images[: max(6, n // 2)]
        elif T > 16:
            images = images[:, np.linspace(1, T - 1, T // 2).round().astype(int)]
        elif n > 2:
            images = images[: n - 1]
        elif min(H, W) > 16:
            images = _halved(images)
        else:
            break
    return images


def _halved(images: np.ndarray) -> np.ndarray:
    """Every 2 x 2 pixels averaged."""
    n, T, H, W = images.shape[:4]
    even = images[:, :, : H // 2 * 2, : W // 2 * 2].astype(np.float32)
    return even.reshape(n, T, H // 2, 2, W // 2, 2, *images.shape[4:]).mean(axis=(3, 5)).round().astype(np.uint8)


def _compact(array: np.ndarray) -> Image.Image:
    """Grey as a palette image: no row filter, so that the repeats from step to step compress."""
    image = Image.fromarray(array)
    if image.mode == "L":
        image = image.convert("P")
        image.putpalette([v for g in range(256) for v in (g, g, g)])
    return image
