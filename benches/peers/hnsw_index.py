"""What a graph index of a library (USearch: HNSW) takes over the items of a checkpoint: to build, to ask, and what it finds.

    python benches/peers/hnsw_index.py CHECKPOINTS

Popularity is one more dimension, as `negstream export` has it. Queries are sums of two items' vectors. Needs numpy, pyarrow and
usearch; prints one JSON line for each search effort.
"""

import glob
import json
import sys
import time

import numpy as np
import pyarrow.parquet as pq
from usearch.index import Index

K = 20
QUERIES = 1_000

path = sorted(glob.glob(sys.argv[1] + "/*/items.parquet"))[-1]
with open(path.replace("items.parquet", "manifest.json")) as file:
    manifest = json.load(file)
table = pq.read_table(path)
vectors = np.array(table["embedding"].combine_chunks().flatten(), dtype=np.float32).reshape(len(table), -1)
popularity = np.array(table["log_frequency"]) * manifest["beta"] * manifest["temperature"]
items = np.concatenate([vectors, popularity[:, None].astype(np.float32)], axis=1)
random = np.random.default_rng(0)
queries = vectors[random.choice(len(items), QUERIES)] + 0.5 * vectors[random.choice(len(items), QUERIES)]
queries /= np.linalg.norm(queries, axis=1, keepdims=True)
queries = np.concatenate([queries, np.ones((QUERIES, 1), np.float32)], axis=1).astype(np.float32)
exact = np.argpartition(-(queries @ items.T), K, axis=1)[:, :K]

for effort in (64, 256):
    index = Index(ndim=items.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=128, expansion_search=effort)
    begin = time.process_time()
    index.add(np.arange(len(items)), items, threads=2)
    build = time.process_time() - begin
    begin = time.process_time()
    found = index.search(queries, K, threads=1)
    search = time.process_time() - begin
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found.keys.tolist(), exact.tolist())])
    print(json.dumps({
        "items": len(items), "effort": effort, "build_cpu_seconds": round(build, 1),
        "search_ms": round(search / QUERIES * 1e3, 3), "recall": round(float(recall), 4),
    }))
