"""The document's claims and ours, each a function of results: `orderhead study all` ends in their table.

A claim that the document states of its own body is judged here on the run's body; its figures stand beside ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orderhead.core.files import write_json, write_text
from orderhead.studies.evidence import (
    Book,
    Bound,
    Finding,
    Judge,
    above,
    fixed,
    highest,
    larger,
    last,
    none_below,
    not_above,
    positive,
    ratio,
    rising,
    share,
    together,
    within,
)
from orderhead.training.alternatives import ALTERNATIVES
from orderhead.training.heads import HeadRecipe
from orderhead.training.variants import VARIANTS

MATCHES = 0.2  # of random's own Frechet distance (ours)


@dataclass(frozen=True)
class Claim:
    """What is claimed, in which section of the document (`ours`: it has none), its figures, and how results decide."""

    says: str
    section: str
    document: str
    judge: Judge


def _alike(section: str) -> Bound:
    """The difference to random that counts as none."""
    return share(MATCHES, section, "random", "fd")


def _arms(rows: Mapping[str, HeadRecipe]) -> list[str]:
    return [f"{name}-{mode}" for name, row in rows.items() for mode in row.modes]


def _frozen(rows: Mapping[str, HeadRecipe]) -> list[str]:
    """The arms whose body stayed as it was."""
    return _arms({name: row for name, row in rows.items() if row.body_mode == "frozen"})


CLAIMS: Sequence[Claim] = (
    Claim(
        "Multiscale matches random", "2", "FID 2.30 (256 steps) against 2.33 (64 steps)",
        within("heuristics/linear", "fd_minus_random", "multiscale", _alike("heuristics/linear")),
    ),
    Claim(
        "Multiscale with more steps is at least as good as random with fewer", "2", "2.30 against 2.33",
        not_above("heuristics/document", "fd_minus_random", "multiscale", _alike("heuristics/document")),
    ),
    Claim(
        "Both spirals lose to random", "2", "2.70 and 3.95 against 2.33",
        positive("heuristics/linear", "fd_minus_random", "center_spiral", "edge_spiral"),
    ),
    Claim(
        "Both spirals lose with even guidance too", "ours", "",
        positive("heuristics/equalized", "fd_minus_random", "center_spiral", "edge_spiral"),
    ),
    Claim(
        "Random swaps mend the center spiral", "2", "2.44 against 2.70",
        larger("heuristics/linear", "fd_minus_random", "center_spiral", "center_perturbed"),
    ),
    Claim(
        "No learned order beats random: even the best loses", "3", "2.94 (the best) against 2.33",
        none_below("variants", "fd_minus_random", _frozen(VARIANTS)),
    ),
    Claim(
        "Longer training hurts", "3", "40 epochs 4.48, 10 epochs 3.41",
        larger("variants", "fd_minus_random", "nonaligned_oracle_40ep-fast", "nonaligned_oracle_10ep-fast"),
    ),
    Claim(
        "A larger lambda hurts", "3", "lambda 5: 5.37, 0.1: 3.67",
        larger("variants", "fd_minus_random", "oracle_lambda5-fast", "oracle_low_lambda-fast"),
    ),
    Claim(
        "Smaller clusters hurt", "3", "k = 32: 5.13, k = 64: 4.48",
        larger("variants", "fd_minus_random", "oracle_k32-fast", "nonaligned_oracle_40ep-fast"),
    ),
    Claim(
        "Unfreezing the body hurts", "3", "4.65 against 4.48",
        larger("variants", "fd_minus_random", "oracle_unfrozen-fast", "nonaligned_oracle_40ep-fast"),
    ),
    Claim(
        "A head's scores agree with its oracle", "4.1", "mean Spearman 0.267 over 8 images",
        positive("ablations", "spearman_cls_k", "fast"),
    ),
    Claim(
        "As well as the document's do", "4.1", "0.267", above("ablations", "spearman_cls_k", "fast", fixed(0.267)),
    ),
    Claim(
        "Seeing the whole image changes nothing: fast = GT-aware within 0.05 in the mean", "4.1", "0.267 and 0.267",
        within("ablations", "spearman_minus_fast", "gt_aware", fixed(0.05)),
    ),
    Claim(
        "Image by image too: within 0.05 in at least half of them", "4.1", "said of all, true of 4 of its 8",
        above("ablations", "spearman_near_fast", "gt_aware", fixed(0.5)),
    ),
    Claim(
        "Trained towards clusters at random, which do not move with its ranking, a head agrees better", "ours", "",
        larger("ablations", "spearman_cls_k", "fixed_fast", "fast"),
    ),
    Claim(
        "The class alone tells more about importance than the head does", "ours", "",
        larger("ablations", "spearman", "class_mean", "fast"),
    ),
    Claim(
        "The oracle's importance is the image's own: a second estimate agrees better than the class's mean", "ours", "",
        larger("ablations", "spearman", "oracle_again", "class_mean"),
    ),
    Claim(
        "Random has the lowest error to the real image", "4.2", "0.104 against 0.129, 0.134, 0.135",
        positive("ablations", "mse_kept_minus_random", "learned_slow", "learned_fast", "oracle_marginal"),
    ),
    Claim(
        "Also where every context is real", "ours", "",
        positive("ablations", "mse_injected_minus_random", "learned_slow", "learned_fast", "oracle_marginal"),
    ),
    Claim(
        "Slow rescoring is recognised earliest", "4.4", "AUC 0.568 against 0.487, 0.484, 0.454, 0.216",
        highest("ablations", "auc", "learned_slow", ("oracle_marginal", "random", "learned_fast", "center_spiral")),
    ),
    Claim(
        "The oracle's order is recognised earlier than random", "4.4", "AUC 0.487 against 0.484",
        positive("ablations", "auc_minus_random", "oracle_marginal"),
    ),
    Claim(
        "Earlier recognition goes with a worse distance", "4.4", "FID against AUAC, a figure",
        together("ablations", "auac", "fd"),
    ),
    Claim(
        "All five alternatives lose to random", "5", "8.46 to 10.04 against 8.02",
        none_below("alternatives", "fd_minus_random", _arms(ALTERNATIVES)),
    ),
    Claim(
        "Body and head trained together are worse than the body alone was", "6", "5.75, 6.55, 10.95 against 2.31",
        positive("finetuning", "fd_minus_random", *(f"finetune_{way}-fast" for way in ("oracle", "pure_ste", "full"))),
    ),
    Claim(
        "It is the body that suffers: under random order it is worse too", "ours", "",
        positive("finetuning", "fd_minus_random", "finetune_oracle-random", "finetune_pure_ste-random"),
    ),
    Claim(
        "A head's masks harm the body more than as much training under random masks", "ours", "",
        larger("finetuning", "fd_minus_random", "finetune_oracle-random", "finetune_random_masks-random"),
    ),
    Claim(
        "As much training under random masks harms it as well", "ours", "",
        positive("finetuning", "fd_minus_random", "finetune_random_masks-random"),
    ),
    Claim(
        "Without an oracle score_std explodes", "6", "1.6 to 8",
        ratio("finetuning", "score_std", "finetune_pure_ste", 2, math.inf),
    ),
    Claim(
        "With an oracle score_std is stable", "6", "1.6 throughout",
        ratio("finetuning", "score_std", "finetune_oracle", 0.5, 2),
    ),
    Claim(
        "Full fine-tuning gets worse with every epoch", "6", "5.75, 6.94, 8.16, 9.58",
        rising("finetuning", "fd", "finetune_full"),
    ),
    Claim(
        "From scratch is worse than a body trained the usual way", "7", "78.27 and 104.24 against 31.28",
        positive("scratch", "fd_minus_random", "scratch_cls_k-fast", "scratch_saliency_attn-fast"),
    ),
    Claim(
        "From scratch with saliency score_std collapses", "7", "0.50",
        last("scratch", "score_std", "scratch_saliency_attn", 0.5),
    ),
    Claim(
        "The masks are to blame: with those of MAR's own training the gap is smaller", "ours", "",
        larger("scratch", "fd_minus_random", "scratch_cls_k-fast", "scratch_cls_k_varied-fast"),
    ),
    Claim(
        "The body handles contexts of structured orders worse (bits of real images, one cell a step)", "8",
        "called the core finding, inferred from 4.2", positive("mismatch", "bits_mismatch", "raster", "learned_fast"),
    ),
    Claim(
        "Uneven guidance makes orders lose", "ours", "",
        positive("mismatch", "guidance_fd", "raster", "learned_fast"),
    ),
    Claim(
        "Cells drawn together make orders lose", "ours", "",
        positive("mismatch", "together_fd", "raster", "learned_fast"),
    ),
)  # fmt: skip


def findings(root: Path) -> list[tuple[Claim, Finding]]:
    """Every claim with what the sections in `root` say of it."""
    book = Book(root)
    return [(claim, claim.judge(book)) for claim in CLAIMS]


def write(root: Path) -> Path:
    """Write `root/findings.json`, which the page reads, and `root/findings.md`; returns the latter."""
    found = findings(root)
    records = [
        {"says": claim.says, "section": claim.section, "document": claim.document, **asdict(finding)}
        for claim, finding in found
    ]
    write_json(root / "findings.json", {"claims": records})
    write_text(root / "findings.md", table(found))
    return root / "findings.md"


def table(found: Sequence[tuple[Claim, Finding]]) -> str:
    """As Markdown."""
    rows = [
        f"| {claim.section} | {claim.says} | **{finding.verdict}** | {finding.numbers} | {claim.document} |"
        for claim, finding in found
    ]
    return "\n".join(["| section | claim | here | our figures | the document's |", "|---|---|---|---|---|", *rows, ""])
