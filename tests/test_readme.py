"""README's Python runs as printed."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from orderhead import console
from orderhead.cli import VERBS

README = Path(__file__).parent.parent / "README.md"


DOCS = [README, *sorted((README.parent / "docs").rglob("*.md")), README.parent / "CONTRIBUTING.md"]


def commands(text: str) -> tuple[list[str], list[str]]:
    """Indented lines that begin with the command, and what stands between backticks with an option or two."""
    lines = re.findall(r"^ {4}(orderhead (?:.*\\\n)*.*)$", text, re.MULTILINE)
    lines = [re.sub(r"\\\n\s*", "", line) for line in lines]
    return lines, [" ".join(code.split()) for code in re.findall(r"`(orderhead [^`]* --[^`]*)`", text)]


def refused(line: str) -> str:
    """What the command says of a line, beside the line."""
    try:
        if "..." not in line and "$" not in line:
            console.parse(VERBS, "", shlex.split(line, comments=True)[1:])
    except ValueError as error:
        return f"{line}: {error}"
    return ""


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(README.parent)))
def test_every_command_that_is_told_is_one(path: Path) -> None:
    """Options, and whatever must be given, but in a sentence; `...` leaves something out, variables are the shell's."""
    lines, inline = commands(path.read_text())
    assert not list(filter(None, map(refused, lines)))
    assert not [said for said in map(refused, inline) if said and "Missing from" not in said]


def test_the_python_of_the_readme_runs_and_does_what_it_says() -> None:
    """All blocks one after the other, as a reader would type them."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, README.name, "exec"), names)
    samples, filled, mask_BL = names["samples"], names["filled"], names["mask_BL"]
    assert samples.trace.labels_B.tolist() == [5, 3, 8]
    assert samples.images_BCHW.shape == filled.images_BCHW.shape == (3, 1, 32, 32)
    assert samples.trace.step_BL[0, samples.trace.order_BL[0, 0]] == 0
    assert ((filled.trace.step_BL == -1) == ~mask_BL.numpy()).all()
    assert (filled.trace.order_BL[:, :32] == torch.arange(32).numpy()).all()
    assert torch.equal(filled.tokens_BLC[~mask_BL], names["tokens_BLC"][~mask_BL])
