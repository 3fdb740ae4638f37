"""The command `orderhead`: one plain function a verb.

Importing this module costs neither torch nor NumPy; each verb imports what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from orderhead import console
from orderhead.cli.making import import_, sample, train
from orderhead.cli.measuring import compare, demo, diagnose, schedule, study
from orderhead.cli.telling import bench, lint, list_, report

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo, "compare": compare, "sample": sample, "lint": lint, "import": import_, "train": train,
    "study": study, "diagnose": diagnose, "schedule": schedule, "bench": bench, "report": report, "list": list_,
}  # fmt: skip

ABOUT = """In which order should a masked autoregressive image model reveal its tokens, and why?

For example:
    orderhead demo --out out/demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input (told in one line), 130 for Ctrl-C."""
    return console.run(VERBS, ABOUT, sys.argv[1:] if argv is None else argv)
