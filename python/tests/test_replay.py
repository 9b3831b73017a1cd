"""Logs go in as frames or paths, figures come out, and what is wrong is said as the program says it."""

from __future__ import annotations

import os
import signal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import negstream
from conftest import SETTINGS, program
from negstream._settings import arguments


def figures(report):
    return report.hr_at_20, report.ndcg_at_20, report.mrr_at_20, report.loss


def test_frames_and_paths_are_the_same_log(report, log, frame):
    table = pq.read_table(log)
    logs = [frame, frame.astype({"event_type": "category"}), table, str(log), [log]]
    try:
        import polars
    except ImportError:
        pass
    else:
        logs += [polars.from_arrow(table), polars.from_arrow(table).lazy()]
    for given in logs:
        assert figures(negstream.replay(given, progress=False, **SETTINGS)) == figures(report)


def test_figures_are_those_of_the_program(report, log, tmp_path):
    settings = [part for setting in arguments(SETTINGS) for part in ("--set", setting)]
    printed = program("replay", log, "--json", *settings, "--set", f"checkpoint.dir={tmp_path}")
    assert printed.returncode == 0, printed.stderr
    assert f'"hr@20":{report.hr_at_20!r}' in printed.stdout
    table = report.table().to_pydict()
    assert table["ranking"] == ["negstream", "popularity"]
    assert table["hr@20"] == [report.hr_at_20, report.popularity_hr_at_20]
    assert "HR@20" in repr(report) and "<table>" in report._repr_html_()


def test_ids_may_be_numbers(frame):
    numbered = pd.DataFrame(
        {
            "user": frame.user_id.astype("category").cat.codes.astype("int64"),
            "item": frame.item_id.astype("category").cat.codes.astype("int64"),
            "event_type": "click",
            "timestamp": frame.timestamp,
        }
    )
    fields = {"source__fields__user_id": "user", "source__fields__item_id": "item"}
    report = negstream.replay(numbered, **SETTINGS, **fields)
    assert len(report.open().recommend(int(numbered.user[0]), k=5)) == 5


def test_settings_are_keys_with_two_underscores_for_each_dot():
    given = {
        "model__dim": 64,
        "evaluate": {"repeat": True},
        "negatives__half_life": float("inf"),
        "positives__kinds": ["purchase", 'a "b"\n\x7f'],
        "negatives__noise": [{"sampler": "unigram", "power": 0.5}],
    }
    assert arguments(given) == [
        "model.dim=64",
        "evaluate.repeat=true",
        "negatives.half_life=inf",
        'positives.kinds=["purchase", "a \\"b\\"\\n\\u007f"]',
        'negatives.noise=[{"sampler" = "unigram", "power" = 0.5}]',
    ]


def test_errors_are_exceptions_with_the_words_of_the_program(log, tmp_path):
    with pytest.raises(negstream.UsageError, match="model.dims.*did you mean 'model.dim'"):
        negstream.replay(log, model__dims=64)
    with pytest.raises(negstream.SourceError, match="nowhere.parquet"):
        negstream.replay(tmp_path / "nowhere.parquet")
    with pytest.raises(negstream.SourceError, match="user_id"):
        negstream.replay(pd.DataFrame({"who": ["a"], "what": ["b"]}))
    with pytest.raises(negstream.CheckpointError) as raised:
        negstream.open(tmp_path)
    assert isinstance(raised.value, negstream.Error) and raised.value.code == 4
    with pytest.raises(ValueError, match="not set"):
        negstream.replay({"not", "a frame"})


def test_a_folder_is_gone_on_with_and_a_temporary_one_goes(log, tmp_path):
    first = negstream.replay(log, checkpoint=tmp_path, **SETTINGS)
    again = negstream.replay(log, checkpoint=tmp_path, **SETTINGS)
    assert again.events["read"] == first.events["read"] == 6000
    fleeting = negstream.replay(log, **SETTINGS)
    place = fleeting.checkpoint
    model = fleeting.open()
    del fleeting
    assert os.path.isdir(place), "the model holds it"
    del model
    assert not os.path.exists(place)


def test_progress_is_told_to_a_function(log):
    lines = []
    negstream.replay(log, progress=lines.append, **SETTINGS)
    assert any(line["message"] == "checkpoint written" for line in lines)


def test_ctrl_c_stops_in_good_order_with_a_checkpoint(log, tmp_path):
    def interrupt(line):
        if line["message"] == "checkpoint written":
            signal.raise_signal(signal.SIGINT)

    # Many times the log, so that it is still at it.
    with pytest.raises(KeyboardInterrupt):
        negstream.replay([log] * 200, checkpoint=tmp_path, progress=interrupt, checkpoint__every_events=2000, **SETTINGS)
    events = negstream.open(tmp_path).manifest["events"]["read"]
    assert 2000 <= events < 200 * 6000


def test_a_function_that_fails_ends_the_replay(log, tmp_path):
    def fail(line):
        raise RuntimeError(line["message"])

    with pytest.raises(RuntimeError):
        negstream.replay([log] * 200, checkpoint=tmp_path, progress=fail, checkpoint__every_events=2000, **SETTINGS)
    # It has let go of the folder.
    assert negstream.replay(log, checkpoint=tmp_path, **SETTINGS).items > 0


def test_files_beside_a_notebook_are_no_modules(log, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    assert negstream.replay(log, **SETTINGS).items > 0


def test_contestants_are_compared_on_the_same_events(log, frame):
    comparison = negstream.compare(frame, {"narrow": {"model.dim": 4}}, peers=["recent"], **SETTINGS)
    assert [one.name for one in comparison.contestants][1:] == ["narrow", "recent"]
    table = comparison.table().to_pydict()
    assert all(low <= rate <= high for low, rate, high in zip(table["hr@20_low"], table["hr@20"], table["hr@20_high"]))
    assert comparison.curve().column_names[0] == "time" and "<html" in comparison.page
    assert comparison.verdict in repr(comparison) and "<table>" in comparison._repr_html_()


def test_the_command_is_the_whole_program(tmp_path):
    assert program("--version").stdout.strip() == f"negstream {negstream.__version__}"
    assert program("replay", "--set", "model.dims=3", tmp_path / "log").returncode == 2
    assert "[model]" in program("config", "default").stdout
