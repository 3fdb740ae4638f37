"""Numbers and lists as the page writes them."""

from __future__ import annotations


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """Fixed point with a real minus sign; never "-0.00"."""
    shown = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def interval(ci: tuple[float, float], digits: int = 2, signed: bool = False) -> str:
    return f"[{number(ci[0], digits, signed)}, {number(ci[1], digits, signed)}]"


def listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
