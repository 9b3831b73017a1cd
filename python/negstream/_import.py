"""``negstream.import_vectors``: a model that begins with the item vectors of another one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _frames, _program, _settings
from ._checkpoint import Checkpoint, open as open_checkpoint
from ._errors import UsageError


def import_vectors(
    vectors: Any,
    ids: Sequence[Any] | None = None,
    *,
    checkpoint: str | os.PathLike[str],
    id: str | None = None,
    vector: str | None = None,
    count: str | None = None,
    last_event: str | None = None,
    length: float | None = None,
    events: int | None = None,
    fresh: bool = False,
    config: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Checkpoint:
    """Begins a model with item vectors of another one, as ``negstream import`` does, and opens it.

    ``vectors`` is an array of NumPy of shape ``(items, dim)``, with a name for each row in ``ids``; or a frame of pandas, polars or
    Arrow with a row for each item, or a path of Parquet. ``model__dim`` has to be its dimension.

    ``checkpoint``
        A folder without checkpoints, or an address of an object store. ``negstream.replay(log, checkpoint=…)`` with the same
        settings, and ``negstream run``, go on from there.
    ``id``, ``vector``, ``count``, ``last_event``
        The columns of a frame; by default ``item_id``, ``embedding`` or ``vector``, and, where they are there, ``count`` and
        ``last_event``.
    ``length``, ``events``
        The length that vectors are given, and how many events they are worth: docs/migration.md.
    ``fresh``
        Begin anew, whatever is there.

    Raises :class:`UsageError` where something does not fit; nothing is touched then.
    """
    given = _settings.arguments(settings)
    if any(setting.startswith("checkpoint.dir=") for setting in given):
        raise UsageError("checkpoint.dir: give it as checkpoint=…")
    given += _settings.arguments({"checkpoint.dir": os.fspath(checkpoint)})
    arguments = ["import", "--json"]
    arguments += ["--config", os.fspath(config)] if config is not None else []
    arguments += ["--fresh"] if fresh else []
    named = {"--id": id, "--vector": vector, "--count": count, "--last-event": last_event, "--length": length, "--events": events}
    arguments += [text for flag, value in named.items() if value is not None for text in (flag, str(value))]
    with tempfile.TemporaryDirectory(prefix="negstream-") as folder:
        if isinstance(vectors, (str, os.PathLike)) and ids is None:
            path = os.fspath(vectors)
        else:
            path = os.path.join(folder, "vectors.parquet")
            _frames.write(vectors if ids is None else _table(vectors, ids), path)
        _program.run([*arguments, "--", path], given)
    return open_checkpoint(checkpoint, **{key: value for key, value in settings.items() if key.startswith("checkpoint__")})


def _table(vectors: Any, ids: Sequence[Any]) -> Any:
    """A table of the rows of an array, each with its name."""
    import pyarrow as pa

    array = np.ascontiguousarray(vectors, np.float32)
    if array.ndim != 2 or len(array) != len(ids):
        raise UsageError(f"an array of shape {array.shape} has not a row for each of {len(ids)} ids")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    return pa.table({"item_id": pa.array([str(name) for name in ids]), "embedding": lists})
