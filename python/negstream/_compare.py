"""``negstream.compare``: settings, and peers that count, on the same events."""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _frames, _program, _progress, _settings

if TYPE_CHECKING:
    import pyarrow as pa


class Contestant(NamedTuple):
    """How one of those that were compared fared."""

    #: Its name.
    name: str
    #: Share of the judged events whose item was among its first 20.
    hr_at_20: float
    #: Mean of 1/log2(1 + rank), 0 beyond rank 20.
    ndcg_at_20: float
    #: Mean of 1/rank, 0 beyond rank 20.
    mrr_at_20: float


def compare(
    log: Any,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    peers: Sequence[str] | str = ("recent", "own-history", "item-knn", "vstan", "mix"),
    publish_delay: Sequence[str] = (),
    directory: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> Comparison:
    """Lays settings, and peers that need no model, side by side on the same events of ``log``, which is as for :func:`replay`.

    ``variants``
        Further configurations by name, each with the settings that differ: ``{"wide": {"model.dim": 128}}``.
    ``peers``
        Names, ``"all"`` or ``"none"``: ``negstream compare --help`` has them.
    ``publish_delay``
        Delays (``"1m"``, ``"1h"``): what serving so late costs the first configuration.
    ``directory``
        A folder for the models of the configurations; without one they are not kept.
    ``config``, ``progress``, ``settings``
        As for :func:`replay`; they hold for all configurations.
    """
    peers = peers if isinstance(peers, str) else ",".join(peers) or "none"
    arguments = ["compare", "--json", "--peers", peers]
    arguments += ["--config", os.fspath(config)] if config is not None else []
    for name, differing in (variants or {}).items():
        arguments += ["--variant", f"{name}: " + "; ".join(_settings.arguments(differing))]
    if publish_delay:
        arguments += ["--publish-delay", ",".join(publish_delay)]
    shown = _progress.shown(progress, "compare")
    try:
        with tempfile.TemporaryDirectory(prefix="negstream-") as folder, _frames.as_paths(log) as paths:
            page = os.path.join(folder, "page.html")
            arguments += ["--html", page, "--dir", os.fspath(directory or os.path.join(folder, "models"))]
            printed = _program.run([*arguments, "--", *paths], _settings.arguments(settings), shown)
            with open(page, encoding="utf-8") as file:
                return Comparison(json.loads(printed), file.read())
    finally:
        shown.close()


class Comparison:
    """How contestants fared on the same events."""

    def __init__(self, raw: dict[str, Any], page: str) -> None:
        #: Everything that the program reports, as ``negstream compare --json`` prints it.
        self.raw = raw
        #: The comparison as a page for a browser.
        self.page = page

    @property
    def verdict(self) -> str:
        """What it means, in a sentence or two."""
        return self.raw["verdict"]

    @property
    def contestants(self) -> list[Contestant]:
        """The contestants, configurations first."""
        return [
            Contestant(one["name"], *(one["metrics"][key] for key in ("hr@20", "ndcg@20", "mrr@20")))
            for one in self.raw["contestants"]
        ]

    def table(self) -> pa.Table:
        """A row for each contestant: ``name``, ``hr@20`` with its 95 % interval, ``ndcg@20``, ``mrr@20``, ``seconds``."""
        import pyarrow as pa

        rows = self.raw["contestants"]
        intervals = [one["intervals"]["hr@20"] for one in rows]
        return pa.table(
            {
                "name": pa.array([one["name"] for one in rows], pa.string()),
                "hr@20": [one["metrics"]["hr@20"] for one in rows],
                "hr@20_low": pa.array([interval["low"] for interval in intervals], pa.float64()),
                "hr@20_high": pa.array([interval["high"] for interval in intervals], pa.float64()),
                "ndcg@20": [one["metrics"]["ndcg@20"] for one in rows],
                "mrr@20": [one["metrics"]["mrr@20"] for one in rows],
                "seconds": [one["seconds"] for one in rows],
            }
        )

    def curve(self) -> pa.Table:
        """Hit rate along the stream: ``time`` at which a stretch begins, and a column for each contestant."""
        import pyarrow as pa

        columns: dict[str, Any] = {"time": pa.array(self.raw["stretches_from"], pa.timestamp("ms", "UTC"))}
        for one in self.raw["contestants"]:
            columns[one["name"]] = pa.array(one["curve"], pa.float64())
        return pa.table(columns)

    def plot(self, ax: Any = None) -> Any:
        """Draws :meth:`curve` by matplotlib, into ``ax`` where it is given, and gives the axes."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        curve = self.curve()
        for name in curve.column_names[1:]:
            ax.plot(curve["time"].to_numpy(), curve[name].to_numpy(), label=name)
        ax.set_ylabel("HR@20")
        ax.set_ylim(bottom=0)
        ax.legend()
        return ax

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page for a browser."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.page)

    def __repr__(self) -> str:
        lines = ["Comparison: " + self.verdict]
        width = max(len(one.name) for one in self.contestants)
        for one in self.contestants:
            lines.append(f"  {one.name:<{width}}  HR@20 {one.hr_at_20:.3f}  NDCG@20 {one.ndcg_at_20:.3f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(one.name)}</th><td>{one.hr_at_20:.3f}</td><td>{one.ndcg_at_20:.3f}</td>"
            f"<td>{one.mrr_at_20:.3f}</td></tr>"
            for one in self.contestants
        )
        head = "<tr><th></th><th>hr@20</th><th>ndcg@20</th><th>mrr@20</th></tr>"
        return f"<p>{html.escape(self.verdict)}</p><table><thead>{head}</thead><tbody>{rows}</tbody></table>"
