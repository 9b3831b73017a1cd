"""What a warm start is worth: one log, its first half for a nightly model, its second half replayed.

    python benches/warm_start.py target/release/negstream LOG [--set KEY=VALUE …]

Needs NumPy and pyarrow. Beginnings of the second half, of which each event is ranked before it is learnt:

- from nothing;
- `negstream import` of the item vectors that negstream learnt in the first half (items.parquet of its checkpoint);
- `negstream import` of a truncated SVD of the first half's user-item matrix, such as a nightly model might be, with counts and
  without.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 64


def svd(log: pa.Table) -> pa.Table:
    """Item vectors of a truncated SVD, rows and columns of the matrix divided by the roots of their sums."""
    users, user = np.unique(log["user_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    items, item = np.unique(log["item_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    matrix = np.zeros((len(users), len(items)), np.float32)
    matrix[user, item] = 1
    matrix /= np.sqrt(matrix.sum(1, keepdims=True)) * np.sqrt(matrix.sum(0))
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    vectors = (right[:DIM].T * values[:DIM]).astype(np.float32)
    columns = {
        "item_id": items.astype(str),
        "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIM),
        "count": np.bincount(item),
    }
    return pa.table(columns)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = [argument for setting in options.set for argument in ("--set", setting)]
    log = pq.read_table(options.log)
    half = len(log) // 2
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        first, second, early = place / "first.parquet", place / "second.parquet", place / "early.parquet"
        pq.write_table(log.slice(0, half), first)
        pq.write_table(log.slice(half), second)
        pq.write_table(log.slice(half, half // 10), early)
        factors = svd(log.slice(0, half))
        pq.write_table(factors, place / "svd.parquet")
        pq.write_table(factors.drop_columns(["count"]), place / "uncounted.parquet")

        def negstream(checkpoints: str, *arguments: object) -> str:
            command = [options.program.resolve(), *arguments, *settings, "--set", f"checkpoint.dir={place / checkpoints}"]
            done = subprocess.run([*map(str, command), "--set", "http.listen="], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        def evaluated(checkpoints: str, events: Path) -> str:
            report = json.loads(negstream(checkpoints, "replay", events, "--json", "--set", "evaluate.from=0"))
            return f"{report['evaluation']['hr@20']:.4f} / {report['evaluation']['ndcg@20']:.4f}"

        negstream("nightly", "replay", first)
        (items,) = (place / "nightly" / "latest").resolve().glob("items.parquet")
        print("| beginning of the second half | all of it | its first tenth |\n| --- | --- | --- |")
        for name, vectors in [
            ("nothing", None),
            ("vectors of negstream", items),
            ("vectors of an SVD", place / "svd.parquet"),
            ("vectors of an SVD, without counts", place / "uncounted.parquet"),
        ]:
            figures = []
            for part in (second, early):
                checkpoints = f"{len(figures)} {name}"
                if vectors:
                    negstream(checkpoints, "import", vectors)
                figures.append(evaluated(checkpoints, part))
            print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
