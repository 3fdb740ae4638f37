"""Training on a folder of images: its tokens in the cache, models of one's own, what is told where nothing fits."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from worlds import one_line, pictures, tiny_body, tiny_classifier

from orderhead.body.load import load_body, load_tokenizer
from orderhead.body.mar import SIZES
from orderhead.cli import main
from orderhead.core.checkpoint import load_tensors
from orderhead.core.rng import torch_generator
from orderhead.data import posteriors
from orderhead.data.images import read_folder
from orderhead.data.latents import fingerprint
from orderhead.data.posteriors import Posteriors, cached_posteriors, drawn
from orderhead.oracles.load import fitting_classifier
from orderhead.training import head_recipes, losses, recipes
from orderhead.training.ground import Ground, few, ground_at, ground_body, image_tokens
from orderhead.training.loop import Batch
from orderhead.training.recipes import RECIPES, run_recipe

CLASSES = ("ankle boot", "t-shirt", "trouser")
CELLS = (16, 4)
SMOKE = {"images": "16", "batch": "4"}


class Watched:
    """An encoder that counts the images it is shown, and is killed where it has seen `life` of them."""

    def __init__(self, life: float = float("inf")) -> None:
        self.seen, self.life = 0, life

    def __call__(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images_BCHW)
        if self.seen > self.life:
            raise KeyboardInterrupt
        mean = images_BCHW.flatten(1)[:, :64].unflatten(1, CELLS)
        return mean, 0.1 + mean.abs() / 2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; six images a part, four seen at once."""
    monkeypatch.setenv("ORDERHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(posteriors, "PART", 6)
    monkeypatch.setattr(posteriors, "BATCH", 4)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty colour pictures of three classes, a little larger than the tokenizer's."""
    return pictures(tmp_path / "photos", 30, CLASSES, size=11)


@pytest.fixture
def ground(tmp_path: Path, cache: Path, photos: Path) -> Ground:
    body, classifier = tiny_body(tmp_path, image_channels=3), tiny_classifier(tmp_path / "classifier")
    return Ground(str(body), str(classifier), str(photos))


def _cached(photos: Path, encode: Watched, key: str = "weights") -> Posteriors:
    return cached_posteriors(read_folder(photos, 3, 8), encode, key, CELLS)


def _files(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


# Tokens of a folder.


def test_a_folders_tokens_are_its_images_tokens(ground: Ground) -> None:
    tokens, labels = image_tokens(ground.images, load_body(ground.body).config)
    tokenizer = load_tokenizer(load_body(ground.body).config.tokenizer)
    images = read_folder(ground.images, 3, 8)
    with torch.no_grad():
        want = tokenizer.encode(images[0:30])
    assert isinstance(tokens, Posteriors)
    assert labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert (len(tokens), tokens[:5].shape, tokens[:5].dtype) == (30, (5, 16, 4), torch.float32)
    torch.testing.assert_close(tokens[:], want, rtol=1e-3, atol=1e-5)
    rows = torch.tensor([29, 3, 3, 17])
    assert torch.equal(tokens[rows], tokens[:][rows])


def test_draws_are_those_of_the_posterior_mirrored_half_the_time(ground: Ground) -> None:
    """Second way: mean and variance of the mixture of two normals that the tokenizer gives for image and mirror."""
    tokens, _ = image_tokens(ground.images, load_body(ground.body).config)
    tokenizer = load_tokenizer(load_body(ground.body).config.tokenizer)
    image = read_folder(ground.images, 3, 8)[7:8]
    with torch.no_grad():
        mean, std = (torch.cat(pair) for pair in zip(*map(tokenizer.posterior, (image, image.flip(-1))), strict=True))
    draws = drawn(tokens, torch.full((6000,), 7), torch_generator(0))
    variance = std.square().mean(0) + mean.var(0, correction=0)
    error = variance.sqrt() / 6000**0.5
    assert ((draws.mean(0) - mean.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(draws.var(0), variance, rtol=0.15, atol=0)
    assert (mean[0] - mean[1]).abs().max() > 10 * error.max()  # an unmirrored draw would be told


def test_a_draw_is_a_function_of_the_generator(ground: Ground) -> None:
    tokens, _ = image_tokens(ground.images, load_body(ground.body).config)
    rows = torch.tensor([2, 25, 11])
    first, again = (drawn(tokens, rows, torch_generator(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, drawn(tokens, rows, torch_generator(6)))


def test_tokens_in_memory_are_taken_as_they_are() -> None:
    tokens, rng = torch.randn(6, 16, 4), torch_generator(0)
    before = rng.get_state()
    assert torch.equal(drawn(tokens, torch.tensor([4, 1]), rng), tokens[[4, 1]])
    assert torch.equal(rng.get_state(), before)


def test_images_are_encoded_once(cache: Path, photos: Path) -> None:
    encode = Watched()
    first = _cached(photos, encode)[:]
    assert encode.seen == 2 * 30
    assert torch.equal(_cached(photos, encode)[:], first)
    assert encode.seen == 2 * 30
    assert sum(map(len, _files(cache).values())) == 30 * 2 * 2 * 64 * 2


@pytest.mark.parametrize("life", [0, 7, 8, 30, 59])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(life: int, cache: Path, photos: Path) -> None:
    _cached(photos, Watched())
    whole = _files(cache)
    shutil.rmtree(cache)
    with pytest.raises(KeyboardInterrupt):
        _cached(photos, Watched(life))
    kept = _files(cache)
    assert kept.items() < whole.items()
    rest = Watched()
    _cached(photos, rest)
    assert _files(cache) == whole
    assert rest.seen * 2 * 64 * 2 == sum(len(part) for name, part in whole.items() if name not in kept)


def test_a_changed_picture_costs_its_own_part(cache: Path, photos: Path) -> None:
    encode = Watched()
    before = _cached(photos, encode)[:]
    (photos / "t-shirt/001.png").write_bytes((photos / "trouser/002.png").read_bytes())  # rows 10 and 20
    after = _cached(photos, encode)[:]
    assert encode.seen == 2 * (30 + 6)
    assert torch.equal(after[10], after[20])
    assert not torch.equal(after[10], before[10])
    (photos / "trouser/029.png").unlink()
    assert len(_cached(photos, encode)) == 29
    assert encode.seen == 2 * (30 + 6 + 3)


def test_other_weights_or_crops_are_other_tokens(cache: Path, photos: Path) -> None:
    encode = Watched()
    _cached(photos, encode)
    _cached(photos, encode, "other weights")
    assert encode.seen == 2 * 60
    cached_posteriors(read_folder(photos, 3, 10), encode, "weights", CELLS)
    assert encode.seen == 2 * 90


def test_a_part_that_is_not_whole_is_written_again(cache: Path, photos: Path) -> None:
    first = _cached(photos, Watched())
    whole = _files(cache)
    first.parts[2].write_bytes(b"half")
    encode = Watched()
    _cached(photos, encode)
    assert _files(cache) == whole
    assert encode.seen == 2 * 6


def test_processes_share_the_work(cache: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 waits at the barrier when its half is written; process 0 then writes the other half, and no more."""
    alone = _cached(photos, Watched())[:]
    shutil.rmtree(cache)
    seen = []

    def waiting() -> None:
        raise InterruptedError

    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, barrier in ((1, waiting), (0, lambda: None)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr("orderhead.core.dist.barrier", barrier)
        encode = Watched()
        try:
            assert torch.equal(_cached(photos, encode)[:], alone)
        except InterruptedError:
            assert rank == 1
        seen.append(encode.seen)
    assert seen == [2 * (4 + 4 + 4), 2 * (6 + 6 + 6)]  # each class is a part of six and one of four


def test_a_process_encodes_what_others_left_elsewhere(
    cache: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("orderhead.core.dist.barrier", lambda: None)
    encode = Watched()
    assert len(_cached(photos, encode)[:]) == 30
    assert encode.seen == 2 * 30


def test_a_full_disk_is_told_before_anything_is_encoded(
    cache: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    encode = Watched()
    with pytest.raises(ValueError, match="ORDERHEAD_CACHE"):
        _cached(photos, encode)
    assert encode.seen == 0


def test_the_few_of_a_folder_are_of_all_its_classes(ground: Ground) -> None:
    tokens, labels = image_tokens(ground.images, load_body(ground.body).config)
    some, theirs = few(tokens, labels, 6)
    assert theirs.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(some, tokens[:][::5])
    assert len(few(tokens, labels, 100)[0]) == 30
    mixed = torch.randn(8, 16, 4)
    assert torch.equal(few(mixed, torch.arange(8), 3)[0], mixed[:3])


# Recipes.


def _weights(folder: Path) -> dict[str, bytes]:
    return {name: v.numpy().tobytes() for name, v in load_tensors(folder / "model.safetensors").items()}


def test_a_classifier_and_with_it_a_head_are_trained_on_a_folder(tmp_path: Path, ground: Ground) -> None:
    """By the command and by `run_recipe`, which gives the same head: its draws are a function of the seed."""
    own, settings = str(tmp_path / "own"), ["images=16", "batch=4", "--scale", "smoke"]
    argv = [*settings, "--body", ground.body, "--train-images", ground.images, "--classifier", own, "--out"]
    assert main(["train", "latent-classifier", *argv, own]) == 0
    classifier = fitting_classifier(own, load_body(ground.body).config)
    assert (classifier.config.classes, classifier.grid.L, classifier.config.width) == (3, 16, 128)
    assert '"test_accuracy_10"' in (tmp_path / "own/log.jsonl").read_text()
    before = fingerprint(load_body(ground.body))
    assert main(["train", "oracle_aligned", *argv, str(tmp_path / "head")]) == 0
    assert fingerprint(load_body(ground.body)) == before
    shutil.rmtree(tmp_path / "cache")
    run_recipe("oracle_aligned", "smoke", tmp_path / "again", SMOKE, dataclasses.replace(ground, classifier=own))
    assert _weights(tmp_path / "again") == _weights(tmp_path / "head")


def test_a_head_on_few_images_asks_its_oracle_about_what_it_is_trained_on(
    tmp_path: Path, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    cached = head_recipes.cached_importance

    def watching(oracle, key: str, tokens: Tensor, labels: Tensor, device) -> Tensor:
        asked.append((tokens, labels))
        return cached(oracle, key, tokens, labels, device)

    monkeypatch.setattr(head_recipes, "cached_importance", watching)
    nobody = dataclasses.replace(ground, classifier="fashion")  # an oracle that asks the body needs no classifier
    run_recipe("predictability", "smoke", tmp_path / "head", SMOKE | {"oracle_images": "6"}, nobody)
    ((tokens, labels),) = asked
    assert tokens.shape == (6, 16, 4)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_body_of_ones_own_is_of_the_other_bodys_sizes(tmp_path: Path, ground: Ground) -> None:
    run_recipe("latent-body", "smoke", tmp_path / "own", SMOKE, ground)
    own, other = load_body(str(tmp_path / "own")), load_body(ground.body)
    assert own.config == dataclasses.replace(other.config, dropout=0.1)
    assert fingerprint(own) != fingerprint(other)


def test_a_run_on_other_images_is_not_continued(tmp_path: Path, ground: Ground) -> None:
    run_recipe("latent-classifier", "smoke", tmp_path / "own", SMOKE, ground)
    others = pictures(tmp_path / "others", 12, CLASSES, seed=1)
    with pytest.raises(ValueError, match="other settings"):
        run_recipe(
            "latent-classifier", "smoke", tmp_path / "own", SMOKE, dataclasses.replace(ground, images=str(others))
        )
    copied = tmp_path / "elsewhere" / Path(ground.images).name
    shutil.copytree(ground.images, copied)  # the same images at another place are the same
    elsewhere = dataclasses.replace(ground, images=str(copied))
    run_recipe("latent-classifier", "smoke", tmp_path / "own", SMOKE, elsewhere)
    shutil.copy(next(copied.rglob("*.png")), copied / CLASSES[0] / "one-more.png")
    with pytest.raises(ValueError, match="train_images was"):
        run_recipe("latent-classifier", "smoke", tmp_path / "own", SMOKE, elsewhere)


def test_the_classifier_of_mar_b_is_the_studys() -> None:
    row = RECIPES["latent-classifier"]
    with torch.device("meta"):
        model = row.build(SIZES["base"])  # type: ignore[call-arg]
    assert sum(p.numel() for p in model.parameters()) == 21_784_936
    full = row.scales["full"]
    assert full.base_lr * full.batch / 256 == pytest.approx(1e-3)
    mar = RECIPES["latent-body"].scales["full"]
    assert mar.lr(mar.steps - 1) == mar.lr(mar.steps // 2) == pytest.approx(8e-4)
    assert mar.lr(mar.steps // 8) == pytest.approx(4e-4, rel=1e-3)


def test_what_is_held_out_is_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "HELD_OUT", 5)
    seen: set[int] = set()

    def spying(tokens: Tensor, labels: Tensor) -> Callable:
        return lambda model, batch: seen.update(batch.index_B.tolist())

    monkeypatch.setattr(losses, "partial_class_loss", spying)
    n, loss, _ = recipes._latent_classifier_task(torch.randn(23, 16, 4), torch.arange(23) % 3)
    loss(torch.nn.Identity(), Batch(torch.arange(n), torch_generator(0)))
    assert seen == set(range(23)) - {0, 5, 10, 15, 20}


def test_another_tokenizer_can_be_named(tmp_path: Path, ground: Ground) -> None:
    body = load_body(ground.body)
    body.save_pretrained(
        tmp_path / "astray", config=dataclasses.asdict(dataclasses.replace(body.config, tokenizer="gone"))
    )
    astray = dataclasses.replace(ground, body=str(tmp_path / "astray"))
    with pytest.raises(ValueError, match=r"unknown tokenizer 'gone'.*orderhead import kl16.ckpt.*--tokenizer"):
        ground_body(astray)
    named = ground_body(dataclasses.replace(astray, tokenizer=body.config.tokenizer))
    assert named.config == body.config


# What is told.


@pytest.mark.parametrize("recipe", ["latent-classifier", "oracle_aligned"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: {"--train-images": p / "none"}, "no folder"),
        (lambda p: {"--train-images": "fashion-trian"}, "did you mean 'fashion-train'?; or give a folder"),
        (lambda p: {"--train-images": pictures(p / "flat", 5)}, "flat, so nobody knows its classes"),
        (lambda p: {"--train-images": pictures(p / "two", 6, CLASSES[:2])}, "images of 2 classes, the body 3"),
        (lambda p: {"--tokenizer": p / "none"}, "no folder"),
        (lambda p: {"--tokenizer": "fashion"}, "makes 8 x 8 tokens of 4 channels, the body reads 4 x 4 tokens"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    recipe: str, change: Callable[[Path], dict], says: str, tmp_path: Path, ground: Ground, capsys
) -> None:
    given = {"--body": ground.body, "--train-images": ground.images, "--classifier": ground.classifier}
    options = [str(word) for pair in {**given, **change(tmp_path)}.items() for word in pair]
    out = tmp_path / "out"
    assert main(["train", recipe, "images=16", "batch=4", "--scale", "smoke", *options, "--out", str(out)]) == 2
    assert says in one_line(capsys.readouterr().err)
    assert not out.exists()
    assert not (tmp_path / "cache").exists()


def test_a_classifier_that_knows_other_classes_is_refused(tmp_path: Path, ground: Ground) -> None:
    with pytest.raises(ValueError, match=r"\[8, 8, 4, 10\], the body draws \[4, 4, 4, 3\].*latent-classifier"):
        run_recipe(
            "oracle_aligned", "smoke", tmp_path / "out", SMOKE, dataclasses.replace(ground, classifier="fashion")
        )
    assert not (tmp_path / "cache").exists()


def test_a_damaged_picture_is_named_and_the_rest_kept(cache: Path, photos: Path) -> None:
    damaged = photos / "trouser/029.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"029\.png cannot be read"):
        _cached(photos, Watched())
    damaged.write_bytes(whole)
    encode = Watched()
    _cached(photos, encode)
    assert encode.seen == 2 * 4


def test_what_trains_on_what_ships_takes_no_ground(tmp_path: Path, ground: Ground) -> None:
    with pytest.raises(ValueError, match="fashion-body is trained on what ships; leave out --body"):
        run_recipe("fashion-body", "smoke", tmp_path / "out", SMOKE, ground)


@pytest.mark.parametrize("recipe", ["latent-classifier", "latent-body"])
def test_full_scale_asks_for_images_of_ones_own(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --body, --classifier and --train-images"):
        run_recipe(recipe, "full", tmp_path)
    assert ground_at("full", Ground(images="imagenet/train")).images == "imagenet/train"
