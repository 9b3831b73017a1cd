"""Settings: keyword arguments into what ``--set`` takes.

A key of the configuration is written with two underscores for each dot, as in the environment variables of the program:
``model__dim=64`` is ``model.dim = 64``. Tables may be given whole: ``model={"dim": 64}``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ._errors import UsageError


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """``KEY=VALUE`` of each setting."""
    return [f"{key}={_toml(key, value)}" for key, value in _flat("", settings)]


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        key = prefix + str(name).replace("__", ".")
        if isinstance(value, Mapping):
            yield from _flat(f"{key}.", value)
        else:
            yield key, value


def _toml(key: str, value: Any) -> str:
    """``value`` in TOML. Numbers of NumPy are numbers."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return repr(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, (str, os.PathLike)):
        return json.dumps(os.fspath(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(key, one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))} = {_toml(key, one)}" for name, one in value.items()) + "}"
    raise UsageError(f"{key}: a setting is a number, a text, a truth value, a list or a mapping, not {value!r}")
