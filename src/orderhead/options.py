"""Groups of options that several verbs share, and how their words are read. Costs neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from orderhead.console import Float, Int, OptionalFloat, OptionalInt
from orderhead.core.checks import check_seed

if TYPE_CHECKING:
    from orderhead.body.mar import MARConfig
    from orderhead.sampling.schedule import DenoiseSteps
    from orderhead.training.ground import Ground

Names = Annotated[str, arg(metavar="A,B,...")]


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled. What is preset goes by the body's tokenizer: 16 steps, 25 denoising steps, cfg 4
    (fashion); 64, 100, 2.9 (kl16 and all others), and no more steps than cells."""

    steps: OptionalInt = None
    """Unmasking steps, at most the number of cells; ar_* orders, one_by_one and COUNTS have their own number."""
    denoise_steps: Annotated[str | None, arg(metavar="INT|FIRST:LAST|INT,INT,...")] = None
    """Denoising steps a token: one number, from the first unmasking step to the last, or one for each."""
    cfg: OptionalFloat = None
    """Guidance scale from 0 to 100; 1 is none."""
    cfg_schedule: Literal["linear", "constant", "equalized"] = "linear"
    """How guidance is spread over steps: as published, the same everywhere, or every cell's mean as under random."""
    temperature: Float = 1.0
    """Factor from 0 to 10 on the noise of the denoising steps; with dpm, on the noise that it starts from."""
    rescore: Annotated[str, arg(metavar="fast|semifast-8|slow|INT")] = "fast"
    """How many times the policy is asked: 1, 8, every step, or a number."""
    head: Annotated[str | None, arg(metavar="NAME|FOLDER")] = None
    """Whom learned orders ask: a shipped head, a folder, or a hub id."""
    schedule: Annotated[str, arg(metavar="cosine|linear|one_by_one|COUNTS")] = "auto"
    """Tokens a step; COUNTS is a list such as 1,3,12,48; auto is the order's own."""
    solver: Literal["auto", "ancestral", "dpm"] = "auto"
    """From noise to a token: as published, or a deterministic one for few steps; auto is the preset's."""
    null_every: Int = 1
    """Guidance's pass without a label runs every so many steps, its difference is reused in between; 1 is exact."""
    full_every: Int = 1
    """Every so many steps the body computes all cells, in between those that are new or asked for; 1 is exact."""
    denoise_by: Literal["even", "pull", "contrast", "score"] = "even"
    """Cells of a step that get more of its denoising steps: all the same; those that guidance moves most; those whose
    known neighbours vary most; those of highest score."""
    seed: Int = 0
    """An image is a function of seed, number and label."""

    def check(self, orders: Sequence[str]) -> None:
        """ValueError for what would be ignored under these orders."""
        from orderhead.orders.learned import LEARNED

        heads = [order for order in orders if order in LEARNED]
        if self.head and not heads:
            raise ValueError(f"--head is asked by learned orders only, and there is none; take {' or '.join(LEARNED)}")
        if self.rescore not in ("fast", "1") and heads and "learned" not in heads:
            raise ValueError(f"{heads[0]} says itself how often it asks; --rescore goes with the order learned")

    def fields(self, name: str, body: MARConfig, order: str = "", preset: str = "own") -> dict[str, Any]:
        """As fields of `Settings`, over a preset of the body `name`. ValueError for steps that are ignored.

        `order` is the one that is sampled: its own schedule counts too.
        """
        from orderhead.sampling.presets import HEADS, filled

        check_seed(self.seed, "--seed")
        given = {
            "steps": self.steps, "denoise_steps": denoise_of(self.denoise_steps), "cfg_scale": self.cfg,
            "solver": None if self.solver == "auto" else self.solver, "schedule": schedule_of(self.schedule),
        }  # fmt: skip
        idle = {"--null-every": self.null_every > 1, "--denoise-by pull": self.denoise_by == "pull"}
        for option in (name for name, given in idle.items() if given and self.cfg == 1):
            raise ValueError(f"{option} is of guidance, and --cfg 1 is none; leave one of them out")
        return filled(body, body.grid.L, given, order, preset) | {
            "cfg_schedule": self.cfg_schedule, "temperature": self.temperature, "rescore": self.rescore,
            "seed": self.seed, "head": self.head or HEADS.get(name), "null_every": self.null_every,
            "full_every": self.full_every, "denoise_by": self.denoise_by,
        }  # fmt: skip


@dataclass(frozen=True)
class JudgeOptions:
    """What images are measured by; auto is what ships for the body's tokenizer."""

    real: Annotated[str, arg(metavar="FOLDER")] = "auto"
    """Real images: a folder, flat or with one subfolder a class."""
    features: Annotated[str, arg(metavar="inception|clip|NAME|FOLDER")] = "auto"
    """The network whose features are compared."""
    weights: Annotated[str, arg(metavar="FILE")] = "auto"
    """Inception's or CLIP's: pt_inception-2015-12-05-6726825d.pth, ViT-L-14-336px.pt."""

    def given(self) -> dict[str, str]:
        """What is not left to the body's tokenizer."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value != "auto"}


@dataclass(frozen=True)
class JudgingOptions(JudgeOptions):
    """What images are measured by, and who watches while they are drawn; auto is what ships for the tokenizer."""

    classifier: Annotated[str, arg(metavar="NAME|FOLDER")] = "auto"
    """Who recognises images while they are drawn, for AUC and AUAC; without one these are left out."""


@dataclass(frozen=True)
class GroundOptions:
    """What a head, or a classifier or body of your own, is trained on."""

    body: str = "fashion"
    """A shipped name, a folder (from `orderhead import` or `train`), or a hub id."""
    classifier: str = "fashion"
    """Whom the oracle asks: a shipped name, a folder, or a hub id."""
    train_images: str = "fashion-train"
    """fashion-train, or a folder with one subfolder a class, whose tokens are kept in ~/.cache/orderhead."""
    tokenizer: str = "auto"
    """What turns images into tokens: a name, a folder, or a hub id; auto is the body's."""

    def given(self) -> Ground | None:
        """None where nothing but what ships was named."""
        from orderhead.training.ground import Ground

        ground = Ground(self.body, self.classifier, self.train_images, self.tokenizer)
        return None if ground == Ground() else ground


def schedule_of(text: str) -> str | list[int] | None:
    """A schedule's name, explicit counts, or None for the order's own."""
    if text == "auto":
        return None
    counts = [word.strip() for word in text.split(",")]
    return [int(c) for c in counts] if all(c.isdecimal() for c in counts) else text


def denoise_of(text: str | None) -> DenoiseSteps | None:
    """A number, numbers, FIRST:LAST as it is, or None for the preset."""
    if text is None or ":" in text:
        return text
    try:
        numbers = [int(word) for word in split(text)]
    except ValueError:
        raise ValueError(f"--denoise-steps is a whole number, FIRST:LAST, or numbers; got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def split(text: str) -> list[str]:
    """The words between commas that stand in no parentheses."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` -> whole numbers in [0, 2**32), each once. ValueError for anything else."""
    words = split(text)
    seeds = [int(word) for word in words if word.isdecimal() and int(word) < 2**32]
    if not seeds or len(set(seeds)) != len(words):
        raise ValueError(f"--seeds are whole numbers in [0, 2**32) with commas between, each once; got {text!r}")
    return seeds


def parse_labels(text: str, config: MARConfig) -> list[int]:
    """`"0,3"` or `"sandal,bag"` -> class numbers; every class for `all`. ValueError as for `class_numbers`."""
    from orderhead.sampling.labels import class_numbers

    return class_numbers(range(config.classes) if text == "all" else split(text), config)
