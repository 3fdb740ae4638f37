"""What there is, by kind: names with a line on each. Every kind imports only what it needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def _bodies() -> Iterator[tuple[str, str]]:
    from orderhead.core.assets import root, shipped
    from orderhead.core.files import read_json

    for name in shipped("bodies"):
        config = read_json(root() / "bodies" / name / "config.json")
        config = config.get("config", config)
        card = (root() / "bodies" / name / "README.md").read_text(encoding="utf-8")
        sizes = f"{config['grid_h']} x {config['grid_w']} cells, {config['classes']} classes"
        yield name, f"MAR, {sizes}; {card.splitlines()[0].partition(': ')[2]}"


def _orders() -> Iterator[tuple[str, str]]:
    from orderhead.orders import spatial
    from orderhead.orders.learned import LEARNED
    from orderhead.orders.policy import POLICIES

    notes = _notes(Path(spatial.__file__).read_text(encoding="utf-8"))
    for name in POLICIES:
        yield name, notes[name]
    for name, rescore in LEARNED.items():
        yield name, f"by a trained head (--head), asked {rescore or 'as --rescore says'}"


def _notes(source: str) -> dict[str, str]:
    """Order -> its one line: the docstring of the function or constant, or the expression that combines others."""
    body, notes = ast.parse(source).body, {}

    def first(text: str) -> str:
        return (text.strip().splitlines() or [""])[0]

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


def _combinators() -> Iterator[tuple[str, str]]:
    from orderhead.orders.written import COMBINATORS, usage

    for name, combine in COMBINATORS.items():
        yield usage(name), (combine.__doc__ or "").splitlines()[0]


def _recipes() -> Iterator[tuple[str, str]]:
    from orderhead.training.recipes import RECIPES
    from orderhead.training.variants import HEAD_RECIPES

    for name, recipe in [*RECIPES.items(), *HEAD_RECIPES.items()]:
        yield name, recipe.summary


def _heads() -> Iterator[tuple[str, str]]:
    from orderhead.core.assets import root, shipped
    from orderhead.core.files import read_json

    for name in shipped("heads"):
        config = read_json(root() / "heads" / name / "config.json")
        card = (root() / "heads" / name / "README.md").read_text(encoding="utf-8")
        body = re.search(r"OrderHead on the body `([^`]+)`", card)
        sizes = f"{config['grid_h']} x {config['grid_w']} cells of width {config['z_width']}"
        yield name, f"OrderHead, {sizes}" + (f", trained on the body {body[1]}" if body else "")


def _oracles() -> Iterator[tuple[str, str]]:
    from orderhead.oracles.table import ORACLES

    yield from ORACLES.items()


def _studies() -> Iterator[tuple[str, str]]:
    from orderhead.studies import NAMES

    yield "demo", "the orders side by side on the body that ships (`orderhead demo`)"
    yield "compare", "orders side by side on any body (`orderhead compare`)"
    yield "diagnose", "what an order's gap to random is made of (`orderhead diagnose`)"
    yield from NAMES.items()


KINDS: Mapping[str, Callable[[], Any]] = {
    "bodies": _bodies, "heads": _heads, "orders": _orders, "combinators": _combinators,
    "oracles": _oracles, "recipes": _recipes, "studies": _studies,
}  # fmt: skip
"""Kind -> a function that gives its (name, line) pairs."""
