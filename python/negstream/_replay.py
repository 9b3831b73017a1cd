"""``negstream.replay``: what would have happened, had this log been live."""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _frames, _program, _progress, _settings
from ._checkpoint import Checkpoint, open as open_checkpoint
from ._errors import Error, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("hr@20", "ndcg@20", "mrr@20", "tail_hr@20", "head_hr@20", "cold_hr@20")


def replay(
    log: Any,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    sort: bool = False,
    config: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> Report:
    """Learns a log in one pass, ranking each event before it is learnt.

    ``log`` is a frame of pandas, polars or Arrow with the columns ``user_id``, ``item_id``, ``event_type`` and ``timestamp``
    (other names: ``source__fields__user_id="customer"``), or a path of Parquet, or a list of paths: files, folders, patterns,
    ``s3://…``, ``gs://…``, ``az://…``, ``https://…``.

    ``checkpoint``
        A folder, or an address of an object store, for the model. What is there already is gone on with, and logs that were
        read before are not read again. Without one, the model lies in a temporary folder, for as long as the report does.
    ``fresh``
        Begin anew, whatever is there.
    ``sort``
        Read the events in the order of time, however they are stored.
    ``config``
        A configuration file (TOML), under ``settings``.
    ``progress``
        ``None``: a bar in a notebook, a line on a terminal. ``False``: nothing. A function: it gets each line of the log, a
        mapping with ``message``; those called ``"training"`` have ``row``, ``rows``, ``events_per_second``, ``loss``,
        ``recent_hr_20``, ``popularity_hr_20``.
    ``settings``
        Any key of ``negstream config default``, two underscores for each dot: ``evaluate__repeat=True``, ``model__dim=64``.

    Ctrl-C stops it in good order: where ``checkpoint`` is given, the next call goes on from there.

    Raises :class:`UsageError` where a setting or argument is wrong (nothing is touched then), :class:`SourceError` where the log
    cannot be read, and other :class:`Error` s as the program does.
    """
    given = _settings.arguments(settings)
    if any(setting.startswith("checkpoint.dir=") for setting in given):
        raise UsageError("checkpoint.dir: give it as checkpoint=…")
    folder = None
    if checkpoint is None:
        folder = tempfile.TemporaryDirectory(prefix="negstream-")
        checkpoint = folder.name
    arguments = ["replay", "--json"]
    arguments += ["--config", os.fspath(config)] if config is not None else []
    arguments += [flag for flag, wanted in (("--fresh", fresh), ("--sort", sort)) if wanted]
    given += _settings.arguments({"checkpoint.dir": os.fspath(checkpoint)})
    shown = _progress.shown(progress, "replay")
    try:
        with _frames.as_paths(log) as paths:
            printed = _program.run([*arguments, "--", *paths], given, shown)
    except BaseException:
        if folder is not None:
            folder.cleanup()
        raise
    finally:
        shown.close()
    return Report(json.loads(printed), shown.lines, folder)


class Report:
    """What came of a replay. Rates are over the last half of the log (``evaluate.from``), each event ranked before it was learnt.

    ``hr_at_20``, ``ndcg_at_20``, ``mrr_at_20``: share of events whose item was among the first 20, and its gain by rank; ``None``
    where nothing was ranked. ``popularity_hr_at_20`` is what decayed popularity got on the same events.
    """

    def __init__(self, raw: dict[str, Any], lines: Sequence[dict[str, Any]] = (), folder: Any = None) -> None:
        #: Everything that the program reports, as ``negstream replay --json`` prints it.
        self.raw = raw
        self._lines = list(lines)
        # The folder goes when the report does.
        self._folder = folder

    @property
    def hr_at_20(self) -> float | None:
        """Share of events whose item was among the first 20."""
        return self.raw["evaluation"]["hr@20"]

    @property
    def ndcg_at_20(self) -> float | None:
        """Mean of 1/log2(1 + rank), 0 beyond rank 20."""
        return self.raw["evaluation"]["ndcg@20"]

    @property
    def mrr_at_20(self) -> float | None:
        """Mean of 1/rank, 0 beyond rank 20."""
        return self.raw["evaluation"]["mrr@20"]

    @property
    def popularity_hr_at_20(self) -> float | None:
        """``hr_at_20`` of decayed popularity, on the same events."""
        popularity = self.raw["evaluation"].get("popularity")
        return None if popularity is None else popularity["hr@20"]

    @property
    def events(self) -> dict[str, Any]:
        """Records by what became of them: ``read``, ``used``, ``ignored``, ``rejected`` and others."""
        return self.raw["events"]

    @property
    def items(self) -> int:
        """Items that the model knows."""
        return self.raw["items"]

    @property
    def users(self) -> int:
        """Users that the model knows."""
        return self.raw["users"]

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.raw["steps"]

    @property
    def seconds(self) -> float:
        """Seconds that the replay took, without the conversion of a frame."""
        return self.raw["seconds"]

    @property
    def events_per_second(self) -> float:
        """Records read per second."""
        return self.raw["events_per_second"]

    @property
    def loss(self) -> float | None:
        """Loss of the newest step, in nats."""
        return self.raw["loss"]

    @property
    def warnings(self) -> list[str]:
        """What is likely set wrong, each with what can be done."""
        return self.raw["warnings"]

    @property
    def checkpoint(self) -> str | None:
        """The newest checkpoint. In a temporary folder it lasts for as long as this report."""
        return self.raw["checkpoint"]

    def open(self) -> Checkpoint:
        """The model that was learnt."""
        if self.checkpoint is None:
            raise Error("no checkpoint was written: nothing was learnt")
        opened = open_checkpoint(self.checkpoint)
        opened._folder = self._folder
        return opened

    def table(self) -> pa.Table:
        """The figures of the model, of popularity and of users' own history: a row for each, a column for each figure."""
        import pyarrow as pa

        rows = self._rows()
        columns: dict[str, Any] = {"ranking": pa.array([name for name, _ in rows], pa.string())}
        for column in _COLUMNS:
            columns[column] = pa.array([figures.get(column) for _, figures in rows], pa.float64())
        return pa.table(columns)

    def curve(self) -> pa.Table:
        """Figures along the log: ``events`` read, ``hr@20`` of the model and of popularity over recent events, ``loss`` in nats.

        A row for each fifth of a second of the replay: a short log has few.
        """
        import pyarrow as pa

        def column(key: str, kind: Any) -> Any:
            return pa.array([line.get(key) for line in self._lines], kind)

        return pa.table(
            {
                "events": column("events", pa.int64()),
                "hr@20": column("recent_hr_20", pa.float64()),
                "popularity_hr@20": column("popularity_hr_20", pa.float64()),
                "loss": column("loss", pa.float64()),
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draws :meth:`curve` by matplotlib, into ``ax`` where it is given, and gives the axes."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        curve = self.curve()
        for column, label in (("hr@20", "negstream"), ("popularity_hr@20", "popularity")):
            ax.plot(curve["events"].to_numpy(), curve[column].to_numpy(), label=label)
        ax.set_xlabel("events")
        ax.set_ylabel("HR@20 of recent events")
        ax.set_ylim(bottom=0)
        ax.legend()
        return ax

    def _rows(self) -> list[tuple[str, dict[str, Any]]]:
        evaluation = self.raw["evaluation"]
        rows = [("negstream", evaluation)]
        for key, name in (("popularity", "popularity"), ("own_history", "own history")):
            if evaluation.get(key) is not None:
                rows.append((name, evaluation[key]))
        return rows

    def __repr__(self) -> str:
        lines = [
            f"Report: {self.events['read']:,} events in {self.seconds:.1f} s, {self.items:,} items, {self.users:,} users"
        ]
        for name, figures in self._rows():
            shown = (f"{column.upper()} {figures[column]:.3f}" for column in _COLUMNS[:3] if figures[column] is not None)
            lines.append(f"  {name:<12} " + "  ".join(shown))
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in ("", *_COLUMNS))
        body = ""
        for name, figures in self._rows():
            cells = (figures.get(column) for column in _COLUMNS)
            body += f"<tr><th>{html.escape(name)}</th>"
            body += "".join("<td>–</td>" if cell is None else f"<td>{cell:.3f}</td>" for cell in cells) + "</tr>"
        warnings = "".join(f"<p>⚠ {html.escape(warning)}</p>" for warning in self.warnings)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{self.events['read']:,} events in {self.seconds:.1f} s; {self.items:,} items, {self.users:,} users</p>{warnings}"
        )
