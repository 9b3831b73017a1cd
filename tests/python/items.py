"""Opens items.parquet as any user of pyarrow would, and holds it to what is promised of it.

    items.py ITEMS.parquet DIM LIKENESS [NEIGHBORS.json ...]

Each NEIGHBORS.json is the output of `negstream neighbors --json`, which a brute-force search has to agree with.
"""
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

path, dim, similarity, outputs = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
table = pq.read_table(path)

promised = pa.schema([
    pa.field("item_id", pa.utf8(), nullable=False),
    pa.field("embedding", pa.list_(pa.field("element", pa.float32(), nullable=False), dim), nullable=False),
    pa.field("log_frequency", pa.float32(), nullable=False),
    pa.field("count", pa.int64(), nullable=False),
    pa.field("last_event", pa.timestamp("ms", tz="UTC"), nullable=False),
])
assert table.schema.equals(promised), f"{table.schema}\n\nis not\n\n{promised}"

# The vectors, without a loop: what an index takes.
vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(-1, dim)
assert vectors.dtype == np.float32 and len(vectors) == table.num_rows > 0, vectors.shape
assert np.isfinite(vectors).all() and table.num_rows == len(set(table.column("item_id").to_pylist()))
norms = np.linalg.norm(vectors, axis=1)
if similarity == "cosine":
    # What has hardly been learnt is shrunk (`model.shrinkage`).
    assert norms.max() < 1 + 1e-5 and np.median(norms) > 0.5, norms
else:
    assert np.abs(norms - 1).max() > 1e-2, "norms carry meaning where similarity is dot"

assert table.column("count").to_numpy().min() >= 1
# Half an event is added to each item, so that none is impossible: the sum is a little more than 1.
frequency = np.exp(table.column("log_frequency").to_numpy())
assert 1 <= frequency.sum() < 1.1, frequency.sum()

# The same neighbours as the program's; in an order that rounding may change where two are equally near.
ids = table.column("item_id").to_pylist()
unit = vectors / norms[:, None]
for output in outputs:
    answer = json.load(open(output))
    me = ids.index(answer["item_id"])
    cosine = unit @ unit[me]
    cosine[me] = -2
    k = len(answer["neighbors"])
    best = np.argsort(-cosine, kind="stable")[:k]
    for place, neighbor in zip(best, answer["neighbors"]):
        it = ids.index(neighbor["item_id"])
        assert abs(cosine[it] - neighbor["cosine"]) < 1e-5, (neighbor, cosine[it])
        assert it == place or abs(cosine[it] - cosine[place]) < 1e-5, (neighbor, ids[place])
        assert neighbor["count"] == table.column("count")[it].as_py()
    assert len({neighbor["item_id"] for neighbor in answer["neighbors"]} - {answer["item_id"]}) == k == 10
print(f"{table.num_rows} items")
