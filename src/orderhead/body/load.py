"""Bodies and tokenizers by name, folder or hub id."""

from __future__ import annotations

from functools import lru_cache

from orderhead.body.mar import MAR, MARConfig
from orderhead.body.tokenizer import KLTokenizer
from orderhead.core.assets import config_of, load


def load_body(name: str = "fashion") -> MAR:
    """A MAR body: `fashion` ships; else a folder (from `orderhead import` or `train`) or a hub id.

    ValueError for an unknown name (with the nearest match) or damaged files.
    """
    return load(MAR, "bodies", name)


def body_config(name: str = "fashion") -> MARConfig:
    """The sizes and the tokenizer of a body, without its weights. ValueError as for `load_body`."""
    return config_of(MAR, "bodies", name)


@lru_cache(maxsize=4)
def load_tokenizer(name: str = "fashion") -> KLTokenizer:
    """A tokenizer, found like a body. ValueError where it is not here: KL-16 must be imported first."""
    if name == "":
        raise ValueError("this body names no tokenizer, so its tokens cannot become images")
    return load(KLTokenizer, "tokenizers", name)
