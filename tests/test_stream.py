"""The stream of images: one process or two, whole or resumed, in chunks of any size: the same images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds import tiny_body

from orderhead.body.load import load_body
from orderhead.body.watched import watched
from orderhead.sampling import stream
from orderhead.sampling.settings import Settings
from orderhead.studies.worlds import in_turn

SETTINGS = Settings("multiscale", steps=4, denoise_steps=3, cfg_scale=2.0)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return load_body(str(tiny_body(tmp_path_factory.mktemp("tiny"))))


def _tokens(folder, n=10, chunk=4):
    return stream.read(folder, n, "", chunk)[0].tokens_BLC


@pytest.fixture(scope="module")
def whole(body, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    stream.write(SETTINGS, body, 10, folder, chunk=4)
    return folder


def test_two_processes_write_the_files_of_one(body, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        stream.write(SETTINGS, body, 10, tmp_path, chunk=4)
        if rank == "1":
            assert [p.name for p in tmp_path.iterdir()] == ["0000004.npz"]
    for name in ("0000000.npz", "0000004.npz", "0000008.npz"):
        with np.load(whole / name) as one, np.load(tmp_path / name) as two:
            assert all((one[k] == two[k]).all() for k in ("tokens", "order", "counts", "scores", "labels"))


def test_a_resumed_stream_equals_an_uninterrupted_one(body, whole, tmp_path):
    stream.write(SETTINGS, body, 10, tmp_path, chunk=4)
    kept = (tmp_path / "0000000.npz").stat().st_mtime_ns
    (tmp_path / "0000004.npz").unlink()
    stream.write(SETTINGS, body, 10, tmp_path, chunk=4)
    assert torch.equal(_tokens(tmp_path), _tokens(whole))
    assert (tmp_path / "0000000.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_of_any_size_hold_the_same_images(body, whole, tmp_path, chunk):
    stream.write(SETTINGS, body, 10, tmp_path, chunk=chunk)
    assert torch.allclose(_tokens(tmp_path, chunk=chunk), _tokens(whole), atol=1e-4)


def test_what_even_guidance_needs_is_asked_once_a_stream(body, tmp_path, monkeypatch):
    """Eight passes before the first image, then one a step and chunk; nothing where all is there."""
    settings, asked = replace(SETTINGS, cfg_schedule="equalized"), []
    seen = watched(body, lambda: asked.append(1))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for _ in range(2):
        stream.write(settings, seen, 10, tmp_path, chunk=4)
        assert len(asked) == 8 + 3 * 4


def test_a_damaged_chunk_is_named(whole, tmp_path):
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "0000004.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"0000004.npz is missing or damaged.*remove it"):
        _tokens(tmp_path)


def test_a_chunk_that_was_cut_short_or_is_of_another_stream_is_named(body, whole, tmp_path):
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"0000008.npz .*2 images, not 4"):
        _tokens(tmp_path, n=12)
    (tmp_path / "0000004.npz").write_bytes((whole / "0000004.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"0000004.npz is missing or damaged"):
        _tokens(tmp_path)


def test_one_stream_of_random_numbers_is_of_one_chunk(body, tmp_path):
    """A second chunk would begin it again, and have the noise of the first."""
    official = Settings("random", 4, 3, 2.0, rng="official")
    stream.write(official, body, 4, tmp_path / "few", chunk=4)
    with pytest.raises(ValueError, match="at most 4 images, not 5"):
        stream.write(official, body, 5, tmp_path / "more", chunk=4)


def test_no_images_is_an_error(body, tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        stream.write(SETTINGS, body, 0, tmp_path)


def test_real_images_stand_in_with_the_labels_of_generated_ones():
    labels = torch.tensor([2, 2, 0, 1, 0, 2, 1, 0, 1, 0])
    assert labels[in_turn(labels)].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert sorted(in_turn(labels).tolist()) == list(range(10))
