"""A command made of plain functions: their arguments read, their errors told in one line.

A verb's signature and docstring are its options and help (tyro); importing this module costs neither torch nor NumPy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from safetensors import SafetensorError

from orderhead.core.names import unknown
from orderhead.core.text import aligned

Verb = Callable[..., None]
NAME = "orderhead"


def number(kind: type[int] | type[float]) -> Any:
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


Int = Annotated[int, number(int)]
Float = Annotated[float, number(float)]
OptionalInt = Annotated[int | None, number(int)]
OptionalFloat = Annotated[float | None, number(float)]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as JSON, or as an aligned table."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(aligned(rows) if rows else "none yet")


def run(verbs: Mapping[str, Verb], about: str, argv: Sequence[str]) -> int:
    """Run the verb that `argv` starts with; returns 0, 2 for bad input (told in one line), or 130 for Ctrl-C."""
    try:
        command = parse(verbs, about, argv)
    except SystemExit:  # --help
        return 0
    except ValueError as error:
        return _say(str(error))
    return _call(command)


def _call(command: functools.partial[None]) -> int:
    try:
        command()
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return _say("stopped; what was finished is kept, and running the same command again continues", 130)
    except BrokenPipeError:  # the reader of our output went away, as in `orderhead list orders | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, SafetensorError) as error:
        out, folder = (command.keywords.get(name) for name in ("out", "folder"))
        return _say(_cannot(_as_os(error), out or folder, "choose another --out" if out else ""))
    except ValueError as error:
        return _say(str(error))


def parse(verbs: Mapping[str, Verb], about: str, argv: Sequence[str]) -> functools.partial[None]:
    """The verb and its arguments, not called yet. ValueError, one line, for arguments that make no sense."""
    name, *args = argv or ["--help"]
    if name in ("-h", "--help"):
        return functools.partial(print, _overview(verbs, about))
    if name == "--version":
        from importlib.metadata import version

        return functools.partial(print, NAME, version(NAME))
    if name not in verbs:
        raise unknown("command", name, verbs)
    said, verb = io.StringIO(), verbs[name]
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(_later(verb), prog=f"{NAME} {name}", description=_description(verb), args=args)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"{_plain(said.getvalue())}; see `{NAME} {name} --help`") from None
        raise
    _refuse_empty(verb, name, command.keywords)
    return command


def _refuse_empty(verb: Verb, name: str, arguments: Mapping[str, Any]) -> None:
    """ValueError for text without a word in it, such as an unset variable of a script: it would mean a default."""
    told = {}
    for argument, value in arguments.items():
        option = inspect.signature(verb).parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY
        group = vars(value) if dataclasses.is_dataclass(value) else {argument: value}
        told |= {f"--{field.replace('_', '-')}" if option else field: text for field, text in group.items()}
    for named, text in told.items():
        if isinstance(text, str) and not text.strip(", "):
            raise ValueError(f"{named} names nothing, got {text!r}; see `{NAME} {name} --help`")


def _later(verb: Verb) -> Callable[..., functools.partial[None]]:
    """The verb with its signature and help, which is only bound to its arguments when called."""

    @functools.wraps(verb)
    def bind(**arguments: Any) -> functools.partial[None]:
        return functools.partial(verb, **arguments)

    return bind


def _description(verb: Verb) -> str:
    """The docstring up to its arguments."""
    return inspect.cleandoc(verb.__doc__ or "").partition("\nArgs:")[0].rstrip()


def section(verb: Verb, title: str) -> str:
    """The lines of a docstring's section, so that what the help says can be printed elsewhere too."""
    lines = re.search(rf"^{title}:\n((?:    .*\n)+)", inspect.cleandoc(verb.__doc__ or "") + "\n", re.MULTILINE)
    assert lines, f"{verb.__name__} has no section {title}"
    return inspect.cleandoc(lines[1])


def _overview(verbs: Mapping[str, Verb], about: str) -> str:
    lines = [f"  {name:9} {_description(verb).splitlines()[0]}" for name, verb in verbs.items()]
    return "\n".join(
        [
            f"usage: {NAME} COMMAND ...\n",
            about,
            "",
            *lines,
            f"\n`{NAME} COMMAND --help` tells the options of a command and shows an example.",
        ]
    )


def _plain(box: str) -> str:
    """A boxed message on one line: without its frame, and without what the help says better."""
    lines = [line.strip("│").rstrip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    parts = re.split(r"─{3,}", "\n".join(line for line in lines if not line.startswith(" " * 9)))
    kept = [" ".join(part.split()).rstrip(".") for part in parts]
    return "; ".join(part for part in kept if part and not part.startswith(("For full", "Argument helptext")))


def _as_os(error: OSError | SafetensorError) -> OSError:
    """What the system said: safetensors puts its number into words."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def _cannot(error: OSError, out: str | None, instead: str) -> str:
    """What the system refused, naming the output where that is what it was about, and what to do `instead`."""
    reason = _in_the_way(error, out) or (error.strerror or str(error) or type(error).__name__).lower()
    named = str(error.filename) if error.filename is not None else None
    if out is None or (named is not None and not _is_of(Path(named), Path(out))):
        return f"{named}: {reason}" if named else reason
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = " or ".join(filter(None, ["make room" if full else "", instead]))
    return f"cannot write {out}: {reason}" + (f"; {advice}" if advice else "")


def _is_of(path: Path, out: Path) -> bool:
    """Whether a path is the output, in it, on the way to it, or what is written before it is renamed to it."""
    if out.is_relative_to(path) or path.is_relative_to(out):
        return True
    return path.parent == out.parent and path.name.startswith(f".{out.name}.")


def _in_the_way(error: OSError, out: str | None) -> str | None:
    """The file that stands where `out` wants a folder, in words; None where that is not what was refused."""
    if out is None or error.errno not in (errno.EEXIST, errno.ENOTDIR):
        return None
    places = (place for place in (Path(out), *Path(out).parents) if place.is_file())
    return next((f"{place} is a file, not a folder" for place in places), None)


def wrote(path: str | Path) -> None:
    print(f"wrote {path}")


def _say(message: str, code: int = 2) -> int:
    print(f"{NAME}: " + " ".join(message.split()), file=sys.stderr)
    return code
