"""What section 5's rows are made of: a teacher, adapters, a head that reads the class.

Second sources: the sampler, a merged body, gradients.
"""

import builtins
import dataclasses
import json

import pytest
import torch
from test_head import TINY, _head
from worlds import bare_body

import orderhead
from orderhead.core.checkpoint import save_model
from orderhead.core.rng import torch_generator
from orderhead.data.latents import fingerprint
from orderhead.orders.head import OrderHead, OrderHeadConfig
from orderhead.orders.learned import learned
from orderhead.sampling.sample import inject
from orderhead.training import bodies, objectives
from orderhead.training.alternatives import ALTERNATIVES
from orderhead.training.heads import HeadAndBody, HeadRecipe, asked, head_loss, saver, untrained_head
from orderhead.training.loop import LoopConfig, train
from orderhead.training.teachers import load_teacher, slow_ranking

TOKENS, LABELS = torch.randn(24, 16, 4, generator=torch_generator(0)), torch.arange(24) % 3
CPU = torch.device("cpu")
CLASSY = dataclasses.replace(TINY, classes=3)


def _z(body, labels_B, mask_BL=None):
    nothing = torch.ones(len(labels_B), 16, dtype=torch.bool) if mask_BL is None else mask_BL
    return body.predict(TOKENS[: len(labels_B)], nothing, labels_B)


# 1 distillation.


def test_the_slow_ranking_is_the_order_of_the_sampler_that_is_given_the_real_tokens():
    """Second source: `sampling.inject`, whose trace is that of slow inference on real images."""
    body, head = bare_body(), _head()
    importance = slow_ranking(body, head)(TOKENS[:5], LABELS[:5], rng=torch_generator(0))
    settings = orderhead.Settings(learned(head), steps=4, denoise_steps=1, rescore="slow", cfg_scale=3.0)
    order = inject(settings, body, LABELS[:5], torch.arange(5), TOKENS[:5]).trace.order_BL
    assert (importance.argsort(dim=1, descending=True).numpy() == order).all()
    torch.testing.assert_close(importance.sort(1).values, torch.linspace(0, 1, 16).expand(5, -1))


def test_the_slow_ranking_sees_the_image_and_the_fast_one_does_not():
    body, head = bare_body(), _head()
    images = torch.stack([TOKENS[0], 3 * TOKENS[1]])
    slow = slow_ranking(body, head)(images, torch.zeros(2, dtype=torch.long), rng=torch_generator(0))
    assert not torch.equal(slow[0], slow[1])
    assert slow[0].argmax() == slow[1].argmax()  # before anything is seen they are the same


def test_a_student_learns_its_teachers_ranking(tmp_path):
    """The student sees nothing, so it is to learn the mean ranking of a class: that of a teacher blind to tokens."""
    body, teacher = bare_body(), _head()
    with torch.no_grad():
        scores = teacher(_z(body, torch.arange(3)))

    def blind(tokens_BLC, labels_B, *, scores_BL=None, rng):
        return scores.argsort(1).argsort(1).float()[labels_B] / 15

    loss = head_loss(ALTERNATIVES["knowledge_distillation"], body, asked(blind), TOKENS, LABELS, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        student = OrderHead(TINY)
    config = LoopConfig(images=480, batch=8, base_lr=0.2, warmup_images=8, ema_decay=0.9)
    train(student, loss, 24, config, tmp_path, device=CPU)
    found = student(_z(body, torch.arange(3)))
    for ours, theirs in zip(found, scores, strict=True):
        assert torch.corrcoef(torch.stack([ours.argsort().argsort(), theirs.argsort().argsort()]).float())[0, 1] > 0.8


def test_the_heads_that_ship_are_teachers_where_no_other_is_named():
    shipped = load_teacher("nonaligned_oracle_10ep", orderhead.load_body("fashion"))
    assert fingerprint(shipped) == fingerprint(orderhead.load_head("fashion-nonaligned"))


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ("nonaligned_oracle_10ep", "the teacher nonaligned_oracle_10ep: this head reads 64 cells .* teacher=FOLDER"),
        ("nonaligned_orcale", "the teacher nonaligned_orcale: unknown head"),
    ],
)
def test_a_teacher_of_another_body_is_refused(teacher, says):
    with pytest.raises(ValueError, match=says):
        load_teacher(teacher, bare_body())


def test_a_teacher_is_asked_once_about_some_images():
    with pytest.raises(ValueError, match="oracle_images > 0"):
        HeadRecipe("", teacher="nonaligned_oracle_10ep")


# 2 LoRA.


@pytest.fixture
def adapted():
    """A body with adapters, and the body that it was made of."""
    body = bare_body()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return bodies.lora(body), body


def _adapters(body) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in body.named_parameters() if "lora_" in name}


def _base(body) -> dict[str, torch.Tensor]:
    """The weights that are not the adapters', under the names that they had before."""
    return {k.replace(".base_layer", ""): v for k, v in body.state_dict().items() if "lora_" not in k}


def test_adapters_sit_on_the_attention_of_encoder_and_decoder_alone(adapted):
    body, before = adapted
    layers = {name.split(".lora_")[0] for name in _adapters(body)}
    parts = ("attn.qkv", "attn.proj")
    assert layers == {f"{side}_blocks.0.{part}" for side in ("encoder", "decoder") for part in parts}
    assert {name for name, p in body.named_parameters() if p.requires_grad} == set(_adapters(body))
    rank = {p.shape[0] for name, p in _adapters(body).items() if "lora_A" in name}
    assert rank == {bodies.LORA["r"]}
    assert not any(p.requires_grad for p in before.parameters())


def test_lora_with_b_zero_is_the_identity(adapted):
    body, before = adapted
    assert all(p.eq(0).all() for name, p in _adapters(body).items() if "lora_B" in name)
    mask = torch.arange(16).expand(3, -1) % 2 == 0
    assert torch.equal(_z(body, LABELS[:3], mask), _z(before, LABELS[:3], mask))
    assert fingerprint(bodies.merged(body)) == fingerprint(before)


def test_a_merged_body_computes_what_the_adapted_one_does(adapted):
    body, before = adapted
    for name, parameter in _adapters(body).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch_generator(1))
    plain = bodies.merged(body)
    assert list(plain.state_dict()) == list(before.state_dict())
    mask = torch.arange(16).expand(3, -1) % 2 == 0
    ours = _z(plain, LABELS[:3], mask)
    torch.testing.assert_close(ours, _z(body, LABELS[:3], mask), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(ours, _z(before, LABELS[:3], mask), atol=1e-2)
    A, B = (body.decoder_blocks[0].attn.proj.get_parameter(f"lora_{x}.default.weight") for x in "AB")
    update = plain.decoder_blocks[0].attn.proj.weight - before.decoder_blocks[0].attn.proj.weight
    torch.testing.assert_close(update, bodies.LORA["lora_alpha"] / bodies.LORA["r"] * B @ A)


def test_the_base_weights_are_byte_identical_after_training_and_the_body_is_saved_merged(tmp_path, adapted):
    body, before = adapted
    row = ALTERNATIVES["lora_finetuning"]
    oracle = asked(lambda tokens, labels, *, scores_BL=None, rng: torch.rand(tokens.shape[:2], generator=rng))
    loss = head_loss(row, None, oracle, TOKENS, LABELS, warmup_images=0)
    config = LoopConfig(images=48, batch=8, base_lr=0.1, warmup_images=8, ema_decay=0.5)
    both = HeadAndBody(_head(), body)
    averaged = train(both, loss, 24, config, tmp_path, device=CPU)
    for model in (both, averaged):
        assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in _base(model.body).items())
        assert all(p.abs().sum() > 0 for p in _adapters(model.body).values())
    saver(row)(averaged, tmp_path)
    kept = orderhead.load_body(str(tmp_path / "body"))
    assert fingerprint(kept) not in (fingerprint(before), fingerprint(averaged.body))
    torch.testing.assert_close(_z(kept, LABELS[:3]), _z(averaged.body, LABELS[:3]), atol=1e-5, rtol=1e-4)
    assert orderhead.load_head(str(tmp_path)).config == TINY


def test_without_peft_one_line_says_how_to_get_it(monkeypatch):
    found = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "peft":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match=r"pip install 'orderhead\[lora\]'"):
        bodies.lora(bare_body())


def test_half_the_batch_is_under_the_heads_mask_and_half_under_random_ones(monkeypatch):
    seen = []

    def look(body, tokens, labels, mask_BL, rng):
        seen.append((mask_BL.detach(), labels))
        return mask_BL.sum()

    monkeypatch.setattr(objectives, "masked_loss", look)
    scores = torch.randn(400, 16, generator=torch_generator(0))
    labels = torch.zeros(400, dtype=torch.long)
    objectives.OBJECTIVES["head_and_random"](
        bare_body(), torch.zeros(400, 16, 4), labels, scores, 0.0, torch_generator(1)
    )
    (mask, labels), half = seen[0], 200
    shown = scores[:half].argsort(dim=1, descending=True)[:, :4]
    assert mask[:half].gather(1, shown).abs().max() < 1e-6
    assert mask[:half].sum(1).allclose(torch.tensor(12.0))
    assert set(mask[half:].unique().tolist()) == {0.0, 1.0}
    assert mask[half:].sum(1).unique() >= 0.7 * 16
    assert mask[half:].mean(0).std() < 0.1  # no cell is favoured
    assert set(labels.tolist()) == {0, -1}
    assert 0.05 < (labels == -1).float().mean() < 0.16


def test_an_odd_batch_and_a_single_image_have_a_finite_loss():
    for n in (1, 3):
        scores = torch.randn(n, 16, generator=torch_generator(n), requires_grad=True)
        loss, _ = objectives.head_and_random(bare_body(), TOKENS[:n], LABELS[:n], scores, 0.5, torch_generator(0))
        loss.backward()
        assert loss.isfinite()
        given = scores.grad.abs().sum(1) > 0
        assert given.tolist() == [True] * ((n + 1) // 2) + [False] * (n // 2)  # the rest's masks are not the head's


# 5 class-conditional.


def test_a_head_that_reads_the_class_tells_classes_apart_by_it_alone():
    head, z = _head(CLASSY), torch.randn(1, 16, 64, generator=torch_generator(0)).expand(4, -1, -1)
    scores = head(z, labels_B=torch.tensor([0, 1, 2, -1]))
    assert all(not torch.allclose(scores[i], scores[j]) for i in range(4) for j in range(i))
    without = _head(TINY)
    without.load_state_dict({k: v for k, v in head.state_dict().items() if k != "class_emb.weight"})
    assert torch.equal(scores[3:], without(z[3:]))  # no class: as a head that reads none


def test_no_class_stays_zero_in_training(tmp_path):
    row = HeadRecipe("", reads="z_and_class")
    body = bare_body()
    oracle = asked(lambda tokens, labels, *, scores_BL=None, rng: torch.rand(tokens.shape[:2], generator=rng))
    loss = head_loss(row, body, oracle, TOKENS, LABELS, warmup_images=0)
    before = _head(CLASSY).class_emb.weight.detach()
    head = train(_head(CLASSY), loss, 24, LoopConfig(images=24, batch=8, warmup_images=8), tmp_path, device=CPU)
    assert (head.class_emb.weight[-1] == 0).all()
    assert (head.class_emb.weight[:-1] != before[:-1]).any(1).all()


def test_the_class_costs_its_embedding_and_nothing_without_classes():
    heads = (OrderHead(OrderHeadConfig(classes=k)) for k in (0, 1000))
    count = [sum(p.numel() for p in head.parameters()) for head in heads]
    assert count == [13_280_769, 13_280_769 + 1001 * 512]


def test_heads_from_before_the_class_load_and_keep_their_fingerprints(tmp_path):
    head = _head()
    assert "classes" not in repr(head.config)
    save_model(head, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert fingerprint(orderhead.load_head(str(tmp_path))) == fingerprint(head)


def test_a_policy_gives_the_head_its_labels(tmp_path):
    save_model(_head(CLASSY), tmp_path)
    body, head = bare_body(), orderhead.load_head(str(tmp_path))
    trace = orderhead.sample(body, [0, 2, -1], learned(head), steps=4, denoise_steps=2, cfg_scale=2.0).trace
    labels = torch.tensor([0, 2, -1])
    torch.testing.assert_close(torch.from_numpy(trace.scores_BRL[:, 0]), head(_z(body, labels), labels_B=labels))


def test_untrained_heads_know_the_bodys_classes_where_they_read_them():
    body = bare_body()
    assert [untrained_head(HeadRecipe("", reads=r), body).config.classes for r in ("z", "z_and_class")] == [0, 3]


@pytest.mark.parametrize(
    ("labels", "says"), [(None, "got none"), ([0, 3], "got 0 to 3"), ([-2, 0], r"labels in \[-1, 3\)")]
)
def test_labels_that_no_head_knows_are_refused(labels, says):
    with pytest.raises(ValueError, match=says):
        _head(CLASSY)(torch.zeros(2, 16, 64), labels_B=None if labels is None else torch.tensor(labels))


def test_a_head_of_other_classes_is_refused_before_anything_is_sampled(tmp_path):
    save_model(_head(dataclasses.replace(TINY, classes=7)), tmp_path)
    with pytest.raises(ValueError, match="this head reads 7 classes, the body has 3"):
        orderhead.Settings("learned", steps=4, head=str(tmp_path)).check(bare_body())


def test_an_unknown_input_is_told():
    with pytest.raises(ValueError, match="unknown input of the head 'class'"):
        HeadRecipe("", reads="class")
