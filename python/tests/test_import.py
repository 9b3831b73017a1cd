"""A model that begins with vectors of another one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import negstream

from conftest import SETTINGS


@pytest.fixture
def items(model: negstream.Checkpoint) -> tuple[np.ndarray, list[str]]:
    return np.array(model.item_vectors), model.items["item_id"].to_pylist()


def directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_an_array_a_frame_and_a_path_are_the_same_vectors(items, model, tmp_path):
    vectors, ids = items
    by_array = negstream.import_vectors(vectors, ids, checkpoint=tmp_path / "array", **SETTINGS)
    frame = pd.DataFrame({"sku": ids, "factors": list(vectors)})
    by_frame = negstream.import_vectors(frame, checkpoint=tmp_path / "frame", id="sku", vector="factors", **SETTINGS)
    path = tmp_path / "vectors.parquet"
    frame.to_parquet(path)
    by_path = negstream.import_vectors(path, checkpoint=tmp_path / "path", id="sku", vector="factors", **SETTINGS)
    for made in (by_array, by_frame, by_path):
        assert made.items["item_id"].to_pylist() == ids
        assert np.allclose(directions(made.item_vectors), directions(vectors), atol=1e-5)
    # Neighbours are those of the model that the vectors are of.
    found, expected = ([near.item_id for near in one.neighbors(ids[0], k=5)] for one in (by_array, model))
    assert found == expected


def test_a_replay_goes_on_from_imported_vectors(items, log, tmp_path):
    vectors, ids = items
    place = tmp_path / "warm"
    negstream.import_vectors(vectors, ids, checkpoint=place, events=100, **SETTINGS)
    warm = negstream.replay(log, checkpoint=place, evaluate__from=0, progress=False, **SETTINGS)
    cold = negstream.replay(log, evaluate__from=0, progress=False, **SETTINGS)
    assert warm.hr_at_20 > cold.hr_at_20


def test_what_does_not_fit_is_refused_in_the_programs_own_words(items, tmp_path):
    vectors, ids = items
    place = tmp_path / "none"
    with pytest.raises(negstream.UsageError, match="model.dim is 64: --set model.dim=16"):
        negstream.import_vectors(vectors, ids, checkpoint=place)
    with pytest.raises(negstream.UsageError, match="has not a row for each of 1 ids"):
        negstream.import_vectors(vectors, ids[:1], checkpoint=place, **SETTINGS)
    with pytest.raises(negstream.UsageError, match="twice"):
        negstream.import_vectors(vectors[:2], ["a", "a"], checkpoint=place, **SETTINGS)
    with pytest.raises(negstream.UsageError, match="give it as checkpoint"):
        negstream.import_vectors(vectors, ids, checkpoint=place, checkpoint__dir="there")
    assert not place.exists()
    negstream.import_vectors(vectors, ids, checkpoint=place, **SETTINGS)
    with pytest.raises(negstream.UsageError, match="holds checkpoints"):
        negstream.import_vectors(vectors, ids, checkpoint=place, **SETTINGS)
    negstream.import_vectors(vectors, ids, checkpoint=place, fresh=True, **SETTINGS)
