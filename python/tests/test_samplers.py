"""Draws follow their stated probabilities, are those of the worker, and outlive a pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

import negstream
from conftest import SETTINGS, program
from negstream import samplers
from negstream.samplers import Context, Shown

ITEMS, DIM, BATCH = 60, 8, 50
VECTORS = np.random.default_rng(5).normal(size=(ITEMS, DIM)).astype(np.float32)
QUERIES = VECTORS[:6] + 0.1

#: Every sampler of the family, with a context that it can be asked with.
FAMILY = {
    "uniform": ({}, None),
    "unigram": ({"power": 0.75}, None),
    "log_uniform": ({}, None),
    "interval": ({}, None),
    "cooccurrence": ({"followers": 8}, Context(last_items=np.array([0, 1, 2]))),
    "adaptive": ({"clusters": 6}, Context(queries=QUERIES)),
    "hard": ({"size": 12, "probes": 3}, Context(queries=QUERIES, candidates=np.arange(ITEMS))),
    "exposure": ({"remembered": 4}, Context(users=np.arange(5))),
    "mixture": ({"parts": [{"sampler": "unigram"}, {"sampler": "uniform", "weight": 0.5}]}, None),
}


def batches(n: int = 40, seed: int = 3):
    random = np.random.default_rng(seed)
    return [np.minimum(random.geometric(0.08, BATCH) - 1, ITEMS - 1) for _ in range(n)]


def observed(name: str, n: int = 40, **common) -> samplers.Sampler:
    options, context = FAMILY[name]
    sampler = samplers.make(name, **options, **{"half_life": 500, "seed": 7, **common})
    if name in ("adaptive", "hard"):
        sampler.set_vectors(VECTORS, temperature=0.5)
    random = np.random.default_rng(4)
    for items in batches(n):
        previous = np.concatenate([[-1], items[:-1]])
        users = random.integers(5, size=20)
        shown = Shown(users, random.choice(items, 20), random.random(20) < 0.2) if name == "exposure" else None
        sampler.observe(items, previous=previous, shown=shown)
    return sampler


def test_the_family_is_whole():
    assert set(FAMILY) == set(samplers.available())
    classes = {cls.__name__.lower(): cls for cls in samplers.Sampler.__subclasses__()}
    assert set(classes) == {name.replace("_", "") for name in FAMILY}


def test_classes_have_the_defaults_of_the_program():
    classes = {cls.__name__.lower(): cls for cls in samplers.Sampler.__subclasses__()}
    for name in FAMILY:
        given = {"parts": [("uniform", 1.0), ({"sampler": "unigram", "power": 0.5}, 2.0)]} if name == "mixture" else {}
        sampler = classes[name.replace("_", "")](**given, seed=4)
        assert sampler.name == name and sampler.settings["seed"] == 4
        assert pickle.loads(pickle.dumps(sampler)).settings == sampler.settings


@pytest.mark.parametrize("name", FAMILY)
def test_draws_follow_stated_probabilities(name):
    sampler, context = observed(name), FAMILY[name][1]
    ids, log_q = sampler.draw(60_000, context)
    assert (ids.dtype, log_q.dtype, ids.shape, log_q.shape) == (np.int64, np.float32, (60_000,), (60_000,))
    stated = sampler.log_prob(np.arange(ITEMS), context)
    assert np.array_equal(stated[ids], log_q)
    q = np.exp(stated.astype(np.float64))
    assert q.sum() == pytest.approx(1, abs=1e-5)
    shares = np.bincount(ids, minlength=ITEMS) / len(ids)
    assert np.all(np.abs(shares - q) < 5 * np.sqrt(q / len(ids)) + 1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_state_outlives_a_pickle(name):
    sampler, context = observed(name, live_events=1500), FAMILY[name][1]
    sampler.draw(10, context)
    restored = pickle.loads(pickle.dumps(sampler))
    assert type(restored) is samplers.Sampler and restored.settings == sampler.settings
    if name in ("adaptive", "hard"):
        with pytest.raises(negstream.UsageError, match="set_vectors"):
            restored.draw(1, context)
        restored.set_vectors(VECTORS, temperature=0.5)
    for one in (sampler, restored):
        one.observe(batches(1, seed=9)[0])
    for ours, theirs in zip(sampler.draw(500, context), restored.draw(500, context)):
        assert np.array_equal(ours, theirs)


def test_damaged_state_is_refused():
    state = observed("unigram").to_bytes()
    for damaged in (b"", b"nonsense\n", state[:-1], state + b"x", state.replace(b'"n_seen":', b'"n_sern":')):
        with pytest.raises(negstream.UsageError, match="no state of a sampler"):
            samplers.Sampler.from_bytes(damaged)


@pytest.mark.parametrize("name", ["unigram", "uniform", "log_uniform", "adaptive"])
def test_draws_are_those_of_the_program(name, report, model, tmp_path):
    # Of a sampler at work, and of ones that are made of the state.
    path = tmp_path / "draws.parquet"
    done = program("negatives", model.path, "--sampler", name, "--draws", 20_000, "--seed", 11, "-o", path)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(path)
    sampler, names = model.sampler(name), model.items["item_id"].to_pylist()
    ids, _ = sampler.draw(20_000, seed=11)
    drawn = dict(zip(names, np.bincount(ids, minlength=len(names)).tolist()))
    rows = table["item_id"].to_pylist()
    assert [drawn[item] for item in rows] == table["draws"].to_pylist()
    log_q = sampler.log_prob([names.index(item) for item in rows])
    assert np.array_equal(log_q, table["log_q"].to_numpy().astype(np.float32))


def test_a_stream_that_is_observed_is_that_of_the_worker(report, model, log):
    events = pq.read_table(log).to_pandas()
    rows = {name: row for row, name in enumerate(model.items["item_id"].to_pylist())}
    items = events.item_id.map(rows).to_numpy(np.int64)
    ours = samplers.Unigram(half_life=1000)
    batch = model.manifest["configuration"]["train"]["batch"]
    for start in range(0, len(items), batch):
        ours.observe(items[start : start + batch])
    theirs = model.sampler("unigram")
    everything = np.arange(len(rows))
    assert np.array_equal(ours.log_prob(everything), theirs.log_prob(everything))
    assert np.array_equal(ours.draw(1000, seed=3)[0], theirs.draw(1000, seed=3)[0])


def test_draws_are_a_function_of_the_seed_and_the_step():
    one, two, other = (observed("unigram", seed=seed) for seed in (1, 1, 2))
    first, second = one.draw(100)[0], one.draw(100)[0]
    assert np.array_equal(two.draw(100)[0], first) and not np.array_equal(first, second)
    assert not np.array_equal(other.draw(100)[0], first)
    # The prefix of a longer draw.
    assert np.array_equal(two.draw(50)[0], second[:50])


def test_arrays_are_read_where_they_lie():
    sampler, vectors = samplers.Adaptive(clusters=4, half_life=500), VECTORS.copy()
    sampler.set_vectors(vectors, temperature=0.2)
    for items in batches(20):
        sampler.observe(items)
    before = sampler.log_prob(np.arange(ITEMS), Context(queries=QUERIES))
    vectors[:] = -vectors
    for items in batches(20):
        sampler.observe(items)
    assert not np.allclose(before, sampler.log_prob(np.arange(ITEMS), Context(queries=QUERIES)), atol=0.1)
    for kind in (np.int32, np.int64, np.uint32, np.uint8):
        sampler.observe(np.array([1, 2], kind))


def test_what_cannot_be_drawn_or_read_is_refused():
    sampler = samplers.Unigram()
    with pytest.raises(negstream.UsageError, match="observe events first"):
        sampler.draw(3)
    with pytest.raises(negstream.UsageError, match="context=Context"):
        observed("hard").draw(3)
    with pytest.raises(negstream.UsageError, match="did you mean 'power'"):
        samplers.make("unigram", powr=1.0)
    with pytest.raises(negstream.UsageError, match="did you mean 'unigram'"):
        samplers.make("unigran")
    with pytest.raises(negstream.UsageError, match="whole numbers"):
        sampler.observe([0.5])
    with pytest.raises(ValueError, match="from 0"):
        sampler.observe([-1])
    with pytest.raises(negstream.UsageError, match="not as long"):
        sampler.observe([1, 2], timestamps=[1])
    assert sampler.n_items == 0


def test_items_die_where_they_may():
    sampler = samplers.Uniform(live_events=100)
    sampler.observe([5, 6])
    for items in batches(3):
        sampler.observe(np.minimum(items, 4))
    assert np.isneginf(sampler.log_prob([5, 6, 1000])).all() and sampler.n_live <= 5


def test_the_bank_has_multiplicities():
    bank = samplers.Bank(6)
    bank.push([1, 2, 1])
    bank.push([2, 3, 2, 1])
    items, ages = bank.entries()
    assert items.tolist() == [2, 1, 2, 3, 2, 1] and ages.tolist() == [6, 5, 4, 3, 2, 1]
    merged = bank.candidates()
    assert dict(zip(merged.ids.tolist(), merged.multiplicity.tolist())) == {1: 2, 2: 3, 3: 1}
    assert merged.n_draws == 6 and len(pickle.loads(pickle.dumps(bank))) == 6


def test_candidates_are_corrected_for_wherever_they_came_from():
    noise = [{"sampler": "unigram", "draws": 200}, {"sampler": "uniform", "draws": 100}]
    negatives = samplers.Negatives(noise, bank=128, half_life=500, seed=3)
    parts = [samplers.Unigram(half_life=500), samplers.Uniform(half_life=500)]
    twin, later = b"", []
    for step, items in enumerate(batches(10)):
        batch = negatives.batch(items)
        assert np.array_equal(batch.ids[batch.labels], items)
        assert batch.multiplicity.sum() == batch.n_draws == BATCH + min(128, BATCH * step) + 300
        assert len(np.unique(batch.ids)) == len(batch) and negatives.bank_size == min(128, BATCH * (step + 1))
        for part in parts:
            part.observe(items)
        later.append(batch)
        if step == 5:
            twin = pickle.dumps(negatives)
    from_noise = 200 * np.exp(parts[0].log_prob(batch.ids)) + 100 * np.exp(parts[1].log_prob(batch.ids))
    from_stream = np.exp(batch.log_expected) - from_noise
    assert np.all(from_stream > 0)
    restored = pickle.loads(twin)
    for items, batch in zip(batches(10)[6:], later[6:]):
        again = restored.batch(items)
        assert np.array_equal(again.ids, batch.ids) and np.array_equal(again.log_expected, batch.log_expected)
    # The draws of a step are those of a sampler alone at that step.
    alone = samplers.Unigram(half_life=500, seed=3)
    alone.observe(batches(1)[0])
    first = samplers.Negatives([{"sampler": "unigram", "draws": 200}], bank=0, half_life=500, seed=3)
    merged = first.batch(batches(1)[0], positives=np.array([], np.int64))
    drawn = np.bincount(alone.draw(200)[0], minlength=ITEMS)
    assert dict(zip(merged.ids.tolist(), merged.multiplicity.tolist())) == {i: n for i, n in enumerate(drawn) if n}
