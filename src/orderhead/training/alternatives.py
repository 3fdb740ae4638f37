"""The study's section 5: five other ways to learn an order, and what it reports of each.

The document gives their names and numbers; what each is, is ours (`teachers`, `bodies.lora`, `oracles.foresight`,
`heads.READS`). What it leaves open is taken from its best row, `nonaligned_oracle_10ep`: random partial contexts, ten
epochs, lambda 1. How often their heads were asked it does not say: we ask all of them fast and semifast-8, but for the
distilled head, which is there to be fast. What asks the body often asks about few images, so that a small machine
takes minutes; a larger one takes more (`oracle_images=N`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orderhead.training.heads import HeadRecipe

_BASE = HeadRecipe("", epochs=10)

ALTERNATIVES: Mapping[str, HeadRecipe] = {
    "entropy_based": replace(
        _BASE, summary="idea 3: cells that the body is certain of come first", oracle="entropy", oracle_images=1000,
    ),
    "class_conditional": replace(
        _BASE, summary="idea 5: the head also reads the class embedding", reads="z_and_class",
    ),
    "reconstruction_based": replace(
        _BASE, summary="idea 4: cells that lower the diffusion loss of the rest come first", oracle="reconstruction",
        oracle_images=200,
    ),
    "knowledge_distillation": replace(
        _BASE, summary="idea 1: a fast head learns a trained head's slow ranking, listwise", context="aligned",
        teacher="nonaligned_oracle_10ep", order_loss="list_mle", oracle_images=1000, modes=("fast",),
    ),
    "lora_finetuning": replace(
        _BASE, summary="idea 2: low-rank adapters of the body, trained under head masks and random masks",
        body_mode="lora", objective="head_and_random",
    ),
}  # fmt: skip
"""Row name -> recipe, in the document's order."""

REPORTED: Mapping[str, Mapping[str, float]] = {
    "random": {"fid5k": 8.02, "is5k": 155.98, "clip_score": 0.3057, "cmmd": 1.223},
    "entropy_based": {"fid5k": 8.46, "is5k": 150.01, "clip_score": 0.3050, "cmmd": 1.241},
    "class_conditional": {"fid5k": 8.47, "is5k": 147.05, "clip_score": 0.3043, "cmmd": 1.242},
    "reconstruction_based": {"fid5k": 8.52, "is5k": 149.26, "clip_score": 0.3042, "cmmd": 1.246},
    "knowledge_distillation": {"fid5k": 8.62, "is5k": 149.72, "clip_score": 0.3048, "cmmd": 1.240},
    "nonaligned_oracle_10ep": {"fid5k": 9.13, "is5k": 136.27, "clip_score": 0.3027, "cmmd": 1.255},
    "lora_finetuning": {"fid5k": 10.04, "is5k": 134.35, "clip_score": 0.2995, "cmmd": 1.279},
}
"""Row -> metric -> the document's value of 5,000 images of MAR-B; one a row, whatever the mode."""
