"""Orders as users write them: a name of `SPATIAL`, or names combined, as in `blend(shift(raster), halton, 0.3)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache

from orderhead.core.names import lookup
from orderhead.orders.combine import SpatialOrder, apart, blend, flip, perturb, reverse, shift, then
from orderhead.orders.spatial import SCHEDULE_OF, SPATIAL

COMBINATORS: Mapping[str, Callable[..., SpatialOrder]] = {
    f.__name__: f for f in (apart, blend, flip, perturb, reverse, shift, then)
}
"""How orders are combined, by name; their parameters are orders, but for a last one that is a number."""


def usage(name: str) -> str:
    """How a combinator is written: `blend(a, b, weight)`."""
    return f"{name}({', '.join(inspect.signature(COMBINATORS[name]).parameters)})"


@lru_cache(maxsize=256)
def spatial_order(text: str) -> SpatialOrder:
    """The order of that name, or the combination that is written so.

    ValueError for an unknown name, with the nearest match, and for what is no combination; nothing is evaluated.
    """
    if "(" not in text:
        return lookup("order", text, SPATIAL)
    try:
        return _order(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"an order is a name, or combined as in shift(center_spiral); got {text!r}") from None


def _order(node: ast.expr) -> SpatialOrder:
    if isinstance(node, ast.Name):
        if node.id in SCHEDULE_OF:
            raise ValueError(
                f"{node.id} is no part of a combination, where its schedule {SCHEDULE_OF[node.id]} is lost"
            )
        return lookup("order", node.id, SPATIAL)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"this is no order: {ast.unparse(node)!r}; orders are names, or combinations of them")
    combine = lookup("combinator", node.func.id, COMBINATORS)
    parameters = inspect.signature(combine).parameters.values()
    if node.keywords or len(node.args) != len(parameters):
        raise ValueError(f"{usage(node.func.id)} is how this one is written; got {ast.unparse(node)!r}")
    given = zip(parameters, node.args, strict=True)
    return combine(*(_number(arg) if p.annotation in (float, "float") else _order(arg) for p, arg in given))


def _number(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    raise ValueError(f"a fraction of the cells is a number in [0, 1]; got {ast.unparse(node)!r}")
