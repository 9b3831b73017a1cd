"""Progress on a terminal and in a notebook, and pictures where matplotlib is."""

from __future__ import annotations

import sys
import types

import pytest

from negstream import _progress

LINE = {"message": "training", "row": 50, "rows": 200, "events_per_second": 1234.0, "loss": 2.5, "recent_hr_20": 0.25}


def test_a_terminal_has_one_line(capsys):
    shown = _progress.shown(True, "replay")
    shown(LINE)
    shown.close()
    assert capsys.readouterr().err.startswith("\rreplay  25 %  1,234 events/s  loss 2.500  HR@20 0.250\r")


def test_a_notebook_has_a_bar(monkeypatch):
    drawn = []
    handle = types.SimpleNamespace(update=drawn.append)
    module, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.get_ipython = type("ZMQInteractiveShell", (), {})
    display.HTML, display.display = str, lambda _html, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    shown = _progress.shown(None, "replay")
    shown(LINE)
    shown.close()
    assert 'value="0.2500"' in drawn[0] and drawn[-1] == ""


def test_nothing_is_shown_where_nobody_looks(capsys):
    shown = _progress.shown(False, "replay")
    shown(LINE)
    assert shown.lines == [LINE] and capsys.readouterr().err == ""


def test_curves_are_drawn(report):
    pytest.importorskip("matplotlib").use("Agg")
    assert report.plot().get_ylabel() == "HR@20 of recent events"
