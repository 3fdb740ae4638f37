"""In which order should a masked autoregressive image model reveal its tokens, and why?

    import orderhead
    body = orderhead.load_body("fashion")
    samples = orderhead.sample(body, [0, 3, 7], order="multiscale", steps=16, cfg_scale=3.0)
    samples.images_BCHW, samples.trace.order_BL

Names are imported when they are first used: `import orderhead` alone costs nothing, and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orderhead import body, core, data, metrics, oracles, orders, report, sampling, studies, training
    from orderhead.body.load import load_body, load_tokenizer
    from orderhead.body.mar import MAR, SIZES, MARConfig
    from orderhead.body.tokenizer import KLTokenizer
    from orderhead.core.grid import Grid
    from orderhead.oracles.classifier import PartialVisClassifier
    from orderhead.orders.head import OrderHead, load_head
    from orderhead.orders.learned import learned
    from orderhead.orders.policy import POLICIES, Policy
    from orderhead.orders.state import DecodeState
    from orderhead.sampling.sample import Samples, sample
    from orderhead.sampling.settings import Settings
    from orderhead.sampling.trace import Trace

    __version__: str

_HOME = {
    "load_body": "body.load", "load_tokenizer": "body.load", "KLTokenizer": "body.tokenizer",
    "MAR": "body.mar", "MARConfig": "body.mar", "SIZES": "body.mar",
    "Grid": "core.grid",
    "PartialVisClassifier": "oracles.classifier",
    "OrderHead": "orders.head", "load_head": "orders.head", "learned": "orders.learned",
    "POLICIES": "orders.policy", "Policy": "orders.policy", "DecodeState": "orders.state",
    "sample": "sampling.sample", "Samples": "sampling.sample", "Settings": "sampling.settings",
    "Trace": "sampling.trace",
}  # fmt: skip
_ROOMS = ("body", "core", "data", "metrics", "oracles", "orders", "report", "sampling", "studies", "training")

__all__ = [
    "MAR", "POLICIES", "SIZES", "DecodeState", "Grid", "KLTokenizer", "MARConfig", "OrderHead", "PartialVisClassifier",
    "Policy", "Samples", "Settings", "Trace", "__version__", "body", "core", "data", "learned", "load_body",
    "load_head", "load_tokenizer", "metrics", "oracles", "orders", "report", "sample", "sampling", "studies",
    "training",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name in _ROOMS:
        return import_module(f"orderhead.{name}")
    if name in _HOME:
        value = getattr(import_module(f"orderhead.{_HOME[name]}"), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("orderhead")
    else:
        raise AttributeError(f"module 'orderhead' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
