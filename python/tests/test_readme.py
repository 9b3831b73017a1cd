"""The code of README.md and docs/python.md runs as it stands, on a file of MovieLens' own layout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def blocks(path: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


@pytest.fixture(scope="session")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("movielens"), np.random.default_rng(2)
    lines = ["userId,movieId,rating,timestamp"]
    for number in range(4000):
        user, film = random.integers(1, 60), min(int(random.pareto(1.0) * 4) + 1, 300)
        lines.append(f"{user},{film},{random.integers(1, 11) / 2},{1_100_000_000 + 60 * number}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("path", ["README.md", "docs/python.md"])
def test_ten_lines_print_figures_and_recommendations(path, ratings):
    (script,) = [block for block in blocks(path) if "read_csv" in block]
    assert script == blocks("README.md")[0] and len([line for line in script.splitlines() if line]) <= 10
    done = subprocess.run([sys.executable, "-c", script], cwd=ratings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"HR@20 0\.\d{3}, popularity 0\.\d{3}\n", done.stdout)
    assert done.stdout.count("\n") >= 6 and "Neighbor(item_id=" in done.stdout


def test_samplers_of_the_docs_run():
    import math

    random = np.random.default_rng(3)

    def cross_entropy(logits, labels):
        peak = logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(logits - peak).sum(1)) + peak[:, 0]
        return (log_sum - logits[np.arange(len(labels)), labels]).mean()

    names = {
        "np": np,
        "math": math,
        "items": random.integers(50, size=64),
        "query": random.normal(size=(64, 8)).astype(np.float32),
        "vectors": random.normal(size=(50, 8)).astype(np.float32),
        "temperature": 0.5,
        "cross_entropy": cross_entropy,
    }
    for block in blocks("docs/python.md")[1:]:
        exec(block, names)
    assert names["logits"].shape == (64, len(names["batch"])) and np.isfinite(names["loss"])
    # About what the full softmax has: few items, each of them a candidate.
    full = names["query"] @ names["vectors"].T / 0.5
    assert names["loss"] == pytest.approx(cross_entropy(full, names["items"]), rel=0.1)
