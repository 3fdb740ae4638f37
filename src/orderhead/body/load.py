"""Bodies and tokenizers by name, folder or hub id."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from orderhead.body.mar import MAR, MARConfig
from orderhead.body.tokenizer import KLTokenizer
from orderhead.core.assets import config_of, load, written


def load_body(name: str = "fashion") -> MAR:
    """A MAR body: `fashion` ships; else a folder (from `orderhead import` or `train`) or a hub id.

    ValueError for an unknown name (with the nearest match) or damaged files.
    """
    return load(MAR, "bodies", name)


def body_config(name: str = "fashion") -> MARConfig:
    """The sizes and the tokenizer of a body, without its weights. ValueError as for `load_body`."""
    return config_of(MAR, "bodies", name)


def load_tokenizer(name: str = "fashion") -> KLTokenizer:
    """A tokenizer, found like a body, and kept until its files are written again.

    ValueError where it is not here: KL-16 must be imported first.
    """
    if name == "":
        raise ValueError("this body names no tokenizer, so its tokens cannot become images")
    return _tokenizer(name, written("tokenizers", name))


@lru_cache(maxsize=4)
def _tokenizer(name: str, written: tuple[int, ...]) -> KLTokenizer:
    return load(KLTokenizer, "tokenizers", name)


def with_tokenizer(config: MARConfig, name: str = "auto") -> MARConfig:
    """The config with a tokenizer that is here; auto is its own. ValueError says how to get one."""
    config = replace(config, tokenizer=config.tokenizer if name == "auto" else name)
    try:
        load_tokenizer(config.tokenizer)
    except ValueError as error:
        hint = "; import it (`orderhead import kl16.ckpt --out DIR`) and give --tokenizer DIR" if name == "auto" else ""
        raise ValueError(f"{error}{hint}") from None
    return config
