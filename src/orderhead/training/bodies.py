"""What becomes of the body while a head is trained on it, and in which form it is kept: a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from orderhead.body.mar import MAR

BodyMode = Callable[[MAR], MAR | None]
"""The ground's frozen body -> the body that is trained with the head, or None where the frozen one serves."""

LORA: Mapping[str, Any] = {
    "r": 8, "lora_alpha": 16, "target_modules": r"(encoder|decoder)_blocks\.\d+\.attn\.(qkv|proj)",
}  # fmt: skip
"""Rank, scale (alpha / r multiplies the update) and the linear layers that are adapted; all ours."""


def frozen(body: MAR) -> None:
    """It stays as it is."""


def full(body: MAR) -> MAR:
    """A copy, every weight of which is trained."""
    return deepcopy(body).requires_grad_(True)


def scratch(body: MAR) -> MAR:
    """Random weights of the same sizes, all of them trained (the study's section 7).

    They are drawn as every untrained model's are, under the seed of `recipe.seeded`.
    """
    return MAR(body.config).to(body.device)


def lora(body: MAR) -> MAR:
    """A copy with low-rank adapters on its attention (Hu et al. 2021), which alone are trained; at first they add 0.

    W becomes W + alpha / r B A with B = 0. ValueError where peft is not installed.
    """
    peft = peft_library()
    return peft.inject_adapter_in_model(peft.LoraConfig(**LORA), deepcopy(body).requires_grad_(False))


def merged(body: MAR) -> MAR:
    """A copy with the adapters folded into the weights: a body as any other, which needs no peft."""
    plain = deepcopy(body)
    adapted: list[tuple[str, Any]] = [
        (name, module)
        for name, module in plain.named_modules()
        if isinstance(module, peft_library().tuners.lora.LoraLayer)
    ]
    for name, module in adapted:
        module.merge()
        plain.set_submodule(name, module.get_base_layer())
    return plain


def peft_library() -> Any:
    """The module `peft`. ValueError, with what to install, where it is missing."""
    try:
        import peft
    except ImportError:
        raise ValueError("body mode lora needs peft; pip install 'orderhead[lora]'") from None
    return peft


BODY_MODES: Mapping[str, BodyMode] = {"frozen": frozen, "full": full, "scratch": scratch, "lora": lora}

KEPT: Mapping[str, Callable[[MAR], MAR]] = {"lora": merged}
"""Mode -> the form in which the trained body is saved, where it is another than the one that is trained."""
