"""A small log, and a model of it, that the tests share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import negstream

#: Small, so that a replay takes a second.
SETTINGS = {
    "model__dim": 16,
    "negatives__noise": [{"sampler": "unigram", "draws": 64}, {"sampler": "cooccurrence", "draws": 32}],
    "negatives__half_life": 1000,
}


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, as it is installed beside the interpreter."""
    command = Path(sys.executable).parent / "negstream"
    return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    made = program("synth", "--events", 6000, "--users", 200, "--items", 150, "-o", path)
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture(scope="session")
def frame(log: Path) -> pd.DataFrame:
    return pd.read_parquet(log)


@pytest.fixture(scope="session")
def report(log: Path, tmp_path_factory: pytest.TempPathFactory) -> negstream.Report:
    return negstream.replay(log, checkpoint=tmp_path_factory.mktemp("checkpoints"), **SETTINGS)


@pytest.fixture(scope="session")
def model(report: negstream.Report) -> negstream.Checkpoint:
    return report.open()
