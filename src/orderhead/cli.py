"""The command `orderhead`: one plain function a verb.

Importing this module costs neither torch nor NumPy; each verb imports what it needs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from safetensors import SafetensorError
from tyro.conf import OmitArgPrefixes, Positional, arg

import orderhead
from orderhead.core.names import unknown

if TYPE_CHECKING:
    from orderhead.body.mar import MAR, MARConfig
    from orderhead.sampling.sample import Samples, Settings


def _number(kind: type[int] | type[float]) -> Any:
    """How a number is read: tyro's own errors speak of literals, bases and unions."""

    def read(words: list[str]) -> int | float:
        try:
            return kind(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is not a {'whole ' if kind is int else ''}number") from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: ["preset" if value is None else str(value)],
    )


Int = Annotated[int, _number(int)]
Float = Annotated[float, _number(float)]
OptionalInt = Annotated[int | None, _number(int)]
OptionalFloat = Annotated[float | None, _number(float)]
Names = Annotated[str, arg(metavar="A,B,...")]


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled; what is left out is preset for the body."""

    steps: OptionalInt = None
    """Unmasking steps, at most the number of cells."""
    denoise_steps: OptionalInt = None
    """Denoising steps a token."""
    cfg: OptionalFloat = None
    """Guidance scale; 1 is none."""
    cfg_schedule: Literal["linear", "constant", "equalized"] = "linear"
    """How guidance is spread over steps: as published, the same everywhere, or every cell's mean as under random."""
    temperature: Float = 1.0
    """Factor on the noise of the denoising steps."""
    rescore: Annotated[str, arg(metavar="fast|semifast-8|slow|INT")] = "fast"
    """How many times the policy is asked: 1, 8, every step, or a number."""
    schedule: Annotated[str, arg(metavar="cosine|linear|one_by_one|COUNTS")] = "auto"
    """Tokens a step; COUNTS is a list such as 1,3,12,48; auto is the order's own."""
    solver: Literal["ancestral", "dpm"] = "ancestral"
    """From noise to a token: as published, or a deterministic one for few steps."""
    seed: Int = 0
    """An image is a function of seed, number and label."""

    def fields(self, body: str) -> dict[str, Any]:
        """As fields of `Settings`, over the body's preset."""
        from orderhead.sampling.presets import preset

        given = {"steps": self.steps, "denoise_steps": self.denoise_steps, "cfg_scale": self.cfg}
        return preset(body) | {k: v for k, v in given.items() if v is not None} | {
            "cfg_schedule": self.cfg_schedule, "temperature": self.temperature, "rescore": self.rescore,
            "schedule": _schedule(self.schedule), "solver": self.solver, "seed": self.seed,
        }  # fmt: skip


def _schedule(text: str) -> str | list[int] | None:
    counts = [word.strip() for word in text.split(",")]
    return [int(c) for c in counts] if all(c.isdecimal() for c in counts) else None if text == "auto" else text


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


# Verbs.


def demo(
    *,
    out: str = "out/demo",
    orders: Names = "default",
    images: OptionalInt = None,
    steps: OptionalInt = None,
    seed: Int = 0,
) -> None:
    """Compare the orders on the body that ships, and write one page about it.

    Running it again goes on where it stopped.

    For example:
        orderhead demo --out out/demo

    Args:
        out: Folder for results.jsonl, traces and report.html.
        orders: Names from `orderhead list orders`.
        images: Images an order.
        steps: Unmasking steps.
        seed: Every order starts from this seed's noise.
    """
    from orderhead.studies.compare import compare as run

    given = {"orders": None if orders == "default" else _split(orders), "images": images, "steps": steps}
    _wrote(run(out, seed=seed, **{k: v for k, v in given.items() if v is not None}))


def compare(
    *,
    body: str = "fashion",
    orders: Names = "default",
    images: OptionalInt = None,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    out: str,
) -> None:
    """Compare orders on any body: results.jsonl, traces and one page with paired intervals.

    Running it again goes on where it stopped.

    For example:
        orderhead compare --body fashion --orders random,raster,halton --images 500 --steps 8 --out out/compare

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        orders: Names from `orderhead list orders`.
        images: Images an order.
        out: Folder for results.jsonl, traces and report.html.
    """
    from orderhead.studies.compare import compare as run

    given = {"orders": None if orders == "default" else _split(orders), "images": images}
    _wrote(run(out, body=body, **sampling.fields(body), **{k: v for k, v in given.items() if v is not None}))


def sample(
    *,
    body: str = "fashion",
    order: str = "random",
    labels: Annotated[str, arg(metavar="0,3|NAMES")] = "all",
    n: Annotated[int, _number(int), arg(aliases=("-n",), name="images")] = 16,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    rng: Literal["paired", "official"] = "paired",
    tokenizer: str = "auto",
    out: Annotated[str, arg(metavar="FILE.png|.gif|.npz|DIR/")],
) -> None:
    """Sample images under an order.

    For example:
        orderhead sample --order multiscale --labels sandal,bag -n 16 --out out/sample.png
        orderhead sample --order halton --steps 8 --out out/reveal.gif

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        order: A name from `orderhead list orders`.
        labels: Classes by number or name, -1 for none, taken in turn.
        n: How many images.
        rng: Noise of our own, or the published code's stream of random numbers.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: A grid of images, an animation of the reveal, arrays (images, tokens, order, labels), or a PNG an image.
    """
    from orderhead.body.load import load_body
    from orderhead.core.device import default_device
    from orderhead.sampling.sample import Settings

    write = _writer(out)
    if n < 1:
        raise ValueError(f"-n is the number of images, at least 1; got {n}")
    model = load_body(body).to(default_device())
    model.config = _with_tokenizer(model.config, tokenizer)
    numbers = parse_labels(labels, model.config)
    settings = Settings(order, rng=rng, **sampling.fields(body))
    counts = settings.counts(model.grid.L)  # checked before anything is written
    settings.policy()
    asked = [numbers[i % len(numbers)] for i in range(n)]
    with _bar(model, len(counts) * settings.denoise_steps, settings, n):
        write(model, settings, asked)
    _wrote(out)


def lint(
    *,
    order: str = "all",
    grid: Annotated[str, arg(metavar="ROWSxCOLUMNS")] = "16x16",
    steps: Int = 64,
    json: bool = False,
) -> None:
    """Tell what an order does without any model: neighbours drawn together, context, guidance, entropy.

    For example:
        orderhead lint --order all --grid 16x16 --steps 64

    Args:
        order: A name from `orderhead list orders`, several with commas between, or all.
        grid: The grid of cells.
        steps: Unmasking steps (orders of one token a step ignore it).
        json: Print JSON instead of a table.
    """
    from orderhead.core.grid import Grid
    from orderhead.core.names import lookup
    from orderhead.orders.lint import lint as report_on
    from orderhead.orders.spatial import SCHEDULE_OF, SPATIAL
    from orderhead.sampling.schedule import counts_of

    cells = Grid.parse(grid)
    rows = []
    for name in SPATIAL if order == "all" else _split(order):
        spatial = lookup("order", name, SPATIAL)
        found = report_on(spatial, cells, counts_of(SCHEDULE_OF.get(name, "cosine"), steps, cells.L))
        figures = ("same_step_pairs", "visible_neighbours", "mean_guidance", "entropy_bits")
        rows.append({"order": name} | {figure: round(getattr(found, figure), 4) for figure in figures})
    _show(rows, json)


def import_(checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]], *, out: str, ema: bool = True) -> None:
    """Turn a checkpoint of LTH14/mar (a body's checkpoint-last.pth, or kl16.ckpt) into a model folder.

    Code in the file's pickle is refused, never run; names and shapes are checked strictly.

    For example:
        orderhead import checkpoint-last.pth --out bodies/mar-base
        orderhead import kl16.ckpt --out tokenizers/kl16

    Args:
        checkpoint: The official file.
        out: Folder for config.json and model.safetensors.
        ema: Take the moving average of the weights (a body's).
    """
    from orderhead.body.official import import_checkpoint

    _wrote(import_checkpoint(checkpoint, out, ema))


def train(
    recipe: Positional[Annotated[str, arg(metavar="RECIPE")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="FIELD=VALUE")]] = (),
    *,
    scale: Annotated[str, arg(metavar="smoke|mini|full")] = "mini",
    out: str = "runs/RECIPE",
) -> None:
    """Train a model by its recipe. Running it again goes on from the last checkpoint.

    For example:
        orderhead train fashion-body --scale mini --out runs/body images=100000 base_lr=0.001

    Args:
        recipe: A name from `orderhead list recipes`.
        overrides: Changes to the recipe's settings, for example images=100000.
        scale: Seconds, minutes, or hours.
        out: Folder for the model, checkpoints and logs.
    """
    from orderhead.training.recipes import run_recipe

    changes = [text.partition("=") for text in overrides]
    for name, equals, value in changes:
        if not (name and equals and value):
            raise ValueError(f"changes to a recipe are written FIELD=VALUE, got {name + equals + value!r}")
    out = out.replace("RECIPE", recipe)
    run_recipe(recipe, scale, out, {name: value for name, _, value in changes})
    _wrote(out)


def report(folder: Positional[Annotated[str, arg(metavar="DIR")]]) -> None:
    """Write DIR/report.html, one page that opens offline, from DIR/results.jsonl and its traces.

    For example:
        orderhead report out/demo

    Args:
        folder: What `orderhead demo` or `compare` wrote.
    """
    from orderhead.report import build

    _wrote(build(folder))


def list_(
    kind: Positional[Annotated[str, arg(metavar="bodies|heads|orders|oracles|recipes|studies")]], *, json: bool = False
) -> None:
    """List what there is, with a line on each.

    For example:
        orderhead list orders
        orderhead list bodies --json

    Args:
        kind: What to list.
        json: Print JSON instead of a table.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    _show([{"name": name, "summary": summary} for name, summary in KINDS[kind]()], json)


VERBS: dict[str, Callable[..., None]] = {
    "demo": demo, "compare": compare, "sample": sample, "lint": lint, "import": import_, "train": train,
    "report": report, "list": list_,
}  # fmt: skip


# What `list` lists.


def _bodies() -> Iterator[tuple[str, str]]:
    from orderhead.core.assets import root, shipped
    from orderhead.core.files import read_json

    for name in shipped("bodies"):
        config = read_json(root() / "bodies" / name / "config.json")
        config = config.get("config", config)
        yield name, f"MAR, {config['grid_h']} x {config['grid_w']} cells, {config['classes']} classes"


def _orders() -> Iterator[tuple[str, str]]:
    from orderhead.orders import spatial
    from orderhead.orders.policy import POLICIES

    notes = _notes(Path(spatial.__file__).read_text(encoding="utf-8"))
    for name in POLICIES:
        yield name, notes[name]


def _notes(source: str) -> dict[str, str]:
    """Order -> its one line: the docstring of the function or constant, or the expression that combines others."""
    import ast

    body, notes = ast.parse(source).body, {}
    first = lambda text: (text.strip().splitlines() or [""])[0]  # noqa: E731
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            notes[node.name] = first(ast.get_docstring(node) or "")
        elif isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            notes[ast.unparse(node.targets[0])] = first(str(after.value.value))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    notes.setdefault(str(key.value), notes.get(ast.unparse(value), ast.unparse(value)))
    return notes


def _recipes() -> Iterator[tuple[str, str]]:
    from orderhead.training.recipes import RECIPES

    for name, recipe in RECIPES.items():
        yield name, recipe.summary


def _studies() -> Iterator[tuple[str, str]]:
    for verb in (demo, compare):
        yield verb.__name__, (verb.__doc__ or "").splitlines()[0]


KINDS: dict[str, Callable[[], Any]] = {
    "bodies": _bodies, "heads": tuple, "orders": _orders, "oracles": tuple, "recipes": _recipes, "studies": _studies,
}  # fmt: skip


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as JSON, or as a table: words to the left, numbers to the right with two decimals."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print("none yet")
        return
    text = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    table = [list(rows[0]), *text] if len(rows[0]) > 2 else text
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [isinstance(v, float) for v in rows[0].values()]
    for line in table:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        print("  ".join(cells).rstrip())


# Parts of `sample`.


def parse_labels(text: str, config: MARConfig) -> list[int]:
    """`"0,3"` or `"sandal,bag"` -> class numbers; every class for `all`.

    ValueError for a number out of range or an unknown name, with the nearest match.
    """
    names = {name.lower(): number for number, name in enumerate(config.class_names)}
    numbers = []
    for word in [] if text == "all" else _split(text):
        number = int(word) if re.fullmatch(r"-?\d+", word) else names.get(word.lower())
        if number is None and not names:
            raise ValueError(f"this body names no classes, so labels are numbers below {config.classes}; got {word!r}")
        if number is None:
            raise unknown("class", word, names)
        if not -1 <= number < config.classes:
            raise ValueError(f"labels lie in [0, {config.classes}), or -1 for no class; got {number}")
        numbers.append(number)
    return numbers or list(range(config.classes))


def _with_tokenizer(config: MARConfig, name: str) -> MARConfig:
    """The config with a tokenizer that is here. ValueError says how to get one."""
    from orderhead.body.load import load_tokenizer

    config = replace(config, tokenizer=config.tokenizer if name == "auto" else name)
    try:
        load_tokenizer(config.tokenizer)
    except ValueError as error:
        hint = "; import it (`orderhead import kl16.ckpt --out DIR`) and give --tokenizer DIR" if name == "auto" else ""
        raise ValueError(f"{error}{hint}") from None
    return config


def _writer(out: str) -> Callable[[MAR, Settings, list[int]], None]:
    """What samples and writes, by the ending of `out`. ValueError for an ending of another kind."""
    path = Path(out)
    if out.endswith("/") or path.is_dir() or not path.suffix:
        return functools.partial(_write_folder, path)
    if path.suffix not in (".png", ".gif", ".npz"):
        raise ValueError(f"--out ends in .png, .gif or .npz, or in / for a folder of PNG; got {out}")
    return functools.partial(_write_file, path)


def _write_file(path: Path, body: MAR, settings: Settings, labels: list[int]) -> None:
    from orderhead.core.files import replacing
    from orderhead.sampling.export import EXPORTS
    from orderhead.sampling.stream import join

    with replacing(path) as temporary:  # opened first: a folder that cannot be written is told at once
        EXPORTS[path.suffix](join(list(_samples(body, settings, labels))), body.grid, temporary)


def _write_folder(folder: Path, body: MAR, settings: Settings, labels: list[int]) -> None:
    """One PNG an image. What a stopped run has written is kept. ValueError where it was of other settings."""
    from orderhead.core.files import read_json, write_json
    from orderhead.sampling.export import save_folder

    record = json.loads(json.dumps({"body": asdict(body.config), "settings": asdict(settings), "labels": labels}))
    file = folder / "settings.json"
    if file.is_file() and read_json(file) != record:
        raise ValueError(f"{folder} holds images of other settings (settings.json); choose another --out")
    write_json(file, record)
    done = 0
    while settings.rng != "official" and (folder / f"{done:05d}.png").is_file():
        done += 1
    for samples in _samples(body, settings, labels, done):
        save_folder(samples, folder, done)
        done += len(samples.tokens_BLC)


def _samples(body: MAR, settings: Settings, labels: list[int], start: int = 0) -> Iterator[Samples]:
    import torch

    from orderhead.sampling.stream import stream

    return stream(settings, body, torch.tensor(labels, device=body.device), start)


@contextlib.contextmanager
def _bar(body: MAR, calls: int, settings: Settings, n: int, batch: int = 16) -> Iterator[None]:
    """A progress bar that counts the denoising network's calls, for what takes more than two seconds."""
    from tqdm import tqdm

    batches = 1 if settings.rng == "official" else -(-n // batch)
    with tqdm(total=batches * calls, desc="sampling", unit="step", delay=2, leave=False) as bar:
        hook = body.diffloss.net.register_forward_hook(lambda *_: bar.update() and None)
        try:
            yield
        finally:
            hook.remove()


# Running.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input (told in one line), 130 for Ctrl-C."""
    try:
        command = _parse(argv)
        command()
        sys.stdout.flush()
        return 0
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _say("stopped; what was finished is kept, and running the same command again continues", 130)
    except BrokenPipeError:  # the reader of our output went away, as in `orderhead list orders | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(_cannot(error, command.keywords.get("out") or command.keywords.get("folder")))
    except (ValueError, SafetensorError) as error:
        return _say(str(error))


def _parse(argv: Sequence[str] | None) -> functools.partial[None]:
    """The verb and its arguments, not called yet. ValueError, one line, for arguments that make no sense."""
    name, *args = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help"):
        return functools.partial(print, _overview())
    if name == "--version":
        return functools.partial(print, f"orderhead {orderhead.__version__}")
    if name not in VERBS:
        raise unknown("command", name, VERBS)
    told, verb = io.StringIO(), VERBS[name]
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(_later(verb), prog=f"orderhead {name}", description=_description(verb), args=args)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"{_plain(told.getvalue())}; see `orderhead {name} --help`") from None
        raise


def _later(verb: Callable[..., None]) -> Callable[..., functools.partial[None]]:
    """The verb with its signature and help, which is only bound to its arguments when called."""

    @functools.wraps(verb)
    def bind(**arguments: Any) -> functools.partial[None]:
        return functools.partial(verb, **arguments)

    return bind


def _description(verb: Callable[..., None]) -> str:
    """The docstring up to its arguments."""
    return inspect.cleandoc(verb.__doc__ or "").partition("\nArgs:")[0].rstrip()


def _overview() -> str:
    lines = [f"  {name:9} {_description(verb).splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: orderhead COMMAND ...\n",
            "In which order should a masked autoregressive image model reveal its tokens, and why?\n",
            *lines,
            "\nFor example:\n",
            "    orderhead demo --out out/demo\n",
            "`orderhead COMMAND --help` tells the options of a command and shows an example.",
        ]
    )


def _plain(box: str) -> str:
    """A boxed message on one line: without its frame, and without what the help says better."""
    lines = [line.strip("│").rstrip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    parts = re.split(r"─{3,}", "\n".join(line for line in lines if not line.startswith(" " * 9)))
    kept = [" ".join(part.split()).rstrip(".") for part in parts]
    return "; ".join(part for part in kept if part and not part.startswith(("For full", "Argument helptext")))


def _cannot(error: OSError, out: str | None) -> str:
    """What the system refused, naming the output where that is what it was about."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    named = str(error.filename) if error.filename is not None else None
    if out is None or (named is not None and not Path(named).is_relative_to(Path(out).parent)):
        return f"{named}: {reason}" if named else reason
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"cannot write {out}: {reason}; " + ("make room or " if full else "") + "choose another --out"


def _wrote(path: str | Path) -> None:
    print(f"wrote {path}")


def _say(message: str, code: int = 2) -> int:
    print("orderhead: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
