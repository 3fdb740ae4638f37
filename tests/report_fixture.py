"""A realistic results folder made with numpy only: ten orders, made-up numbers, pictures from real test images."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np

from orderhead.core import results

ORDERS = (
    "random", "raster", "multiscale", "center_spiral", "edge_spiral", "center_perturbed", "blockwise", "halton",
    "checkerboard", "spread",
)  # fmt: skip
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
SIDE, T, N, SHOWN = 8, 16, 64, 8
L = SIDE * SIDE
FD = (6.62, 8.41, 6.11, 9.23, 9.87, 7.31, 6.94, 6.35, 6.09, 6.58)  # by order
HALF = (0.42, 0.55, 0.38, 0.61, 0.66, 0.44, 0.41, 0.40, 0.37, 0.43)


def counts(steps: int = T) -> np.ndarray:
    """The cosine schedule: how many cells each step reveals."""
    left = [L, *(int(L * np.cos(np.pi / 2 * (t + 1) / steps)) for t in range(steps))]
    for t in range(1, steps + 1):
        left[t] = max(min(left[t], left[t - 1] - 1), steps - t)
    return -np.diff(left)


def order_NL(name: str) -> np.ndarray:
    """An order with the look of its name, (N, L)."""
    rng = np.random.default_rng(ORDERS.index(name))
    r, c = np.divmod(np.arange(L), SIDE)
    y, x = r - (SIDE - 1) / 2, c - (SIDE - 1) / 2
    spiral = y**2 + x**2 + 0.1 * (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    level = np.where((r % 4 == 0) & (c % 4 == 0), 0, np.where((r % 2 == 0) & (c % 2 == 0), 1, 2))
    block = (r // 4 * 2 + c // 4) * 16 + r % 4 * 4 + c % 4
    key, noise = {
        "random": (0 * r, 1.0), "raster": (np.arange(L), 0.0), "multiscale": (level, 0.9), "center_spiral": (spiral, 0),
        "edge_spiral": (-spiral, 0), "center_perturbed": (spiral, 12), "blockwise": (block, 0), "halton": (0 * r, 1.0),
        "checkerboard": ((r + c) % 4 // 1 % 2 * 2 + (r + c) % 4 // 2, 0.9), "spread": (level > 1, 1.4),
    }[name]  # fmt: skip
    return np.argsort(key + noise * rng.random((N, L)), axis=1, kind="stable")


def real_images() -> tuple[np.ndarray, np.ndarray]:
    """Test images, uint8 (n, 32, 32), and their labels."""
    folder = resources.files("orderhead") / "assets" / "fashion-mnist"
    parts = [
        np.frombuffer(gzip.decompress((folder / f"t10k-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=skip)
        for kind, skip in (("images-idx3", 16), ("labels-idx1", 8))
    ]
    return np.pad(parts[0].reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2))), parts[1]


def panels(name: str, labels_n: np.ndarray) -> np.ndarray:
    """Frames (n, T, 32, 32): common images mixed with the order's own, masked cells mid-grey."""
    images, labels = real_images()
    own = ORDERS.index(name)
    step_nL = np.repeat(np.arange(T), counts())[np.argsort(order_NL(name)[: len(labels_n)], axis=1)]
    frames = np.empty((len(labels_n), T, 32, 32), np.uint8)
    for i, label in enumerate(labels_n):
        same = images[labels == label]
        final = (0.7 * same[i].astype(float) + 0.3 * same[20 + 7 * own + i]).clip(0, 255)
        for t in range(T):
            visible = np.kron((step_nL[i] <= t).reshape(SIDE, SIDE), np.ones((4, 4), bool))
            frames[i, t] = np.where(visible, final, 128)
    return frames


def curves(name: str) -> dict[str, np.ndarray]:
    """Confidence rising and error falling, earlier for orders that spread their cells."""
    rng = np.random.default_rng(100 + ORDERS.index(name))
    quality = (10 - FD[ORDERS.index(name)]) / 4
    x = np.arange(1, T + 1) / T
    middle = 0.62 - 0.32 * quality + 0.12 * rng.standard_normal((N, 1))
    confidence = 0.08 + (0.86 + 0.04 * quality) / (1 + np.exp(-(x - middle) / 0.09))
    seen = np.cumsum(counts()) / L
    mse = (0.34 - 0.1 * quality) * (1 - seen) ** (1 + 0.5 * quality) * (1 + 0.3 * rng.random((N, 1)))
    return {"confidence": confidence.clip(0, 1), "correct": confidence > 0.5 + 0.2 * rng.random((N, 1)), "mse": mse}


def lines(name: str) -> list[results.Result]:
    """Every metric of an order, with paired differences unless it is the baseline."""
    k = ORDERS.index(name)
    quality = (10 - FD[k]) / 4
    values = {
        "fd": (FD[k], HALF[k]), "kid": (0.0021 * FD[k] / 6, 0.0004), "is": (7.2 + 1.2 * quality, 0.14),
        "agreement": (0.80 + 0.1 * quality, 0.022), "precision": (0.71 + 0.08 * quality, 0.03),
        "recall": (0.60 - 0.05 * quality + 0.01 * k, 0.035), "auc": (0.35 + 0.25 * quality, 0.012),
        "auac": (0.41 + 0.3 * quality, 0.014), "seconds_per_image": (0.021 + 0.0007 * k, None),
        "same_step_pairs": (15.0 + 12 * (1 - quality), None), "visible_neighbours": (2.9 + 0.3 * (1 - quality), None),
        "mean_guidance": (1.83, None), "guidance_spread": (0.1 * (7 * k % 10), None),
        "entropy_bits": (0.0 if name in ("raster", "blockwise") else 5.2, None),
    }  # fmt: skip
    common = {"study": "demo", "row": name, "protocol": {"steps": T, "seed": 0}, "commit": "0123abc"}

    def line(metric: str, value: float, half: float | None) -> results.Result:
        ci, n = None if half is None else (value - half, value + half), N if metric.startswith("au") else 512
        return results.Result(metric=metric, value=value, ci=ci, n=n, seconds=10.0, date="2025-01-31", **common)

    found = [line(metric, value, half) for metric, (value, half) in values.items()]
    if name != "random":
        base = {r.metric: r.value for r in lines("random")}
        paired = [m for m, (_, half) in values.items() if half is not None]
        found += [line(f"{m}_minus_random", values[m][0] - base[m], 0.62 * values[m][1]) for m in paired]
    return found


def run_json(**changes: object) -> dict[str, object]:
    return {
        "study": "demo", "body": "fashion", "title": "Ten orders on Fashion-MNIST", "grid": [SIDE, SIDE],
        "class_names": list(CLASSES), "baseline": "random", "orders": list(ORDERS), "images": 512,
        "shown": list(range(SHOWN)),
        "protocol": {
            "steps": T, "denoise_steps": 20, "cfg_scale": 3.0, "cfg_schedule": "linear", "temperature": 1.0,
            "rescore": 1, "seed": 0, "schedule": "cosine", "solver": "dpm++2m",
        },
        "reference": {
            "name": "Fashion-MNIST test", "n": 10000,
            "real": {"fd": 0.94, "kid": 0.0, "is": 8.9, "agreement": 0.915, "precision": 0.83, "recall": 0.82},
        },
        **changes,
    }  # fmt: skip


def make(folder: Path, measured: int = len(ORDERS), files: bool = True, **changes: object) -> Path:
    """Write the folder with the first `measured` orders; `changes` replace fields of run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run_json(**changes)))
    labels = np.arange(N) % len(CLASSES)
    for name in ORDERS[:measured]:
        results.append(folder / "results.jsonl", lines(name))
        if files:
            _write(folder / "traces" / name, order=order_NL(name).astype(np.int16), counts=counts(),
                   scores=np.zeros((N, 1, L), np.float32), labels=labels)  # fmt: skip
            _write(folder / "panels" / name, images=panels(name, labels[:SHOWN]), labels=labels[:SHOWN])
            _write(folder / "curves" / name, **curves(name))
    return folder


MODES = {"fast": 1, "semifast-8": 8, "slow": T}  # and how often each asks


def study(folder: Path, heads: int = 2, **changes: object) -> Path:
    """A folder of random and of that many heads (a, b, ...) in three modes, with scores at each asking."""
    names = [(f"{'abcdefghijklm'[k]}-{mode}", mode) for k in range(heads) for mode in MODES]
    arms = {name: {"head": f"out/heads/{name[0]}", "asked": mode} for name, mode in names}
    run = {"orders": ["random", *arms], "arms": {"random": {}, **arms}, **changes}
    make(folder, measured=1, **run)
    labels, rng = np.arange(N) % len(CLASSES), np.random.default_rng(0)
    for k, (name, mode) in enumerate(names):
        like = ORDERS[1 + k % 9]
        found = [replace(r, row=name) for r in lines(like)]
        results.append(folder / "results.jsonl", found)
        scores = rng.standard_normal((N, MODES[mode], L)).astype(np.float32)
        _write(folder / "traces" / name, order=order_NL(like).astype(np.int16), counts=counts(), scores=scores)
        _write(folder / "panels" / name, images=panels(like, labels[:SHOWN]), labels=labels[:SHOWN])
        _write(folder / "curves" / name, **curves(like))
    return folder


def training_log(folder: Path, row: str, points: int) -> None:
    """What training that row's head has logged."""
    path = folder / "heads" / row / "log.jsonl"
    path.parent.mkdir(parents=True)
    logged = [
        {"images": 64 * k, "diffusion": 0.2 / k, "order": 0.1, "score_std": 0.5 * k} for k in range(1, points + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in logged))


def _write(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path.with_name(f"{path.name}.npz"), **arrays)


class Words(HTMLParser):
    """The visible text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())


def numbers(*cis: tuple[float, float] | None) -> list[results.Result]:
    """Lines of a small run: random at FD 6, and orders a, b, ... with these paired intervals."""

    found = [line("random", "fd", 6.0, (5.5, 6.5)), line("random", "seconds_per_image", 0.1)]
    for name, ci in zip("abcdef", cis, strict=False):
        middle = sum(ci) / 2 if ci else 0.0
        found += [line(name, "fd", 6 + middle, (5 + middle, 7 + middle)), line(name, "fd_minus_random", middle, ci)]
        found += [line(name, "seconds_per_image", 0.1)]
    return found


def line(row: str, metric: str, value: float, ci: tuple[float, float] | None = None, n: int = 100) -> results.Result:
    return results.Result("demo", row, metric, value, ci, n, {}, 1.0, "0", "2025-01-01")


def small(folder: Path, lines: list[results.Result], **changes: object) -> Path:
    """A folder with numbers only, for the orders that the lines name."""
    orders = list(dict.fromkeys(r.row for r in lines))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run_json(**{"orders": orders, **changes})))
    results.append(folder / "results.jsonl", lines)
    return folder
