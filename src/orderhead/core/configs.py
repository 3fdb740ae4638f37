"""A model's `config.json` -> its config, every value of the type that the field wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from orderhead.core.files import read_json


def read_config(model_class: type, folder: Path) -> Any:
    """The config in a folder, of the type that the model is made from; fields that are left out have their defaults.

    ValueError where the file is missing, is no JSON object, or a value is of another type.
    """
    config_class = get_type_hints(model_class.__init__)["config"]
    found, hints = read_json(folder / "config.json"), get_type_hints(config_class)
    if not isinstance(found, dict):
        raise ValueError(f"{folder / 'config.json'} should hold a JSON object")
    values = {name: value for name, value in found.get("config", found).items() if name in hints}
    for name, value in values.items():
        if not _fits(value, hints[name]):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            raise ValueError(f"config.json wants {name} as {wanted}, got {value!r}")
    return config_class(**values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a field's type: a list for a tuple, a whole number for a float."""
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_args(hint):  # int | None
        return any(_fits(value, option) for option in get_args(hint))
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)
