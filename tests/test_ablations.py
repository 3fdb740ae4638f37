"""Section 4: what a head has learned, real tokens injected, nine orders; numbers against a second source."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from worlds import bare_body, fashion_body, few_real_images

from orderhead.core.rng import torch_generator
from orderhead.orders.head import load_head
from orderhead.orders.policy import Given
from orderhead.sampling import stream
from orderhead.sampling.sample import Samples, run
from orderhead.sampling.settings import Settings
from orderhead.sampling.trace import Trace
from orderhead.studies import ablations as section4
from orderhead.studies.agreement import INPUTS, Evidence, correlations
from orderhead.studies.injection import image_errors, step_errors
from orderhead.studies.plan import SCALES, Plan, Scale
from orderhead.training.ground import Ground

ONLY = ("center_spiral", "learned_fast", "learned_slow", "oracle_marginal")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Plan:
    """The section at smoke scale, four orders of it, on a small untrained body."""
    folder, patch = tmp_path_factory.mktemp("ablations"), pytest.MonkeyPatch()
    tokens = torch.randn(48, 64, 4, generator=torch_generator(0))
    with patch.context():
        patch.setenv("ORDERHEAD_CACHE", str(folder / "cache"))
        patch.setattr("orderhead.training.head_recipes.image_tokens", lambda *a: (tokens, torch.arange(48) % 10))
        patch.setitem(SCALES, "smoke", Scale("smoke", 20, {"steps": 8, "denoise_steps": 2, "cfg_scale": 2.0}))
        patch.setitem(section4.ORACLES, "marginal", lambda cells: {"draws": 6})  # type: ignore[index]
        few_real_images(patch)
        plan = Plan(folder / "out", "smoke", ONLY, Ground(body=str(fashion_body(folder))))
        section4.ablations(plan)
        before = (plan.out / "results.jsonl").read_bytes()
        (plan.out / "samples").rename(folder / "samples")  # large, and may be taken away
        section4.ablations(plan)
        assert (plan.out / "results.jsonl").read_bytes() == before, "what is there is passed over"
        assert not (plan.out / "samples").exists(), "and not sampled again"
        (folder / "samples").rename(plan.out / "samples")
    patch.undo()
    return plan


def _numbers(plan: Plan) -> dict[tuple[str, str], dict]:
    lines = [json.loads(line) for line in (plan.out / "results.jsonl").read_text().splitlines()]
    return {(r["row"], r["metric"]): r for r in lines}


def test_every_ablation_has_its_lines(done):
    found = _numbers(done)
    for row in INPUTS:
        assert found[row, "spearman"]["protocol"]["oracle"] == "marginal"
        assert found[row, "spearman_cls_k"]["protocol"]["cluster_size"] == 16
    for row in ("learned_slow", "learned_fast", "oracle_marginal"):
        assert {(row, m) in found for m in ("mse_kept", "mse_injected_minus_random", "auc_minus_random")} == {True}
    assert ("random", "mse_kept_minus_random") not in found
    assert found["gt_aware", "spearman_near_fast"]["n"] == 20


def test_a_mean_is_that_of_the_file_beside_it(done):
    """The chart's data and the table's numbers are one."""
    found = _numbers(done)
    with np.load(done.out / "spearman.npz") as file:
        assert found["fast", "spearman"]["value"] == pytest.approx(file["fast spearman"].mean())
    with np.load(done.out / "errors.npz") as file:
        assert set(file.files) == {f"{n} {m}" for n in section4.INJECTED for m in ("mse_kept", "mse_injected")}
        assert file["random mse_kept"].shape == (20, 8)


def test_kept_tokens_are_those_of_free_generation(done):
    """Second source: the error from the sampled stream itself."""
    free = stream.read(done.out / "samples" / "learned_fast", 20, "fashion")[0]
    with np.load(done.out / "errors.npz") as file:
        by_step_NT = file["learned_fast mse_kept"]
    weighted = (by_step_NT * free.trace.counts_T).sum(1) / free.trace.counts_T.sum()
    assert _numbers(done)["learned_fast", "mse_kept"]["value"] == pytest.approx(weighted.mean())


def test_the_table_and_the_head_are_there(done):
    assert "| learned_slow |" in (done.out / "table.md").read_text()
    assert load_head(str(done.out / "heads" / section4.HEAD)).config.grid.L == 64


def _evidence(N: int = 6) -> Evidence:
    body = bare_body()
    labels = torch.arange(N) % 3
    rng = torch_generator(1)
    importance, again = (torch.rand(N, 16, generator=rng) for _ in range(2))
    orders = np.stack([np.random.default_rng(i).permutation(16) for i in range(N)])
    trace = Trace(orders, np.array([4, 12]), np.zeros((N, 1, 16)), labels.numpy())
    from orderhead.training.heads import HeadRecipe, untrained_head
    from orderhead.training.recipe import seeded

    head, fixed = (seeded(lambda: untrained_head(HeadRecipe(""), body), seed).eval() for seed in (0, 1))
    return Evidence(head, fixed, body, torch.randn(N, 16, 4, generator=rng), labels, importance, again, trace, trace)


def test_correlations_are_scipys():
    given = _evidence()
    found = correlations(given)
    for name, scores in {"oracle_again": given.again_NL.numpy(), "slow": -given.free.rank_BL}.items():
        theirs = [spearmanr(a, b).statistic for a, b in zip(scores, given.importance_NL.numpy(), strict=True)]
        assert found[name] == pytest.approx(np.array(theirs))


def test_fast_sees_no_token_and_gt_aware_sees_them_all():
    given = _evidence()
    other = replace(given, tokens_NLC=given.tokens_NLC + 1)
    assert torch.equal(given.scores(given.head, True), other.scores(given.head, True))
    assert not torch.allclose(given.scores(given.head, False), other.scores(given.head, False))


def test_the_class_mean_leaves_the_image_out():
    given = _evidence()
    changed = given.importance_NL.clone()
    changed[0] = 0.0
    other = replace(given, importance_NL=changed)
    assert torch.equal(given.others_of_class_NL[0], other.others_of_class_NL[0])
    assert given.others_of_class_NL[0].tolist() == pytest.approx(given.importance_NL[3].tolist())
    alone = replace(given, labels_N=torch.arange(6))
    assert (alone.others_of_class_NL == 0).all()


def test_errors_by_step_make_up_the_images():
    body = bare_body()
    labels = torch.arange(4) % 3
    samples = run(Settings(steps=4, denoise_steps=2), body, labels, torch.arange(4))
    real = torch.randn(4, 16, 4, generator=torch_generator(2)).numpy()
    by_step_NT = step_errors(samples, real)
    assert (by_step_NT * samples.trace.counts_T).sum(1) / 16 == pytest.approx(image_errors(samples, real))
    assert step_errors(replace(samples, tokens_BLC=torch.from_numpy(real)), real).max() == 0


def test_given_scores_are_those_of_the_images_number():
    scores = torch.rand(4, 16, generator=torch_generator(3))
    settings = Settings(order=Given(scores), steps=4, denoise_steps=2)
    samples: Samples = run(settings, bare_body(), torch.zeros(2, dtype=torch.long), torch.tensor([3, 1]))
    assert samples.trace.order_BL.tolist() == scores[[3, 1]].argsort(1, descending=True).tolist()
    with pytest.raises(ValueError, match="images 0 to 3, not for 4"):
        run(settings, bare_body(), torch.zeros(1, dtype=torch.long), torch.tensor([4]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"only": ("center_spirall",)}, "did you mean 'center_spiral'"),
        ({"images": 2}, "at least 5 images"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        section4.ablations(replace(Plan(tmp_path / "out", "smoke"), **changes))
    assert not (tmp_path / "out").exists()
