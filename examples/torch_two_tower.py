"""A two-tower model of your own in PyTorch, with streaming negatives: what they gain over the usual ones.

    pip install negstream torch
    python examples/torch_two_tower.py                          # a small log made here
    python examples/torch_two_tower.py events.parquet           # a log of yours: user_id, item_id, timestamp
    python examples/torch_two_tower.py ratings.csv              # MovieLens, as it is published

The user tower is the mean of the vectors of the user's newest items; the item tower is a vector for each item, and popularity enters the
score with a weight that is learned: q·v + β·log q̂. The log is gone through in the order of time: the first nine tenths are trained on, in batches and as often as --epochs says, and the items of the last tenth
are ranked among all others that the user did not have yet. Only the negatives differ:

    uniform         --draws items at random, alike, for each batch
    in-batch        the other positives of the batch, as they are: popular items come as negatives too often
    corrected       the same, with negstream's log E subtracted
    negstream       the batch, a bank of 1,024 earlier positives and --draws of a unigram sampler, with one correction for all
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from negstream import samplers

#: Newest items of a user that make their vector.
PAST = 20
TOP = 20
#: Half-life of items' frequencies, in events.
HALF_LIFE = 50_000


def read(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of the events, as whole numbers from 0 on, in the order of time."""
    if path is None:
        return synthetic()
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    names = {"userId": "user_id", "movieId": "item_id"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names]).sort_by("timestamp")

    def codes(column: str) -> np.ndarray:
        encoded = pa.compute.dictionary_encode(table[column].combine_chunks())
        return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)

    return codes("user_id"), codes("item_id")


def synthetic(events: int = 30_000, users: int = 600, items: int = 1_500, topics: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Users like one topic each; within a topic, items are as popular as Zipf says."""
    random = np.random.default_rng(1)
    taste = random.integers(topics, size=users)
    who = random.integers(users, size=events)
    topic = np.where(random.random(events) < 0.8, taste[who], random.integers(topics, size=events))
    rank = np.minimum((random.pareto(0.9, events) * 3).astype(np.int64), items // topics - 1)
    return who, rank * topics + topic


def pasts(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The newest items of the user before each event (padded with -1), and whether the user had the item before."""
    past = np.full((len(users), PAST), -1)
    repeats = np.zeros(len(users), bool)
    newest: dict[int, list[int]] = {}
    for event, (user, item) in enumerate(zip(users.tolist(), items.tolist())):
        own = newest.setdefault(user, [])
        recent = own[-PAST:]
        past[event, : len(recent)] = recent[::-1]
        repeats[event] = item in own
        own.append(item)
    return past, repeats


class TwoTower(torch.nn.Module):
    """The score is the inner product, and popularity by its weight. Vectors begin short: of what is hardly seen, popularity decides."""

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.items = torch.nn.Embedding(items, dim)
        self.history = torch.nn.Embedding(items + 1, dim, padding_idx=items)
        for table in (self.items, self.history):
            torch.nn.init.normal_(table.weight, std=0.05)
        self.beta = torch.nn.Parameter(torch.tensor(0.5))
        #: log q̂ of each item, as of the newest batch.
        self.popularity = torch.zeros(items)

    def query(self, past: torch.Tensor) -> torch.Tensor:
        known = (past >= 0).sum(1, keepdim=True).clamp(min=1)
        vectors = self.history(past.where(past >= 0, torch.tensor(self.history.padding_idx)))
        return (vectors * (past >= 0)[:, :, None]).sum(1) / known

    def logits(self, past: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return self.query(past) @ self.items(candidates).T + self.beta * self.popularity[candidates]


class Uniform:
    """The usual first try."""

    def __init__(self, items: int, draws: int) -> None:
        self.random, self.items, self.draws = np.random.default_rng(1), items, draws

    def loss(self, model: TwoTower, past: torch.Tensor, items: np.ndarray, _repeats: np.ndarray) -> torch.Tensor:
        drawn = self.random.integers(self.items, size=self.draws)
        logits = model.logits(past, torch.from_numpy(np.concatenate([items, drawn])))
        n = len(items)
        own, noise = logits[:, :n].diagonal(), logits[:, n:]
        hit = torch.from_numpy(drawn[None, :] == items[:, None])
        return functional.cross_entropy(
            torch.cat([own[:, None], noise.masked_fill(hit, -torch.inf)], 1), torch.zeros(n, dtype=torch.long)
        )


class InBatch:
    """The usual second try: no correction."""

    def __init__(self, _items: int, _draws: int) -> None: ...

    def loss(self, model: TwoTower, past: torch.Tensor, items: np.ndarray, _repeats: np.ndarray) -> torch.Tensor:
        distinct, labels = np.unique(items, return_inverse=True)
        logits = model.logits(past, torch.from_numpy(distinct))
        counts = np.bincount(labels).astype(np.float32)
        return functional.cross_entropy(logits + torch.from_numpy(np.log(counts)), torch.from_numpy(labels))


class Streaming:
    """negstream's: each item that is a candidate once, with one correction for wherever it came from."""

    def __init__(self, noise: list, bank: int) -> None:
        self.negatives = samplers.Negatives(noise, bank=bank, half_life=HALF_LIFE, seed=1)

    def loss(self, model: TwoTower, past: torch.Tensor, items: np.ndarray, repeats: np.ndarray) -> torch.Tensor:
        batch = self.negatives.batch(items, repeats=repeats)
        shift = np.log(batch.multiplicity).astype(np.float32) - batch.log_expected
        logits = model.logits(past, torch.from_numpy(batch.ids)) + torch.from_numpy(shift)
        return functional.cross_entropy(logits, torch.from_numpy(batch.labels))


KINDS = {
    "uniform": Uniform,
    "in-batch": InBatch,
    "corrected": lambda _items, _draws: Streaming([], bank=0),
    "negstream": lambda _items, draws: Streaming([{"sampler": "unigram", "draws": draws}], bank=1024),
}


def train(kind: str, data: tuple, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """HR@20 and NDCG@20 over the last tenth of the log, and the seconds that training took."""
    users, items, past, repeats = data
    torch.manual_seed(1)
    n_items, cut = int(items.max()) + 1, len(items) * 9 // 10
    model, negatives = TwoTower(n_items, arguments.dim), KINDS[kind](n_items, arguments.draws)
    # What is counted is counted alike for all.
    counts, everything = samplers.Uniform(half_life=HALF_LIFE), np.arange(n_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.rate)
    began = time.perf_counter()
    for _ in range(arguments.epochs):
        for start in range(0, cut, arguments.batch):
            chosen = slice(start, min(start + arguments.batch, cut))
            counts.observe(items[chosen])
            model.popularity = torch.from_numpy(np.log(counts.shares(everything) + 1e-6))
            loss = negatives.loss(model, torch.from_numpy(past[chosen]), items[chosen], repeats[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - began

    seen: dict[int, set[int]] = {}
    for user, item in zip(users[:cut].tolist(), items[:cut].tolist()):
        seen.setdefault(user, set()).add(item)
    gains = []
    with torch.no_grad():
        for start in range(cut, len(items), 1024):
            chosen = slice(start, start + 1024)
            scores = model.logits(torch.from_numpy(past[chosen]), torch.arange(n_items))
            for row, (user, item) in enumerate(zip(users[chosen].tolist(), items[chosen].tolist())):
                own = seen.setdefault(user, set())
                if item not in own and own:
                    scores[row, list(own)] = -torch.inf
                    gains.append((scores[row] > scores[row, item]).sum().item())
                own.add(item)
    ranks = np.array(gains)
    hits = ranks < TOP
    return hits.mean(), np.where(hits, 1 / np.log2(ranks + 2), 0).mean(), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, nargs="?", help="Parquet, or MovieLens' ratings.csv")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--draws", type=int, default=128, help="negatives that are drawn for each batch")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.003, help="learning rate")
    arguments = parser.parse_args()
    users, items = read(arguments.log)
    past, repeats = pasts(users, items)
    print(f"{len(items):,} events, {users.max() + 1:,} users, {items.max() + 1:,} items")
    print(f"{'negatives':<12} {'HR@20':>7} {'NDCG@20':>8} {'seconds':>8}")
    for kind in KINDS:
        hit_rate, ndcg, seconds = train(kind, (users, items, past, repeats), arguments)
        print(f"{kind:<12} {hit_rate:>7.3f} {ndcg:>8.3f} {seconds:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
