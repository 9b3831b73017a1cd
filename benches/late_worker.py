"""How soon a worker that joins late has the model of those that share one.

    python benches/late_worker.py target/release/negstream [--items 1000000] [--events 1300000] [--workers 2]

Workers learn a made-up stream that names so many items and goes on all the time; each saves a checkpoint. Then one more worker
starts, with an empty folder and `share.peers`: how long it takes until it is ready (its checkpoint is read, what was said
since is part of its model), and until it reads partitions of its own. At the end all receive what is left, and the vectors of all
items are compared. One line of JSON. Needs what benches/shared_workers.py needs.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from confluent_kafka.admin import AdminClient, NewTopic
from shared_workers import address, agreement, broker, produce, wait, wait_until_read, worker_command

# A stream that goes on while the new worker starts, in events a second.
TRICKLE = 1_000


def stream(n_items, n_users, seed):
    """Records without an end: first every item once, then items by a long-tailed draw."""
    random, at = np.random.default_rng(seed), 1_700_000_000_000
    rest = (int(n_items * random.random() ** 3) for _ in itertools.count())
    for number, item in enumerate(itertools.chain(random.permutation(n_items).tolist(), rest)):
        user = str(int(random.integers(n_users)))
        record = {"user_id": user, "item_id": f"item-{item}", "event_type": "click", "timestamp": at + number}
        yield user, json.dumps(record)


def is_ready(log):
    try:
        with urllib.request.urlopen(f"http://{address(log)}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (OSError, IndexError, urllib.error.URLError):
        return False


def run(options, brokers, scratch):
    name = f"late-{os.getpid()}"
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(name, options.partitions, 1)]).values():
        made.result()
    group = f"group-{name}"
    settings = [f"kafka.brokers={brokers}", f"kafka.topic={name}", f"kafka.group={group}", f"share.topic=deltas-{name}"]
    # Neither ranking among so many items nor making room for them is what is measured here.
    settings += ["evaluate.share=0.001", "memory.items.cap=0", *options.set]
    folders = [scratch / f"worker-{number}" for number in range(options.workers + 1)]

    def start(folder, more=()):
        log = Path(f"{folder}.log")
        command = worker_command(options, folder, [*settings, *more])
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(log, "w")), log

    workers = [start(folder) for folder in folders[:-1]]
    share = options.partitions // len(workers)
    wait(lambda: all(log.read_text().count("reading partition=") >= share for _, log in workers))
    records = stream(options.items, 50_000, 7)
    produce(brokers, name, itertools.islice(records, options.events), 1e9)
    wait_until_read(brokers, group, name, options.partitions, options.events)
    for process, _ in workers:
        process.send_signal(signal.SIGUSR1)
    wait(lambda: all(any(path.name.isdigit() for path in folder.glob("*")) for folder in folders[:-1]))
    # The stream goes on.
    produced, stop = [options.events], threading.Event()

    def go_on():
        while not stop.is_set():
            produce(brokers, name, itertools.islice(records, TRICKLE // 4), TRICKLE)
            produced[0] += TRICKLE // 4

    thread = threading.Thread(target=go_on)
    thread.start()
    time.sleep(5)
    began = time.monotonic()
    peers = json.dumps([str(folder) for folder in folders[:-1]])
    late, log = start(folders[-1], [f"share.peers={peers}"])
    result = {"items": options.items, "events": options.events, "workers": options.workers}
    wait(lambda: "beginning with the checkpoint of a peer" in log.read_text())
    result["seconds_to_begin"] = round(time.monotonic() - began, 2)
    wait(lambda: is_ready(log))
    result["seconds_to_ready"] = round(time.monotonic() - began, 2)
    wait(lambda: "reading partition=" in log.read_text())
    result["seconds_to_read"] = round(time.monotonic() - began, 2)
    stop.set()
    thread.join()
    wait_until_read(brokers, group, name, options.partitions, produced[0])
    for process, _ in [*workers, (late, log)]:
        process.send_signal(signal.SIGTERM)
    for process, _ in [*workers, (late, log)]:
        assert process.wait() == 0, process.returncode
    result["produced"] = produced[0]
    result.update(agreement(options, folders, settings))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=1_300_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--brokers")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, broker(options.brokers, Path(scratch)) as brokers:
        print(json.dumps(run(options, brokers, Path(scratch))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
