"""Streaming negatives with exact probabilities, for training loops of your own.

A sampler observes the items of each batch, and draws negatives with the logarithm of the probability of each::

    from negstream import samplers

    sampler = samplers.Unigram(power=0.75, half_life=100_000, seed=1)
    for users, items in batches:                      # ids are whole numbers from 0 on
        sampler.observe(items)
        ids, log_q = sampler.draw(1024)               # int64, float32

Subtract ``log(n) + log_q`` from the logits of what was drawn, and the sampled softmax estimates the full one. Where negatives come
from several places (the batch, a bank, samplers), one correction is right for all of them: :class:`Negatives` gathers the
candidates of a batch with it, equal ones merged.

Arrays are NumPy's, or whatever gives NumPy an array without a copy: tensors of PyTorch on the CPU, JAX, CuPy's host arrays. What is
drawn is NumPy's too; ``torch.from_numpy(ids)`` shares its memory.

Ids are places: memory grows with the largest one, a few hundred bytes each. Draws are a function of the seed and of what was observed
and asked, on every machine (one thread at a time may ask a sampler): a call of ``observe`` is a batch of the worker's, the k-th draw is that of its step k.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _settings
from ._errors import UsageError
from ._native import Stream
from ._native import samplers as _registered

if TYPE_CHECKING:
    import numpy.typing as npt

    from typing import Self

    Ids = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

__all__ = [
    "Adaptive",
    "Bank",
    "Candidates",
    "Context",
    "Cooccurrence",
    "Exposure",
    "Hard",
    "Interval",
    "LogUniform",
    "Mixture",
    "Negatives",
    "Sampler",
    "Shown",
    "Unigram",
    "Uniform",
    "available",
    "make",
]


def available() -> dict[str, str]:
    """Every sampler by name, with a sentence about it."""
    return dict(_registered())


@dataclass(frozen=True)
class Context:
    """The queries that negatives are drawn for. All of them share what is drawn: q is the mean over them."""

    #: The newest item of each query's user, of shape ``(n,)``: for ``cooccurrence``.
    last_items: Any = None
    #: The user of each query, of shape ``(n,)``: for ``exposure``.
    users: Any = None
    #: The vectors of the queries as they are scored, of shape ``(n, dim)``, float32: for ``adaptive`` and ``hard``.
    queries: Any = None
    #: The other candidates (the batch's positives, a bank), of any length: for ``hard``.
    candidates: Any = None


@dataclass(frozen=True)
class Shown:
    """What users were shown, in order, each of shape ``(n,)``: for ``exposure``."""

    #: The user of each.
    users: Any
    #: The item of each.
    items: Any
    #: Whether the user chose it.
    chosen: Any


class _OnStream:
    """Counts and live items, and what observes them."""

    _stream: Stream

    def observe(
        self,
        items: Any,
        *,
        previous: Any = None,
        timestamps: Any = None,
        repeats: Any = None,
        shown: Shown | None = None,
    ) -> None:
        """Observes a batch of events, in their order.

        ``items``
            The item of each, of shape ``(n,)``: whole numbers from 0 on.
        ``previous``
            The item before it of the same user, -1 where there is none, of shape ``(n,)``: for ``cooccurrence``.
        ``timestamps``
            Milliseconds, of shape ``(n,)``: for half-lives in time, and ``half_life="auto"``.
        ``repeats``
            Whether the user had the item before, of shape ``(n,)``: repeats tell ``half_life="auto"`` nothing.
        ``shown``
            What users were shown meanwhile: for ``exposure``.
        """
        self._stream.observe(
            _ids(items),
            previous=None if previous is None else _array(previous, np.int64),
            timestamps=None if timestamps is None else _array(timestamps, np.int64),
            repeats=None if repeats is None else _flags(repeats),
            shown=None if shown is None else (_ids(shown.users), _ids(shown.items), _flags(shown.chosen)),
        )

    def set_vectors(self, vectors: Any, *, temperature: float = 1.0, beta: float = 1.0) -> None:
        """The items' vectors, for ``adaptive`` and ``hard``: float32 of shape ``(items, dim)``, contiguous, as they are scored.

        They are read where they lie, when they are needed: what is trained in place is seen at once. For a tensor of PyTorch, give
        ``weight.detach().numpy()``. The model's score is ``query·vector/temperature + beta·log frequency``.
        """
        self._stream.set_vectors(np.asarray(vectors), temperature, beta)

    def shares(self, items: Any) -> Floats:
        """The decayed share of each of ``items`` in the stream, of the same shape: float32."""
        items = _ids(items)
        out = np.empty(items.shape, np.float32)
        self._stream.shares(items.ravel(), out.ravel())
        return out

    @property
    def n_items(self) -> int:
        """One more than the largest id that was observed."""
        return self._stream.n_items()

    @property
    def n_live(self) -> int:
        """Items that can be drawn, by samplers of all items."""
        return self._stream.n_live()

    @property
    def half_life(self) -> float:
        """The half-life of the counts in events, as it is at work: with ``"auto"``, what the stream has chosen."""
        return self._stream.half_life()

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration: ``seed``, ``negatives``, ``evaluate``, as a worker has them."""
        return json.loads(self._stream.settings())

    def to_bytes(self) -> bytes:
        """The state. Vectors are no part of it: :meth:`set_vectors` is to follow a restore."""
        return self._stream.save()

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """What :meth:`to_bytes` was of: it goes on with the same draws.

        Raises :class:`negstream.UsageError` where ``state`` is none.
        """
        return cls._of(Stream.restore(bytes(state)))

    @classmethod
    def _of(cls, stream: Stream) -> Self:
        made = cls.__new__(cls)
        made._stream = stream
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)


class Sampler(_OnStream):
    """A distribution over the items of a stream that negatives are drawn from, with exactly known probabilities.

    Its classes are the family of docs/negatives.md: :class:`Uniform`, :class:`Unigram` and so on; :func:`make` takes their names.
    All have ``half_life`` (of the counts: events, a time such as ``"6h"``, ``"inf"`` or ``"auto"``), ``live_events`` (an item can be
    drawn for so many events after its last one; 0: for ever) and ``seed``.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        *,
        half_life: float | str = "auto",
        live_events: int = 0,
        seed: int = 1,
    ) -> None:
        self._stream = _stream([(name, options or {})], half_life, live_events, seed, bank=0, bank_max_age=0)

    def draw(self, n: int, context: Context | None = None, *, seed: int | None = None) -> tuple[Ids, Floats]:
        """Draws ``n`` items, independently, and gives them with the natural logarithm of the probability of each.

        Of shape ``(n,)``, int64 and float32. ``seed``: draw from a generator of this seed, and count it as no step.

        Raises :class:`negstream.UsageError` where there is nothing to draw from: before the first event, or where ``context`` lacks
        what the sampler draws by.
        """
        ids, log_q = np.empty(n, np.int64), np.empty(n, np.float32)
        self._stream.draw(ids, log_q, _asking(context), seed)
        return ids, log_q

    def log_prob(self, items: Any, context: Context | None = None) -> Floats:
        """The natural logarithm of the probability of each of ``items``, of the same shape: -inf for what cannot be drawn."""
        items = _ids(items)
        out = np.empty(items.shape, np.float32)
        self._stream.log_prob(items.ravel(), out.ravel(), _asking(context))
        return out

    @property
    def name(self) -> str:
        """The sampler's name in the configuration."""
        return self.settings["negatives"]["noise"][0]["sampler"]

    def __repr__(self) -> str:
        return f"<negstream sampler {self.name}: {self.n_live:,} live items>"


def make(name: str, **options: Any) -> Sampler:
    """The sampler called ``name`` (:func:`available`), with its options and those that all have.

    Raises :class:`negstream.UsageError` where name or options are wrong, with the nearest right ones.
    """
    common = {key: options.pop(key) for key in ("half_life", "live_events", "seed") if key in options}
    return Sampler(name, options, **common)


class Uniform(Sampler):
    """Every live item alike."""

    def __init__(self, **common: Any) -> None:
        super().__init__("uniform", **common)


class Unigram(Sampler):
    """In proportion to a power of the decayed frequency; one draw in twenty is uniform."""

    def __init__(self, power: float = 1.0, **common: Any) -> None:
        super().__init__("unigram", {"power": power}, **common)


class LogUniform(Sampler):
    """By popularity rank r: q = log((r + 2)/(r + 1)) / log(n + 1)."""

    def __init__(self, **common: Any) -> None:
        super().__init__("log_uniform", **common)


class Interval(Sampler):
    """By the gaps between an item's events, in a sketch of fixed size: ``rows`` times ``width`` numbers."""

    def __init__(self, width: int = 65_536, rows: int = 2, rate: float = 0.05, **common: Any) -> None:
        super().__init__("interval", {"width": width, "rows": rows, "rate": rate}, **common)


class Cooccurrence(Sampler):
    """What follows the query's last item: observe with ``previous``, draw with ``Context(last_items=…)``."""

    def __init__(self, followers: int = 32, follower_half_life: float = 20_000.0, **common: Any) -> None:
        super().__init__("cooccurrence", {"followers": followers, "half_life": follower_half_life}, **common)


class Adaptive(Sampler):
    """The model as its own noise, in two stages: give it :meth:`set_vectors`, draw with ``Context(queries=…)``."""

    def __init__(self, clusters: int = 64, power: float = 1.0, **common: Any) -> None:
        super().__init__("adaptive", {"clusters": clusters, "power": power}, **common)


class Hard(Sampler):
    """The top-scored of the other candidates: give it :meth:`set_vectors`, draw with ``Context(queries=…, candidates=…)``.

    It cannot draw every item: add it to others (:class:`Mixture`, :class:`Negatives`), do not use it alone.
    """

    def __init__(self, size: int = 256, probes: int = 32, **common: Any) -> None:
        super().__init__("hard", {"size": size, "probes": probes}, **common)


class Exposure(Sampler):
    """What users were shown and did not choose: observe with ``shown``, draw with ``Context(users=…)``."""

    def __init__(self, remembered: int = 32, **common: Any) -> None:
        super().__init__("exposure", {"remembered": remembered}, **common)


class Mixture(Sampler):
    """Others, each with its weight: ``Mixture([("unigram", 3.0), ({"sampler": "hard", "size": 64}, 1.0)])``."""

    def __init__(self, parts: Iterable[tuple[str | Mapping[str, Any], float]], **common: Any) -> None:
        tables = [{**_table(part), "weight": float(weight)} for part, weight in parts]
        super().__init__("mixture", {"parts": tables}, **common)


class Bank(_OnStream):
    """The newest positives, first in, first out, as negatives for later batches; equal ones merged.

    ``size``: how many; ``max_age``: entries leave when they are more than so many events old (0: at any age).
    """

    def __init__(self, size: int = 2048, *, max_age: int = 0, half_life: float | str = "auto", seed: int = 1) -> None:
        self._stream = _stream([], half_life, 0, seed, bank=size, bank_max_age=max_age)

    def push(self, items: Any) -> None:
        """Observes a batch of positives, and adds them."""
        items = _ids(items)
        self._stream.observe(items)
        self._stream.push(items)

    def entries(self) -> tuple[Ids, Ids]:
        """The items, oldest first, and how many events ago each came in; both int64 of shape ``(len(bank),)``."""
        items, ages = (np.empty(len(self), np.int64) for _ in range(2))
        self._stream.bank(items, ages)
        return items, ages

    def candidates(self) -> Candidates:
        """The distinct items, with their multiplicities, and log E: how often they were to be expected."""
        return _gathered(self._stream, np.empty(0, np.int64), None)

    def __len__(self) -> int:
        return self._stream.bank_size()


@dataclass(frozen=True)
class Candidates:
    """The candidates of a batch, each item once.

    The loss of queries ``q`` (``(n, dim)``) with item vectors ``v`` and temperature τ is the cross-entropy of ::

        logits = q @ v[candidates.ids].T / τ - candidates.log_expected + np.log(candidates.multiplicity)

    with the targets ``candidates.labels``.
    """

    #: The item of each column: int64 of shape ``(columns,)``, those of the batch first.
    ids: Ids
    #: How many draws each column stands for: int64 of shape ``(columns,)``.
    multiplicity: Ids
    #: log E: how many times the proposals together are expected to bring the item: float32 of shape ``(columns,)``.
    log_expected: Floats
    #: The column of each positive: int64 of shape ``(positives,)``.
    labels: Ids
    #: Draws before equal ones were merged.
    n_draws: int

    def __len__(self) -> int:
        return len(self.ids)


class Negatives(_OnStream):
    """All that a worker's negatives come from: the batch, the bank, and samplers, with one correction for all of them.

    ``noise``
        Samplers by name, or as tables: ``["unigram", {"sampler": "hard", "draws": 128}]``; ``draws`` (512) is the number for each
        batch.
    ``bank``
        How many of the newest positives are kept for later batches; ``bank_max_age``: for so many events at most (0: any).
    """

    def __init__(
        self,
        noise: Iterable[str | Mapping[str, Any]] = (),
        *,
        bank: int = 2048,
        bank_max_age: int = 0,
        half_life: float | str = "auto",
        live_events: int = 0,
        seed: int = 1,
    ) -> None:
        tables = [_table(one) for one in noise]
        terms = [(table.pop("sampler", ""), table) for table in tables]
        self._stream = _stream(terms, half_life, live_events, seed, bank=bank, bank_max_age=bank_max_age)

    def batch(self, items: Any, *, positives: Any = None, context: Context | None = None, **observed: Any) -> Candidates:
        """Observes a batch, gathers its candidates, and puts its items into the bank: a step of the worker's.

        ``items``: the item of each event. ``positives``: those of the events that have a query, where these are not all. ``observed``: as
        :meth:`observe` takes it (``previous``, ``timestamps``, ``repeats``, ``shown``).
        """
        items = _ids(items)
        self.observe(items, **observed)
        candidates = _gathered(self._stream, items if positives is None else _ids(positives), context)
        self._stream.push(items)
        return candidates

    @property
    def bank_size(self) -> int:
        """Entries of the bank."""
        return self._stream.bank_size()

    def __repr__(self) -> str:
        return f"<negstream negatives: {self.n_live:,} live items, {self.bank_size:,} in the bank>"


def _gathered(stream: Stream, positives: Ids, context: Context | None) -> Candidates:
    columns, n_draws = stream.gather(positives, _asking(context))
    ids, multiplicity = np.empty(columns, np.int64), np.empty(columns, np.int64)
    log_expected, labels = np.empty(columns, np.float32), np.empty(len(positives), np.int64)
    stream.columns(ids, multiplicity, log_expected)
    stream.labels(positives, labels)
    return Candidates(ids, multiplicity, log_expected, labels, n_draws)


def _stream(
    terms: Sequence[tuple[str, Mapping[str, Any]]],
    half_life: float | str,
    live_events: int,
    seed: int,
    *,
    bank: int,
    bank_max_age: int,
) -> Stream:
    negatives: dict[str, Any] = {
        "noise": [{"sampler": name, **options} for name, options in terms] or "none",
        "half_life": half_life,
        "live_events": live_events,
        "bank": bank,
        "bank_max_age": bank_max_age,
    }
    if "exposure" in json.dumps(negatives["noise"]):
        # A worker has to be told which events those are; here they are told apart by the caller.
        negatives["exposure_kinds"] = ["shown"]
    return Stream(_settings.arguments({"seed": seed, "negatives": negatives}))


def _table(sampler: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"sampler": sampler} if isinstance(sampler, str) else dict(sampler)


def _asking(context: Context | None) -> dict[str, Any]:
    if context is None:
        context = Context()
    queries = context.queries
    if queries is not None:
        queries = _array(queries, np.float32, dimensions=2).ravel()
    return {
        "last_items": None if context.last_items is None else _ids(context.last_items),
        "users": None if context.users is None else _ids(context.users),
        "queries": queries,
        "others": None if context.candidates is None else _ids(context.candidates).ravel(),
    }


def _ids(array: Any) -> Any:
    """Whole numbers, as they lie where they are of 32 or 64 bits."""
    array = np.asarray(array)
    if array.size == 0 and array.dtype == np.float64:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise UsageError(f"ids have to be whole numbers, not {array.dtype}")
    if array.dtype.itemsize < 4:
        array = array.astype(np.int32)
    return np.ascontiguousarray(array)


def _array(array: Any, kind: Any, dimensions: int = 1) -> Any:
    array = np.ascontiguousarray(np.asarray(array), dtype=kind)
    if array.ndim != dimensions:
        raise UsageError(f"expected an array of {dimensions} dimensions, not of {array.ndim}")
    return array


def _flags(array: Any) -> Any:
    return np.ascontiguousarray(np.asarray(array), dtype=np.bool_).view(np.uint8)
