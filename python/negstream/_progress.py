"""How far a command is: a bar in a notebook, a line on a terminal, nothing elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import Any


def shown(progress: bool | Callable[[dict[str, Any]], None] | None, title: str) -> Shown:
    """What shows progress here: a function is called with each line of the program's log, ``False`` shows nothing."""
    if callable(progress):
        return Shown(title, progress)
    if progress is False:
        return Shown(title, None)
    if _in_notebook():
        return Notebook(title)
    if progress or sys.stderr.isatty():
        return Terminal(title)
    return Shown(title, None)


def _in_notebook() -> bool:
    # Whoever runs in a notebook has imported IPython.
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class Shown:
    """Keeps the lines that curves are made of, and hands them on."""

    def __init__(self, title: str, on_line: Callable[[dict[str, Any]], None] | None) -> None:
        self.title = title
        self.lines: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self._on_line = on_line

    def __call__(self, entry: dict[str, Any]) -> None:
        if entry.get("message") == "training":
            self.lines.append(entry)
            self.draw(entry)
        if self._on_line is not None:
            self._on_line(entry)

    def draw(self, entry: dict[str, Any]) -> None:
        """Shows a line that sums up."""

    def close(self) -> None:
        """Takes away what was shown."""

    def text(self, entry: dict[str, Any]) -> tuple[float | None, str]:
        """The share that is done, where that is known, and a line about it."""
        rows, row = entry.get("rows"), entry.get("row")
        share = row / rows if rows and row is not None else None
        parts = [self.title]
        if share is not None:
            parts.append(f"{100 * share:.0f} %")
        parts.append(f"{entry.get('events_per_second', 0):,.0f} events/s")
        for key, name in [("loss", "loss"), ("recent_hr_20", "HR@20"), ("popularity_hr_20", "popularity")]:
            if entry.get(key) is not None:
                parts.append(f"{name} {entry[key]:.3f}")
        return share, "  ".join(parts)


class Terminal(Shown):
    """One line of standard error, written anew."""

    def __init__(self, title: str) -> None:
        super().__init__(title, None)
        self._width = 0

    def draw(self, entry: dict[str, Any]) -> None:
        text = self.text(entry)[1]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def close(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()


class Notebook(Shown):
    """A bar below the cell."""

    def __init__(self, title: str) -> None:
        super().__init__(title, None)
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(f"<code>{html.escape(title)} …</code>"), display_id=True)

    def draw(self, entry: dict[str, Any]) -> None:
        share, text = self.text(entry)
        value = "" if share is None else f' value="{share:.4f}"'
        self._handle.update(self._html(f"<progress max=1{value}></progress> <code>{html.escape(text)}</code>"))

    def close(self) -> None:
        self._handle.update(self._html(""))
