"""What a recipe is: a model, a loss on named data, and how long."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from orderhead.core.checkpoint import save_model
from orderhead.core.names import unknown
from orderhead.core.rng import torch_generator
from orderhead.training.loop import Evaluation, LoopConfig, Loss

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


@dataclass(frozen=True)
class Recipe:
    """`build` makes the untrained model, `task` its data: item count, loss, evaluation of the averaged model.

    `task` is given the settings of the run. `save` writes the trained model into a folder. `about` holds what else
    decides the weights: a run with another `about` is not continued.
    """

    summary: str
    build: Callable[[], nn.Module]
    task: Callable[[LoopConfig], tuple[int, Loss, Evaluation | None]]
    scales: Mapping[str, LoopConfig]
    save: Callable[[nn.Module, Path], None] = save_model
    about: Mapping[str, Any] = field(default_factory=dict)


def seeded(build: Callable[[], M], seed: int) -> M:
    """What `build` makes, with the initial weights of `seed`, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, 3).initial_seed())
        return build()


def configure(config: C, overrides: Mapping[str, str]) -> C:
    """`config` with `field=value` overrides from the command line. ValueError for an unknown field or a bad value."""
    fields = {f.name: type(getattr(config, f.name)) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    changes: dict[str, object] = {}
    for name, text in overrides.items():
        if name not in fields:
            raise unknown("recipe field", name, fields)
        try:
            changes[name] = tuple(map(float, text.split(","))) if fields[name] is tuple else fields[name](text)
        except ValueError:
            raise ValueError(f"{name} is a {fields[name].__name__}, got {text!r}") from None
    return replace(config, **changes)  # type: ignore[type-var]
