"""Logs as the program reads them: paths as they are, frames by a temporary file of Parquet."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from ._errors import UsageError


@contextlib.contextmanager
def as_paths(log: Any) -> Iterator[list[str]]:
    """The paths of ``log``; those of frames hold for as long as the context does."""
    if isinstance(log, (str, os.PathLike)):
        yield [os.fspath(log)]
    elif isinstance(log, Sequence) and log and all(isinstance(one, (str, os.PathLike)) for one in log):
        yield [os.fspath(one) for one in log]
    else:
        with tempfile.TemporaryDirectory(prefix="negstream-") as folder:
            path = os.path.join(folder, "events.parquet")
            write(log, path)
            yield [path]


def write(frame: Any, path: str) -> None:
    """Writes a frame of pandas, polars or Arrow, or whatever exports Arrow's C stream, as Parquet."""
    import pyarrow.parquet

    table = as_table(frame)
    pyarrow.parquet.write_table(table, path, compression="zstd", compression_level=1)


def as_table(frame: Any) -> Any:
    """A table of Arrow with the columns of ``frame``, without its index."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return _plain(frame)
    if isinstance(frame, pa.RecordBatch):
        return _plain(pa.Table.from_batches([frame]))
    module = type(frame).__module__.partition(".")[0]
    if module == "pandas":
        return _plain(pa.Table.from_pandas(frame, preserve_index=False))
    if module == "polars":
        frame = frame.collect() if hasattr(frame, "collect") else frame
        return _plain(frame.to_arrow())
    if hasattr(frame, "__arrow_c_stream__"):
        return _plain(pa.table(frame))
    raise UsageError(
        f"a log is a path, a list of paths, or a frame of pandas, polars or Arrow, not {type(frame).__name__}"
    )


def _plain(table: Any) -> Any:
    """Categories, which logs have no place for, as what they stand for."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table
