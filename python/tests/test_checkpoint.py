"""What is asked of an opened checkpoint is what the program answers, and arrays are the memory of tables."""

from __future__ import annotations

import json
import threading

import numpy as np
import pyarrow as pa
import pytest

import negstream
from conftest import program


def test_vectors_are_the_memory_of_the_tables(model):
    assert model.item_vectors.shape == (model.items.num_rows, 16)
    assert model.item_vectors.dtype == np.float32
    # The same buffer, not a copy of it.
    buffer = model.items["embedding"].chunk(0).flatten().buffers()[1]
    assert model.item_vectors.__array_interface__["data"][0] == buffer.address
    assert model.user_vectors.shape == (model.users.num_rows, 16)
    assert model.items.column_names == ["item_id", "embedding", "log_frequency", "count", "last_event"]


def test_lists_are_those_of_the_program(model):
    user = model.users["user_id"][3].as_py()
    printed = json.loads(program("recommend", model.path, "--user", user, "-k", 7, "--json").stdout)
    rows = printed["lists"][0]["recommendations"]
    listed = model.recommend(user, k=7)
    assert listed.ids == [row["item_id"] for row in rows]
    assert [one.score for one in listed] == pytest.approx([row["score"] for row in rows])
    parts = [one.similarity + one.popularity + one.repetition + one.cooccurrence for one in listed]
    assert [one.score for one in listed] == pytest.approx(parts, rel=1e-4)
    assert listed.table().column_names == list(negstream.Recommendation._fields)
    assert len(listed[:3]) == 3 and "<table>" in listed._repr_html_()

    first, second = listed.ids[:2]
    assert first not in model.recommend(user, exclude=[first]).ids
    assert set(model.recommend(user, candidates=[first, second, "unknown"]).ids) == {first, second}
    assert model.recommend_many([user, user], k=7)[1].ids == listed.ids
    assert len(model.recommend(items=[first, second], k=5)) == 5


def test_similarity_is_the_product_of_query_and_vector(model):
    user = model.users["user_id"][3].as_py()
    best = model.recommend(user, k=1)[0]
    row = model.items["item_id"].to_pylist().index(best.item_id)
    assert model.query(user) @ model.item_vectors[row] == pytest.approx(best.similarity, rel=1e-4)
    assert np.array_equal(model.query(user), model.user_vectors[3])


def test_neighbors_are_those_of_the_program(model):
    item = model.items["item_id"][0].as_py()
    printed = json.loads(program("neighbors", model.path, item, "-k", 5, "--json").stdout)
    rows = printed if isinstance(printed, list) else printed["neighbors"]
    near = model.neighbors(item, 5)
    assert [one.item_id for one in near] == [row["item_id"] for row in rows]
    assert [one.cosine for one in near] == pytest.approx([row["cosine"] for row in rows], abs=1e-5)


def test_unknown_names_are_refused_with_the_nearest(model):
    item = model.items["item_id"][0].as_py()
    with pytest.raises(negstream.UsageError, match="no item .*the nearest name is"):
        model.neighbors(item + "x")
    with pytest.raises(negstream.UsageError, match="no user 'nobody'"):
        model.recommend("nobody")
    with pytest.raises(negstream.UsageError, match="either user or items"):
        model.recommend()


def test_exports_are_written(model, tmp_path):
    written = model.export("npy", tmp_path / "out")
    assert written["dim"] == 17
    vectors = np.load(tmp_path / "out" / "items.npy")
    assert vectors.shape == (model.items.num_rows, 17)
    assert np.allclose(vectors[:, :16], model.item_vectors)


def test_threads_may_ask_at_once(model):
    user = model.users["user_id"][0].as_py()
    expected, found = model.recommend(user).ids, []
    threads = [threading.Thread(target=lambda: found.append(model.recommend(user).ids)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [expected] * 8


def test_tables_are_arrow(model):
    assert isinstance(model.items, pa.Table) and isinstance(model.users, pa.Table)
    assert pa.types.is_fixed_size_list(model.users.schema.field("embedding").type)
