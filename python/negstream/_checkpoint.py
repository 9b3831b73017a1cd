"""``negstream.open``: a checkpoint, asked in this process."""

from __future__ import annotations

import datetime
import html
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from . import _program, _settings
from ._errors import UsageError
from ._native import Model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from .samplers import Sampler


class Neighbor(NamedTuple):
    """An item near to another one."""

    #: The item.
    item_id: str
    #: Cosine of both vectors, from -1 to 1.
    cosine: float
    #: Events of the item so far.
    events: int


class Recommendation(NamedTuple):
    """An item of a list, and why it is there: the score is the sum of the four parts, but for rounding."""

    #: The item.
    item_id: str
    #: The full score.
    score: float
    #: Likeness to what the user had, over the temperature.
    similarity: float
    #: What the item's popularity adds.
    popularity: float
    #: What having had the item before adds.
    repetition: float
    #: What coming together with the user's newest items adds.
    cooccurrence: float


class Recommendations(Sequence[Recommendation]):
    """A list, best first."""

    def __init__(self, rows: Iterable[tuple[str, float, float, float, float, float]]) -> None:
        self._rows = [Recommendation(*row) for row in rows]

    @property
    def ids(self) -> list[str]:
        """The items alone."""
        return [row.item_id for row in self._rows]

    def table(self) -> pa.Table:
        """A row for each item, a column for each part of the score."""
        import pyarrow as pa

        columns = zip(Recommendation._fields, zip(*self._rows)) if self._rows else ((f, ()) for f in Recommendation._fields)
        kinds = {"item_id": pa.string()}
        return pa.table({name: pa.array(list(column), kinds.get(name, pa.float32())) for name, column in columns})

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...
    @overload
    def __getitem__(self, place: slice) -> list[Recommendation]: ...
    def __getitem__(self, place: int | slice) -> Recommendation | list[Recommendation]:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self._rows)

    def __repr__(self) -> str:
        width = max((len(row.item_id) for row in self._rows), default=4)
        return "\n".join(f"{place:>3}  {row.item_id:<{width}}  {row.score:.3f}" for place, row in enumerate(self._rows, 1))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in Recommendation._fields)
        body = "".join(
            f"<tr><td>{html.escape(row.item_id)}</td>" + "".join(f"<td>{part:.3f}</td>" for part in row[1:]) + "</tr>"
            for row in self._rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def open(path: str | os.PathLike[str], **settings: Any) -> Checkpoint:
    """Opens a checkpoint, or the newest one of a folder or an object store (``s3://…``). Checksums are verified.

    ``settings`` are for object stores (``checkpoint__storage_options={"aws_region": "…"}``).

    Raises :class:`CheckpointError` where there is none, or it is damaged.
    """
    return Checkpoint(os.fspath(path), settings)


class Checkpoint:
    """A model as it was at a moment. It is held in memory, and may be asked by several threads."""

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self._settings = _settings.arguments(settings)
        self._model = Model(path, self._settings)
        self._folder: Any = None
        self._items: pa.Table | None = None
        self._users: pa.Table | None = None
        #: The manifest: ``step``, ``events``, ``dim``, ``beta``, ``temperature``, ``configuration`` and others.
        self.manifest: dict[str, Any] = json.loads(self._model.manifest())

    @property
    def path(self) -> str:
        """The checkpoint's own folder or address."""
        return str(self._model.places()[0])

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.manifest["dim"]

    @property
    def items(self) -> pa.Table:
        """The items, in the order of their rows: ``item_id``, ``embedding`` (``dim`` float32 s, as they enter the score),
        ``log_frequency`` (natural logarithm of the item's share of recent events), ``count`` (events), ``last_event``.
        """
        if self._items is None:
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(os.path.join(self._model.places()[1], "items.parquet"))
            self._items = table.combine_chunks()
        return self._items

    @property
    def item_vectors(self) -> npt.NDArray[np.float32]:
        """The vectors of :attr:`items`, of shape ``(items, dim)``: the memory of the Arrow table, not a copy."""
        return _matrix(self.items, self.dim)

    @property
    def users(self) -> pa.Table:
        """The users of whom something is known: ``user_id``, and ``embedding`` (``dim`` float32 s), their query just after the
        newest event. Its inner product with an item's vector is the similarity of the score.
        """
        if self._users is None:
            import numpy as np
            import pyarrow as pa

            names = self._model.users()
            queries = np.empty((len(names), self.dim), np.float32)
            self._model.user_queries(names, None, queries.ravel())
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(queries.ravel()), self.dim)
            self._users = pa.table({"user_id": pa.array(names, pa.string()), "embedding": vectors})
        return self._users

    @property
    def user_vectors(self) -> npt.NDArray[np.float32]:
        """The queries of :attr:`users`, of shape ``(users, dim)``: the memory of the Arrow table, not a copy."""
        return _matrix(self.users, self.dim)

    def query(
        self, user: object | None = None, *, items: Sequence[object] | None = None, at: int | str | datetime.datetime | None = None
    ) -> npt.NDArray[np.float32]:
        """The query of a user, or of somebody who had ``items`` (newest last): ``dim`` float32 s.

        Its inner product with a row of :attr:`item_vectors` is the similarity of the score.
        """
        import numpy as np

        query = np.empty(self.dim, np.float32)
        if user is not None and items is None:
            self._model.user_queries([_name(user)], _milliseconds(at), query)
        elif items is not None and user is None:
            self._model.items_query([_name(item) for item in items], _milliseconds(at), query)
        else:
            raise UsageError("give either user or items")
        return query

    def neighbors(self, item: object, k: int = 10) -> list[Neighbor]:
        """The ``k`` items nearest to ``item`` by cosine, nearest first, without itself.

        Raises :class:`UsageError` where there is no such item; the message has the nearest name.
        """
        return [Neighbor(*row) for row in self._model.neighbors(_name(item), k)]

    def recommend(
        self,
        user: object | None = None,
        *,
        items: Sequence[object] | None = None,
        k: int = 20,
        exclude: Iterable[object] = (),
        candidates: Iterable[object] | None = None,
        at: int | str | datetime.datetime | None = None,
    ) -> Recommendations:
        """What a user should see next, by the full score, or somebody who had ``items`` just now, newest last.

        ``exclude``: items that must not be in the list; ``candidates``: the only ones that may. ``at``: when they ask, as a time or
        in milliseconds since 1970 UTC; without it, the time of the newest event.

        Raises :class:`UsageError` where nothing is known of the user, or of an item.
        """
        users = None if user is None else [_name(user)]
        return self._recommend(users, items, k, exclude, candidates, at)[0]

    def recommend_many(
        self,
        users: Iterable[object],
        *,
        k: int = 20,
        exclude: Iterable[object] = (),
        candidates: Iterable[object] | None = None,
        at: int | str | datetime.datetime | None = None,
    ) -> list[Recommendations]:
        """The list of each of ``users``, as :meth:`recommend` gives it, in one pass over the items."""
        return self._recommend([_name(user) for user in users], None, k, exclude, candidates, at)

    def _recommend(self, users: Any, items: Any, k: int, exclude: Any, candidates: Any, at: Any) -> list[Recommendations]:
        lists = self._model.recommend(
            users,
            None if items is None else [_name(item) for item in items],
            k=k,
            exclude=[_name(item) for item in exclude],
            candidates=None if candidates is None else [_name(item) for item in candidates],
            at=_milliseconds(at),
        )
        return [Recommendations(rows) for rows in lists]

    def export(self, to: Literal["faiss", "usearch", "parquet", "npy"], path: str | os.PathLike[str]) -> dict[str, Any]:
        """Writes item vectors, with popularity as one more dimension, and users' queries into the folder ``path``.

        Inner products are scores, but for a user's own terms. Gives what was written: ``dim``, ``items``, ``users``, ``files``.
        """
        printed = _program.run(["export", "--json", "--to", to, "--", self.path, os.fspath(path)], list(self._settings))
        return json.loads(printed)

    def sampler(self, name: str | None = None, *, seed: int = 1) -> Sampler:
        """The sampler ``name`` as the checkpoint's trainer had it (the first at work, where none is named), to draw from and to go
        on with. Its ids are rows of :attr:`items`.
        """
        from .samplers import Sampler

        return Sampler._of(self._model.sampler(name, seed))

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"Checkpoint({self.path!r}: {manifest['items']:,} items, {manifest['users']:,} users, "
            f"dim {manifest['dim']}, step {manifest['step']:,})"
        )


def _matrix(table: Any, dim: int) -> Any:
    import pyarrow as pa

    column = table["embedding"]
    vectors = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(vectors, pa.ChunkedArray):
        vectors = pa.concat_arrays(vectors.chunks) if vectors.num_chunks else pa.array([], column.type)
    return vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim)


def _name(identifier: object) -> str:
    """Ids are texts; those of frames may have been numbers."""
    return identifier if isinstance(identifier, str) else str(identifier)


def _milliseconds(at: int | str | datetime.datetime | None) -> int | None:
    if at is None or isinstance(at, int):
        return at
    if isinstance(at, str):
        at = datetime.datetime.fromisoformat(at)
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.timezone.utc)
    return round(at.timestamp() * 1000)
