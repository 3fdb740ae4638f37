"""Orders on bodies that differ in the masks of their training: the study, its table and its page."""

import json
import re
from functools import partial

import pytest
from worlds import fashion_body, few_real_images, one_line

from orderhead.body.load import load_body
from orderhead.cli import main
from orderhead.core import results
from orderhead.core.assets import shipped
from orderhead.report import build
from orderhead.sampling.bits import image_bits
from orderhead.studies import contexts, diagnose
from orderhead.studies.causes import BITS
from orderhead.studies.contexts import BODIES, ORDERS, PARTS
from orderhead.training.masks import MASKS, TRAINED_ORDERS

ONLY = "raster,halton"  # one that is sampled and one that is not


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The study with a small untrained body for each of those that ship, and few images of few steps."""
    home = tmp_path_factory.mktemp("contexts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERHEAD_CACHE", str(home / "cache"))
        patch.setattr(diagnose, "BITS_IMAGES", 5)
        patch.setattr(diagnose, "image_bits", partial(image_bits, levels=4))
        patch.setattr(contexts, "BITS_IMAGES", 5)
        few_real_images(patch)
        body, asked = fashion_body(home), []
        patch.setattr(contexts, "load_body", lambda name: asked.append(name) or load_body(str(body)))
        main(["study", "contexts", "--scale", "smoke", "--only", ONLY, "--out", str(home / "out")])
        assert asked == 2 * [f"fashion-{masks}" for masks in BODIES]
    return home / "out"


def test_every_body_of_the_study_ships_and_says_what_it_saw():
    assert list(BODIES) == list(MASKS)
    assert {f"fashion-{masks}" for masks in BODIES} <= set(shipped("bodies"))
    assert set(TRAINED_ORDERS) < set(ORDERS)


def test_orders_are_sampled_where_a_body_was_trained_on_them_and_else_cost_bits(done):
    for masks in BODIES:
        images, bits = (results.read(done / part / masks / "results.jsonl") for part in PARTS)
        assert {r.row for r in images} == {"raster"}
        assert {r.row for r in bits} == {"raster", "halton"}
        assert {r.metric for r in bits} == set(BITS)
        assert not (done / "bits" / masks / "samples").exists()
        assert all(r.protocol["body"] == f"fashion-{masks}" for r in images + bits)
        once, again = (results.by_row(rows, "bits_mismatch")["raster"].value for rows in (images, bits))
        assert again == pytest.approx(once)


def test_the_table_has_every_body_beside_each_order(done):
    table = (done / "table.md").read_text()
    assert table.count("| order | published | uniform | ordered |") == 4
    gap = results.by_row(results.read(done / "images" / "ordered" / "results.jsonl"), "gap_fd")["raster"]
    row = next(line for line in table.splitlines() if line.startswith("| raster"))
    assert f"{gap.value:+.2f}" in row.split("|")[4]
    blocks = table.split("| order |")
    assert ["| halton" in block for block in blocks[1:]] == [False, True, True, True]


def test_the_page_has_a_grid_of_orders_by_bodies(done):
    page = build(done).read_text()
    for part, metrics in (("images", ("gap_fd", "bits_mismatch")), ("bits", ("bits_mismatch",))):
        grid = page.split(f'<section id="{part}"')[1].split("</section>")[0]
        for metric in metrics:
            assert grid.count(f'aria-label="{metric} by setting"') == 1
        assert grid.count('aria-label="raster, ordered: ') == len(metrics)
    assert "nothing of theirs" not in page
    assert json.loads((done / "contents.json").read_text()).keys() == PARTS.keys()


def test_it_goes_on_where_it_stopped(done, monkeypatch):
    before = {path: path.read_bytes() for path in done.rglob("results.jsonl")}
    monkeypatch.setattr(diagnose, "_lines", None)
    monkeypatch.setattr(contexts, "BITS_IMAGES", 5)
    monkeypatch.setattr(contexts, "load_body", lambda name: load_body(str(done.parent / "body")))
    few_real_images(monkeypatch)
    main(["study", "contexts", "--scale", "smoke", "--only", ONLY, "--out", str(done)])
    assert {path: path.read_bytes() for path in done.rglob("results.jsonl")} == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "rastr"], "unknown order 'rastr'; did you mean 'raster'?"),
        (["--body", "fashion-uniform"], "three bodies that ship"),
        (["--scale", "full", "--body", "fashion-uniform"], "three bodies that ship, at --scale mini"),
        (["--scale", "full"], "three bodies that ship, at --scale mini"),
        (["--images", "6000"], "this needs 12000 real images"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(words, says, tmp_path, capsys):
    assert main(["study", "contexts", *words, "--out", str(tmp_path / "out")]) == 2
    assert says in one_line(capsys.readouterr().err)


def test_the_page_says_first_how_many_orders_lose_on_which_body(done, tmp_path):
    """Intervals put by hand: one order loses on two bodies, and none on the third."""
    for masks in BODIES:
        folder = tmp_path / "out" / "images" / masks
        folder.mkdir(parents=True)
        for name in ("run.json", "results.jsonl"):
            (folder / name).write_bytes((done / "images" / masks / name).read_bytes())
        lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        gap = next(line for line in lines if line["metric"] == "gap_fd")
        gap |= {"value": 1.0, "ci": [-0.5 if masks == "ordered" else 0.5, 1.5]}
        (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("contents.json", "images/contents.json", "images/results.jsonl"):
        (tmp_path / "out" / name).write_bytes((done / name).read_bytes())
    said = re.search(r"Orders that lose to random: .*?\.", build(tmp_path / "out").read_text())
    assert said is not None
    words = re.sub("<.*?>", "", said[0])
    assert words == "Orders that lose to random: published 1 of 1, uniform 1 of 1, ordered 0 of 1."
