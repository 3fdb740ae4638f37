"""Sections 6 and 7 as studies: bodies that are trained with their heads, looked at epoch by epoch."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from worlds import bare_body, fashion_body, few_real_images

from orderhead.body.load import load_body
from orderhead.body.mar import SIZES
from orderhead.core import results
from orderhead.core.checkpoint import load_tensors
from orderhead.core.rng import torch_generator
from orderhead.data.latents import fingerprint
from orderhead.report import build
from orderhead.studies import beside, epochs, rounds
from orderhead.studies import finetuning as section6
from orderhead.studies import scratch as section7
from orderhead.studies.plan import SCALES, Plan, Scale
from orderhead.training import objectives
from orderhead.training.bodies import scratch
from orderhead.training.finetuning import FINETUNING
from orderhead.training.ground import Ground
from orderhead.training.heads import HeadRecipe, scales, untrained_head
from orderhead.training.recipe import seeded
from orderhead.training.recipes import run_recipe
from orderhead.training.scratch import SCRATCH, grown

BODY = bare_body()
TOKENS = torch.randn(48, 64, 4, generator=torch_generator(0))


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Ground]:
    """A small untrained body, noise for training images, and few real images to be measured against."""
    folder = tmp_path_factory.mktemp("ground")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERHEAD_CACHE", str(folder / "cache"))
        for module in ("head_recipes", "ground"):
            patch.setattr(f"orderhead.training.{module}.image_tokens", lambda *a: (TOKENS, torch.arange(48) % 10))
        patch.setitem(SCALES, "smoke", Scale("smoke", 10, {"steps": 4, "denoise_steps": 2, "cfg_scale": 2.0}))
        few_real_images(patch)
        yield Ground(body=str(fashion_body(folder)))


@pytest.fixture(scope="module")
def six(tmp_path_factory, ground) -> Plan:
    """A plan of section 6 that has been carried out; read only."""
    plan = Plan(tmp_path_factory.mktemp("six") / "out", "smoke", ("finetune_oracle",), ground)
    assert section6.finetuning(plan) == plan.out
    return plan


def _looks(out, row):
    return [r for r in results.read(out / "results.jsonl") if r.row == row]


# Section 6.


def test_section_six_looks_after_every_epoch_and_measures_the_body_alone_too(six):
    found = results.read(six.out / "results.jsonl")
    assert {r.row for r in found} == {"random", "finetune_oracle-fast", "finetune_oracle-random", "finetune_oracle"}
    looks = _looks(six.out, "finetune_oracle")
    for metric in ("fd", "kid", "score_std"):
        each = [r for r in looks if r.metric == metric]
        assert [r.protocol["epoch"] for r in each] == list(range(1, 11))
        assert all(math.isfinite(r.value) for r in each)
    of = {(r.protocol["recipe"], r.protocol["scale"], r.protocol["seed"], "weights" in r.protocol) for r in looks}
    assert of == {("finetune_oracle", "smoke", 0, False)}
    own = {r.row: r.protocol.get("own_weights") for r in found if r.metric == "fd" and "epoch" not in r.protocol}
    assert own["finetune_oracle-fast"] == own["finetune_oracle-random"]
    assert own["finetune_oracle-fast"] not in (None, found[0].protocol["weights"])
    table = (six.out / "table.md").read_text()
    assert "| finetune_oracle | fast |" in table
    assert "| +4.24 |" in table  # 6.55 - 2.31
    assert "| 1 |" in table
    assert "| 17.01 |" in table
    section6.finetuning(six)
    assert results.read(six.out / "results.jsonl") == found


def test_the_documents_numbers_of_bodies_stand_in_tables_of_their_own(six):
    """As the document prints them; the page says of `reported` that it is section 3's."""
    run = json.loads((six.out / "run.json").read_text())
    assert run["reported"] == {}
    assert run["told"] == json.loads(json.dumps([section6.TOLD.record]))
    pairs = {arm: tuple(document.values()) for arm, document in section6.TOLD.rows.items()}
    assert pairs == {
        "random": (2.31, 253.0), "finetune_oracle-fast": (6.55, 217.0), "finetune_pure_ste-fast": (10.95, 180.5),
        "finetune_full-fast": (9.58, 220.2), "finetune_random_masks-fast": (None, None),
    }  # fmt: skip
    pairs = {arm: tuple(document.values()) for arm, document in section7.TOLD.rows.items()}
    assert pairs == {
        "random": (31.28, None), "scratch_plain_large-random": (18.87, None),
        "scratch_saliency_attn-fast": (104.24, 15.45), "scratch_cls_k-fast": (78.27, 20.62),
        "scratch_cls_k_varied-fast": (None, None),
    }  # fmt: skip


def test_a_look_is_what_the_finished_row_is_measured_as(six):
    """Second source: the last look, and the finished model's samples from disk, at equal numbers of images."""
    last = [r for r in _looks(six.out, "finetune_oracle") if r.metric == "fd"][-1]
    row = next(
        r for r in results.read(six.out / "results.jsonl") if (r.row, r.metric) == ("finetune_oracle-fast", "fd")
    )
    assert last.n == row.n == 10
    assert last.value == pytest.approx(row.value, rel=1e-6)
    assert last.ci == pytest.approx(row.ci, rel=1e-6)


def test_the_page_draws_the_distance_by_epoch(six):
    page = build(six.out).read_text(encoding="utf-8")
    assert "Frechet distance by epoch" in page
    assert "score_std: standard deviation" in page


def test_one_process_of_several_writes_tables_and_looks(six, tmp_path, monkeypatch):
    """On what is measured; the others would read what the first one is still writing."""
    out, waited = tmp_path / "out", []
    shutil.copytree(six.out, out)
    (out / "table.md").unlink()
    final = [line for line in (out / "results.jsonl").read_text().splitlines(True) if '"epoch"' not in line]
    (out / "results.jsonl").write_text("".join(final))
    monkeypatch.setattr(section6.dist, "barrier", lambda: waited.append((out / "table.md").exists()))
    for rank, written in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        section6.finetuning(replace(six, out=out))
        assert (out / "table.md").exists() == bool(_looks(out, "finetune_oracle")) == written
        assert waited[-1] is False


def test_models_of_another_run_are_measured_without_its_looks(six, tmp_path):
    again = replace(six, out=tmp_path / "two", models=six.out, settings={"cfg_schedule": "constant"})
    section6.finetuning(again)
    assert not _looks(again.out, "finetune_oracle")
    assert "finetune_oracle-fast" in beside.differences(again.out)


def _small(ground, out, watch=None, **changes):
    few = {"images": "32", "batch": "8", **changes}
    run_recipe("finetune_oracle", "smoke", out, few, ground, watch)
    return load_tensors(out / "last.safetensors")


def _watch(plan):
    return 4, epochs.looking(rounds.baseline(plan, "finetuning", {}), 5)


def test_looking_changes_nothing_and_a_resumed_run_looks_the_same(tmp_path, ground):
    watch = _watch(Plan(tmp_path / "out", "smoke", (), ground))
    unwatched = _small(ground, tmp_path / "unwatched")
    watched = _small(ground, tmp_path / "watched", watch)
    assert all(torch.equal(watched[k], v) for k, v in unwatched.items())

    def dying(model, seen):
        if seen > 16:
            raise KeyboardInterrupt
        state = torch.get_rng_state()
        found = watch[1](model, seen)
        assert torch.equal(torch.get_rng_state(), state)
        return found

    with pytest.raises(KeyboardInterrupt):
        _small(ground, tmp_path / "killed", (4, dying), checkpoint_seconds="0")
    resumed = _small(ground, tmp_path / "killed", watch, checkpoint_seconds="0")
    assert all(torch.equal(resumed[k], v) for k, v in watched.items())
    assert epochs.looks(tmp_path / "killed", 4) == epochs.looks(tmp_path / "watched", 4)
    assert [look.epoch for look in epochs.looks(tmp_path / "watched", 4)] == [1, 2, 3, 4]
    assert len({look.metrics["fd"][0] for look in epochs.looks(tmp_path / "watched", 4)}) == 4


def test_score_std_of_a_look_is_the_mean_since_the_look_before(tmp_path):
    look = {f"{m}{end}": 1.0 for m in epochs.LOOKED_AT for end in ("", "_lo", "_hi")} | {"look_images": 5}
    lines = [{"score_std": s, "images": k + 1} | (look if k in (1, 4) else {}) for k, s in enumerate((1, 2, 3, 4, 8))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(look.epoch, look.score_std) for look in epochs.looks(tmp_path, 10)] == [(4, 1.5), (10, 5.0)]


def test_the_documents_epochs_are_those_of_the_rows():
    assert all(len(section6.BY_EPOCH[name]) == row.epochs for name, row in FINETUNING.items())
    assert section6.BY_EPOCH["finetune_full"][-1] == FINETUNING["finetune_full"].reported["fast"]
    for row in section6.ROWS.values():
        smoke = scales(row)["smoke"]
        assert smoke.images == row.epochs * smoke.batch  # a look a batch


# Objectives of bodies in training.


def test_a_tenth_of_the_labels_is_dropped():
    seen = []

    def record(body, tokens, labels, scores, progress, rng):
        seen.append(labels)
        return scores.sum(), {}

    labels = torch.arange(5000) % 3
    objectives.with_dropped_labels(record)(BODY, labels, labels, labels, 0.0, torch_generator(0))
    gone = seen[0] == -1
    assert gone.float().mean().item() == pytest.approx(objectives.LABEL_DROP, abs=0.015)
    assert torch.equal(seen[0][~gone], labels[~gone])


def _mask_under(objective, monkeypatch, k):
    seen = []
    monkeypatch.setattr(
        objectives, "masked_loss", lambda body, tokens, labels, mask, rng: seen.append(mask) or mask.sum()
    )
    scores = torch.randn(4, 16, generator=torch_generator(9))
    objective(BODY, TOKENS[:4, :16], torch.zeros(4).long(), scores, 0.5, torch_generator(k))
    return scores, seen[0]


def test_varied_masks_show_the_head_and_the_empty_image(monkeypatch):
    shown = set()
    for k in range(40):
        scores, mask = _mask_under(objectives.straight_through_varied, monkeypatch, k)
        visible = (mask.round() == 0).sum(1)
        assert (visible == visible[0]).all()
        shown.add(int(visible[0]))
        for row, hidden in zip(scores, mask.round() == 1, strict=True):
            assert not hidden.any() or row[hidden].max() <= row[~hidden].min() if (~hidden).any() else True
    assert shown == {0, 1, 2, 3, 4}  # at most 30 % of 16 cells


def test_random_masks_do_not_ask_the_head(monkeypatch):
    masks = [_mask_under(objectives.random_masks, monkeypatch, k)[1] for k in range(200)]
    assert all((mask.sum(1) >= 0.7 * 16).all() for mask in masks)
    hidden = torch.cat(masks).mean(0)
    assert hidden.max() - hidden.min() < 0.1


# Section 7.


def test_weights_from_scratch_are_a_function_of_the_seed():
    body, state = BODY, torch.get_rng_state()
    one, two, other = (seeded(lambda: scratch(body), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert fingerprint(one) == fingerprint(two)
    assert len({fingerprint(b) for b in (one, other, body)}) == 3
    assert one.config == body.config
    assert all(p.requires_grad for p in one.parameters())


def test_the_large_body_is_to_the_small_one_as_mar_b_is_to_mar_s():
    assert grown(SIZES["small"]) == SIZES["base"]


def test_a_row_from_scratch_leaves_the_grounds_body_behind(tmp_path, ground):
    before = fingerprint(load_body(ground.body))
    run_recipe("scratch_cls_k", "smoke", tmp_path / "out", {"images": "8", "batch": "4", "base_lr": "1e-9"}, ground)
    trained = load_body(str(tmp_path / "out" / "body"))
    body = load_body(ground.body)
    start = seeded(lambda: (untrained_head(HeadRecipe(""), body), scratch(body))[1], 0)
    assert fingerprint(load_body(ground.body)) == before != fingerprint(trained)
    for (name, p), q in zip(trained.named_parameters(), start.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name


def test_section_seven_measures_against_the_plain_body(tmp_path, ground):
    plan = Plan(tmp_path / "out", "smoke", ("scratch_cls_k", "scratch_plain_large"), ground)
    out = section7.scratch(plan)
    found = results.read(out / "results.jsonl")
    arms = {"random", "scratch_plain_large-random", "scratch_cls_k-fast", "scratch_cls_k-random"}
    assert {r.row for r in found} == arms | {"scratch_cls_k"}
    plain = fingerprint(load_body(str(out / "bodies" / "scratch_plain")))
    assert {r.protocol["weights"] for r in found if "epoch" not in r.protocol} == {plain}
    assert plain != fingerprint(load_body(ground.body))
    assert [r.protocol["epoch"] for r in found if (r.row, r.metric) == ("scratch_cls_k", "fd")] == [
        50 * k for k in range(1, 9)
    ]
    table = (out / "table.md").read_text()
    assert "| scratch_plain | random |" in table
    assert "| 31.28 | +0.00 |" in table
    assert "| 78.27 | +46.99 | 20.62 |" in table
    assert "| 18.87 | -12.41 |" in table
    run = json.loads((out / "run.json").read_text())
    assert (run["reported"], [table["title"] for table in run["told"]]) == ({}, [section7.TOLD.title])
    section7.scratch(plan)
    assert results.read(out / "results.jsonl") == found


def test_every_row_of_section_seven_sees_as_many_images_as_the_plain_bodies():
    lengths = [scales(row) for row in section7.ROWS.values()] + [row.scales for row in section7.PLAIN.values()]
    assert all(each == lengths[0] for each in lengths)
    assert {row.reported.get("fast") for row in SCRATCH.values()} == {104.24, 78.27}


@pytest.mark.parametrize(
    ("study", "changes", "says"),
    [
        (section6.finetuning, {"only": ("finetune_orcle",)}, "unknown row 'finetune_orcle'; did you mean 'finetune_"),
        (section7.scratch, {"only": ("scratch_clsk",)}, "unknown row 'scratch_clsk'; did you mean 'scratch_cls_k'"),
        (section6.finetuning, {"scale": "full"}, "give --body, --classifier and --train-images"),
        (section7.scratch, {"scale": "full"}, "give --body, --classifier and --train-images"),
        (section6.finetuning, {"images": 3}, "at least 5 images a row, got 3"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_trained(study, changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        study(Plan(tmp_path / "out", **{"scale": "smoke"} | changes))
    assert not (tmp_path / "out").exists()


def test_a_run_that_lends_no_plain_body_is_told(tmp_path, ground):
    with pytest.raises(ValueError, match="no trained scratch_plain in"):
        section7.scratch(Plan(tmp_path / "out", "smoke", (), ground, models=tmp_path / "none"))
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_log_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"no log\.jsonl in"):
        epochs.looks(tmp_path, 10)


def test_an_unknown_scaling_is_told():
    with pytest.raises(ValueError, match="unknown scaling 'scrach'; did you mean 'scratch'"):
        HeadRecipe("", scaling="scrach")
