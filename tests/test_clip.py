"""The CLIP judge against OpenCLIP and PIL on weights that were never trained (the real file is opt-in)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from worlds import NAMES, pictures, tiny_body, tiny_judge

from orderhead.cli import main
from orderhead.data.images import read_folder
from orderhead.metrics import clip as clips
from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.clip import clip
from orderhead.metrics.clip_score import clip_score
from orderhead.metrics.fidelity import as_rgb
from orderhead.metrics.judge import judged, see
from orderhead.metrics.registry import METRICS
from orderhead.report.load import load

open_clip = pytest.importorskip("open_clip")

SIDE = 28


def small_clip() -> nn.Module:
    """OpenCLIP's model of OpenAI's kind, 28 x 28 pixels, never trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = open_clip.CLIPVisionCfg(layers=1, width=64, patch_size=7, image_size=SIDE)
        text = open_clip.CLIPTextCfg(layers=1, width=64, heads=1)
        return open_clip.CLIP(32, vision, text, quick_gelu=True).eval().requires_grad_(False)


def as_program(model: nn.Module, path: Path) -> Path:
    """Write the weights as OpenAI publishes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(Program(model)).save(str(path))
    return path


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_clip()


@pytest.fixture(scope="module")
def weights(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file(model.state_dict(), path)
    return path


def floats(n: int, channels: int = 3, size: int = 20) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1


def test_features_and_cosines_are_open_clips(model: nn.Module, weights: Path) -> None:
    """Second source: its towers and tokenizer on pixels that PIL resized."""
    images = floats(3)
    features, logits = clip(weights, NAMES)(images)
    planes = as_rgb(images).numpy().astype(np.float32) / 255
    sized = [[Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in image] for image in planes]
    pixels = torch.from_numpy(np.array([[np.array(p) for p in image] for image in sized]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    want = model.encode_image((pixels - mean) / std)
    words = model.encode_text(open_clip.tokenize([f"a photo of a {name}." for name in NAMES]))
    cosines = nn.functional.cosine_similarity(want[:, None], words[None], dim=-1)
    assert (features.shape, logits.shape) == ((3, 32), (3, len(NAMES)))
    assert features.std(0).mean() > 1e-3
    torch.testing.assert_close(features, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, 100 * cosines, rtol=1e-4, atol=1e-3)


def test_the_kernel_distance_on_clip_is_the_cmmd(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over pairs; called `cmmd` with the official weights alone."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    judge = clip(weights, NAMES)
    ours = judged(judge, floats(6).split(4), np.arange(6) % 3)
    real = see(judge, read_folder(pictures(tmp_path / "real", 5, size=20), 3, 20))[0]
    x, y = (z.astype(np.float64) / np.linalg.norm(z, axis=1, keepdims=True) for z in (ours.features_NF, real))
    k = lambda p, q: np.mean([np.exp(-((a - b) ** 2).sum() / 200) for a in p for b in q])  # noqa: E731
    want = 1000 * (k(x, x) + k(y, y) - 2 * k(x, y))
    assert METRICS["mmd_rbf"](ours, Reference(real)) == pytest.approx(want, rel=1e-6)
    assert want > 0.01
    assert (judge.name, dict(judge.named)) == ("clip with unofficial weights", {})


def test_the_score_counts_the_class_asked_for() -> None:
    logits = np.array([[30.0, 10.0], [-5.0, 20.0], [10.0, 25.0]])
    score = clip_score(Judged(np.zeros((3, 1)), logits, np.array([0, 0, 1])))
    assert score.value == pytest.approx((30 + 0 + 25) / 3)  # below 0 counts as 0
    assert score.influence_N == pytest.approx(np.array([30, 0, 25]) - score.value)
    with pytest.raises(ValueError, match="some were made without one"):
        clip_score(Judged(np.zeros((2, 1)), logits[:2], np.array([0, -1])))


def test_prompts_are_part_of_the_identity(weights: Path) -> None:
    """Other classes are other logits: cached figures of real images must not be taken for theirs."""
    first, other = clip(weights, NAMES), clip(weights, (*NAMES[:-1], "bag"))
    assert first.identity != other.identity
    assert first.identity == clip(weights, NAMES).identity


def test_grey_images_are_repeated(weights: Path) -> None:
    judge, grey = clip(weights, NAMES), floats(2, channels=1)
    assert torch.equal(judge(grey)[0], judge(grey.repeat(1, 3, 1, 1))[0])


# Which file it is.


def test_a_state_dict_in_a_torch_file_will_do(model: nn.Module, weights: Path, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    assert clip(tmp_path / "clip.pt", NAMES).identity == clip(weights, NAMES).identity


class Program(nn.Module):
    """Weights as OpenAI publishes them: attributes of a TorchScript program, with three sizes among them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, value in model.state_dict().items():
            self._put(name.split("."), value)
        self.register_buffer("input_resolution", torch.tensor(SIDE))
        self.register_buffer("context_length", torch.tensor(77))
        self.register_buffer("vocab_size", torch.tensor(49408))

    def _put(self, path: list[str], value: Tensor) -> None:
        at: nn.Module = self
        for part in path[:-1]:
            if part not in dict(at.named_children()):
                at.add_module(part, nn.Module())
            at = dict(at.named_children())[part]
        at.register_buffer(path[-1], value)


def test_a_program_runs_only_where_it_is_openais(
    model: nn.Module, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = as_program(model, tmp_path / "ViT-L-14-336px.pt")
    with pytest.raises(ValueError, match=r"ViT-L-14-336px\.pt .*(wants to run|not a whole torch checkpoint)"):
        clip(file, NAMES)
    monkeypatch.setattr(clips, "OFFICIAL", hashlib.sha256(file.read_bytes()).hexdigest())
    judge = clip(file, NAMES)
    assert (judge.name, dict(judge.named)) == ("clip ViT-L/14-336", {"mmd_rbf": "cmmd"})
    assert torch.equal(judge(floats(2))[0], clip(weights, NAMES)(floats(2))[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda sd: {},
        lambda sd: {k: v for k, v in sd.items() if k != "visual.conv1.weight"},
        lambda sd: {k: v for k, v in sd.items() if k != "ln_final.bias"},
        lambda sd: sd | {"more": torch.zeros(1)},
        lambda sd: sd | {"ln_final.weight": torch.zeros(3)},
        lambda sd: [1, 2],
    ],
)
def test_other_weights_are_refused(change: Callable[[dict], object], model: nn.Module, tmp_path: Path) -> None:
    torch.save(change(dict(model.state_dict())), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt holds other weights than CLIP's; get ViT-L-14-336px\.pt from"):
        clip(tmp_path / "weights.pt", NAMES)


def test_what_is_missing_is_told(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no file"):
        clip(tmp_path / "none.pt", NAMES)
    with pytest.raises(ValueError, match=r"names of the body's classes; add class_names to its config\.json"):
        clip(weights, ())
    monkeypatch.setitem(sys.modules, "open_clip.model", None)
    with pytest.raises(ValueError, match=r"need open_clip; pip install 'orderhead\[clip\]'$"):
        clip(weights, NAMES)


# From the command to the page.


def test_compare_by_clip(
    model: nn.Module, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    """A run measured by the official weights (their digest is replaced): CMMD and CLIP score with paired intervals."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    tiny_body(tmp_path, image_channels=3)
    pictures(tmp_path / "real", 21, NAMES)
    file, out = as_program(model, tmp_path / "clip.pt"), tmp_path / "out"
    run = [
        "compare", "--body", tmp_path / "body", "--orders", "raster", "--images", 10, "--steps", 4, "--denoise-steps",
        2, "--real", tmp_path / "real", "--features", "clip", "--out", out,
    ]  # fmt: skip
    assert "features of clip need --weights ViT-L-14-336px.pt; get it from https" in refused(*run)
    monkeypatch.setattr(clips, "OFFICIAL", hashlib.sha256(file.read_bytes()).hexdigest())
    assert main([str(word) for word in (*run, "--weights", file)]) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    found = {r["metric"]: r for r in lines if r["row"] == "raster"}
    assert {"cmmd", "clip_score", "agreement", "cmmd_minus_random", "clip_score_minus_random"} <= set(found)
    assert "mmd_rbf" not in found
    assert found["cmmd"]["protocol"]["judge"]["name"] == "clip ViT-L/14-336"
    report = load(out)
    assert report.readings["mmd_rbf"].short == "CMMD"
    row = next(r for r in report.rows if r.order == "raster")
    assert row.numbers["mmd_rbf"].value == pytest.approx(found["cmmd"]["value"])
    page = (out / "report.html").read_text()
    assert "CLIP score" in page
    assert "CMMD" in page


def test_another_judge_measures_the_same_images(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that are copied to another folder are not drawn again."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    tiny_body(tmp_path, image_channels=3)
    pictures(tmp_path / "real", 21, NAMES)
    run = [
        "compare", "--body", tmp_path / "body", "--orders", "raster", "--images", 10, "--steps", 4, "--denoise-steps",
        2, "--real", tmp_path / "real",
    ]  # fmt: skip
    judge = tiny_judge(tmp_path / "judge")
    assert main([str(word) for word in (*run, "--features", judge, "--out", tmp_path / "first")]) == 0
    shutil.copytree(tmp_path / "first" / "samples", tmp_path / "second" / "samples")
    before = stamps(tmp_path / "second" / "samples")
    assert main([str(w) for w in (*run, "--features", "clip", "--weights", weights, "--out", tmp_path / "second")]) == 0
    assert stamps(tmp_path / "second" / "samples") == before
    assert len(before) >= 2
    assert "clip_score" in (tmp_path / "second" / "results.jsonl").read_text()


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.weights
def test_the_official_weights() -> None:
    """`ORDERHEAD_CLIP` = the path of ViT-L-14-336px.pt."""
    judge, images = clip(os.environ["ORDERHEAD_CLIP"], NAMES), floats(2, size=64)
    theirs = open_clip.create_model("ViT-L-14-336-quickgelu", pretrained=os.environ["ORDERHEAD_CLIP"]).eval()
    assert judge.name == "clip ViT-L/14-336"
    with torch.no_grad():
        want = theirs.encode_image(judge.network.pixels(images))
    torch.testing.assert_close(judge(images)[0], want, rtol=1e-3, atol=1e-3)
