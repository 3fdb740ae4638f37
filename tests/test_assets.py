"""What ships is what its cards say: small, whole, and as good as claimed (on the test images, which it never saw)."""

import pytest
import torch
from worlds import tiny_body

from orderhead.body.load import load_body, load_tokenizer
from orderhead.cli import main
from orderhead.core import assets
from orderhead.core.checkpoint import save_tensors
from orderhead.data import fashion
from orderhead.metrics.judge import load_judge
from orderhead.oracles.load import load_classifier
from orderhead.orders.head import load_head
from orderhead.sampling import sample
from orderhead.training import evaluations, recipes
from orderhead.training.masks import MASKS

MODELS = {"bodies": load_body, "tokenizers": load_tokenizer, "classifiers": load_classifier, "metrics": load_judge}


@pytest.fixture(scope="module")
def real():
    return fashion.test_set()


def test_everything_that_ships_is_small():
    files = [path for path in assets.root().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 35e6
    assert max(path.stat().st_size for path in files) < 5e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".gz"}


@pytest.mark.parametrize("kind", MODELS)
def test_each_model_loads_by_name_and_has_a_card(kind):
    others = [f"fashion-{masks}" for masks in sorted(MASKS)] if kind == "bodies" else []
    assert assets.shipped(kind) == ["fashion", *others]
    for name in assets.shipped(kind):
        assert not MODELS[kind](name).training
        card = (assets.root() / kind / name / "README.md").read_text()
        for word in ("Fashion-MNIST", "images seen", "minutes", "loss", "orderhead train", "MIT"):
            assert word in card, word


def test_bodies_are_listed_with_what_their_cards_say_first(capsys):
    assert main(["list", "bodies"]) == 0
    listed = capsys.readouterr().out.splitlines()
    for name, line in zip(assets.shipped("bodies"), listed, strict=True):
        title = (assets.root() / "bodies" / name / "README.md").read_text().splitlines()[0]
        assert title.startswith(f"# Body `{name}`: ")
        assert line.endswith(title.partition(": ")[2])


@pytest.mark.parametrize("name", ["./fashion", "fashion/", "."])
def test_a_path_is_not_taken_for_what_ships(name, tmp_path, monkeypatch):
    """A model of one's own may lie in a folder of a shipped name."""
    (tmp_path / "fashion").mkdir()
    own = tiny_body(tmp_path).rename(tmp_path / "fashion/body")
    for file in own.iterdir():
        file.rename(tmp_path / "fashion" / file.name)
    monkeypatch.chdir(tmp_path / "fashion" if name == "." else tmp_path)
    assert load_body(name).config.grid_h == 4
    assert load_body("fashion").config.grid_h == 8


def test_each_head_fits_the_body_and_has_a_card():
    assert assets.shipped("heads") == ["fashion-aligned", "fashion-nonaligned", "fashion-ordered-aligned"]
    body = load_body("fashion")
    for name in assets.shipped("heads"):
        load_head(name).fits(body.grid, body.config.decoder_width, body.config.classes)
        card = (assets.root() / "heads" / name / "README.md").read_text()
        for word in ("Fashion-MNIST", "images seen", "minute", "loss", "orderhead train", "MIT"):
            assert word in card, word


def test_the_test_images_are_whole(real):
    images, labels = real
    assert images.shape == (10_000, 1, 32, 32)
    assert labels.bincount().tolist() == [1000] * 10
    assert images.min() == -1
    assert images.max() == 1
    assert (images[:, :, [0, 1, -2, -1]] == -1).all()


def test_the_tokenizer_keeps_what_one_sees(real):
    tokenizer = load_tokenizer("fashion")
    assert evaluations.reconstruction(real[0][:200])(tokenizer, 0)["psnr"] > 29.5
    tokens = tokenizer.encode(real[0][:500]).detach()
    assert tokens.shape == (500, 64, 4)
    assert tokens.mean().abs() < 0.05
    assert abs(tokens.std() - 1) < 0.05
    assert tokens.abs().max() < load_body("fashion").config.token_bound


def test_a_tokenizer_is_kept_until_it_is_trained_again(tmp_path):
    folder = tiny_body(tmp_path).parent / "tokenizer"
    first = load_tokenizer(str(folder))
    assert load_tokenizer(str(folder)) is first
    weights = {k: v + 1 for k, v in first.state_dict().items()}
    save_tensors(folder / "model.safetensors", weights)
    again = load_tokenizer(str(folder)).state_dict()
    assert all(torch.equal(again[k], v) for k, v in weights.items())


def test_the_judge_names_real_garments(real):
    assert evaluations.accuracy(real[0][:2000], real[1][:2000])(load_judge("fashion"), 0)["test_accuracy"] > 0.90


def test_the_classifier_knows_more_the_more_it_sees(real, monkeypatch, tmp_path):
    tokens = load_tokenizer("fashion").encode(real[0][:1000]).detach()
    seen = evaluations.partial_accuracy(tokens, real[1][:1000])(load_classifier("fashion"), 0)
    known = [seen[f"test_accuracy_{percent}"] for percent in (10, 25, 50, 100)]
    assert known == sorted(known)
    assert known[0] > 0.4
    assert known[-1] > 0.78


def test_the_body_draws_the_garment_that_was_asked_for():
    """60 images: with a true agreement of 0.90, fewer than 48 hits are a one in a hundred event."""
    body = load_body("fashion")
    assert body.config.class_names == fashion.CLASS_NAMES
    assert body.config == recipes.RECIPES["fashion-body"].build().config
    labels = torch.arange(60) % 10
    images = sample(body, labels, "random", seed=7).images_BCHW
    hits = (load_judge("fashion").classify(images)[1].argmax(1) == labels).sum().item()
    assert hits >= 48
