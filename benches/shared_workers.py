"""What one model of several workers costs, and what it is worth, on a real Kafka: processor time, bytes, agreement, hit rates.

    python benches/shared_workers.py target/release/negstream LOG [--workers 1,4] [--rate 10000] [--events 100000] [--backlog 0]

A log is produced at a rate, keyed by user, to one topic for each number of workers; that many workers read it, each a process with one
thread. Processor time is counted from the first event after the backlog on. Then all receive what is left, and their checkpoints are compared. One line of JSON for each number of workers. Needs
confluent_kafka, numpy and pyarrow; `--brokers` names a broker, without it one is started (tests/kafka/broker.sh: Java, Maven).
"""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parent.parent


def events(log, n):
    """The rows of a log, as records of a topic: (user, JSON)."""
    table = pq.read_table(log).slice(0, n)
    columns = {name: table[name] for name in table.column_names}
    times = columns["timestamp"].cast("timestamp[ms]").cast("int64").to_pylist()
    users, items = columns["user_id"].to_pylist(), columns["item_id"].to_pylist()
    kinds = columns["event_type"].to_pylist() if "event_type" in columns else ["click"] * len(users)
    for user, item, kind, at in zip(users, items, kinds, times):
        record = {"user_id": str(user), "item_id": str(item), "event_type": kind or "click", "timestamp": at}
        yield str(user), json.dumps(record)


def produce(brokers, topic, records, rate):
    """Produces at a rate, in steps of ten milliseconds; seconds that it took."""
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 5})
    begin, sent = time.monotonic(), 0
    for user, record in records:
        while sent >= rate * (time.monotonic() - begin):
            producer.poll(0.005)
        while True:
            try:
                producer.produce(topic, record, key=user)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
    producer.flush()
    return time.monotonic() - begin


@contextlib.contextmanager
def broker(named, scratch):
    """The brokers that were named, or one that runs as long as it is asked."""
    if named:
        yield named
        return
    started = subprocess.run(
        [ROOT / "tests/kafka/broker.sh", "start", scratch / "kafka"],
        check=True, capture_output=True, text=True, env={**os.environ, "OWNER": str(os.getpid())},
    )
    try:
        yield re.search(r"BOOTSTRAP=(\S+)", started.stdout)[1]
    finally:
        subprocess.run([ROOT / "tests/kafka/broker.sh", "stop", scratch / "kafka"], check=False)


def cpu_seconds(process):
    """Processor time that a process and its threads have taken until now."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(what, seconds=900, every=0.05):
    """Waits until `what` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(every)


def wait_until_read(brokers, group, topic, partitions, n_records):
    """Waits until the group has committed all records: they are part of its models."""
    wait(lambda: committed(brokers, group, topic, partitions) >= n_records, every=0.3)


def committed(brokers, group, topic, partitions):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(topic, n) for n in range(partitions)], timeout=10)
        return sum(max(one.offset, 0) for one in found)
    finally:
        consumer.close()


def newest(folder):
    return max(path for path in folder.iterdir() if path.name.isdigit())


def worker_command(options, folder, settings):
    command = [options.program, "run", "--json"]
    for setting in [*settings, f"checkpoint.dir={folder}", "http.listen=127.0.0.1:0", "threads=1", *options.set]:
        command += ["--set", setting]
    return command


def address(log):
    """Where a worker is reached, by its log."""
    return re.findall(r"address=(\S+)", log.read_text())[-1]


def status(log):
    """What a worker says of itself."""
    with urllib.request.urlopen(f"http://{address(log)}/status", timeout=10) as answer:
        return json.load(answer)


def models(folders):
    """By worker: item to vector and count."""
    for folder in folders:
        table = pq.read_table(newest(folder) / "items.parquet", columns=["item_id", "embedding", "count"])
        vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
        yield dict(zip(table["item_id"].to_pylist(), zip(vectors, table["count"].to_pylist())))


def agreement(options, folders, settings):
    """Lets every worker read to the end, so that all have what was sent last, and compares their models."""
    for folder in folders:
        command = worker_command(options, folder, settings) + ["--until-end"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=open(f"{folder}.log", "a"))
    first, *others = models(folders)
    counts = {item: count for item, (_, count) in first.items()}
    apart = [
        np.linalg.norm(vector - other[item][0]) / np.linalg.norm(vector)
        for other in others
        for item, (vector, _) in first.items()
    ]
    return {
        "counted": sum(counts.values()),
        "same_counts": all(counts == {item: count for item, (_, count) in other.items()} for other in others),
        "worst_distance": float(np.max(apart)),
    }


def run(options, brokers, n_workers, scratch):
    name = f"events-{os.getpid()}-{n_workers}"
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(name, options.partitions, 1)]).values():
        made.result()
    group = f"group-{name}"
    settings = [f"kafka.brokers={brokers}", f"kafka.topic={name}", f"kafka.group={group}"]
    if n_workers > 1:
        settings += [f"share.topic=deltas-{name}", f"share.flush_ms={options.flush_ms}"]
    folders = [scratch / f"{n_workers}-{number}" for number in range(n_workers)]
    workers = []
    for number, folder in enumerate(folders):
        log = Path(f"{folder}.log")
        out = open(f"{folder}.json", "w")
        command = worker_command(options, folder, settings)
        process = subprocess.Popen(command, stdout=out, stderr=open(log, "w"))
        workers.append((process, log, out))
    # Until every worker has its share, or the first would learn alone what all of them are to learn together.
    share = options.partitions // n_workers
    wait(lambda: all(log.read_text().count("reading partition=") >= share for _, log, _ in workers))
    time.sleep(3)
    records = list(events(options.log, options.backlog + options.events))
    if options.backlog:
        produce(brokers, name, records[: options.backlog], math.inf)
        wait_until_read(brokers, group, name, options.partitions, options.backlog)
    before = sum(cpu_seconds(process) for process, _, _ in workers)
    live = records[options.backlog :]
    took = produce(brokers, name, live, options.rate)
    wait_until_read(brokers, group, name, options.partitions, len(records))
    spent = sum(cpu_seconds(process) for process, _, _ in workers) - before
    said = [status(log) for _, log, _ in workers]
    for process, _, _ in workers:
        process.send_signal(signal.SIGTERM)
    for process, _, _ in workers:
        assert process.wait() == 0, process.returncode
    reports = [json.loads(Path(f"{folder}.json").read_text().splitlines()[-1]) for folder in folders]
    result = {
        "log": str(Path(options.log).parent.name),
        "workers": n_workers,
        "backlog": options.backlog,
        "events": len(live),
        "events_per_second": round(len(live) / took),
        "cpu_us_per_event": round(1e6 * spent / len(live), 1),
    }
    ranked = [(report["evaluation"], report["evaluation"]["events"]) for report in reports]
    total = sum(n for _, n in ranked)
    result["hr@20"] = round(sum(found["hr@20"] * n for found, n in ranked) / total, 4)
    result["ranked"] = total
    if n_workers > 1:
        sharing = [one["sharing"] for one in said]
        result["sent_bytes_per_event"] = round(sum(one["sent_bytes"] for one in sharing) / len(records))
        result["received_bytes_per_event_and_worker"] = round(
            sum(one["received_bytes"] for one in sharing) / len(records) / n_workers
        )
        result["deltas"] = sum(one["sent"] for one in sharing)
        result["age_ms"] = [round(1e3 * one["age_seconds"]) for one in sharing]
        result["confirmation_ms"] = [round(1e3 * one["confirmation_seconds"]) for one in sharing]
        result.update(agreement(options, folders, settings))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("log")
    parser.add_argument("--workers", default="1,4")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument(
        "--backlog", type=int, default=0, help="events before those, read as fast as workers can, and not measured"
    )
    parser.add_argument("--flush-ms", type=int, default=1_000)
    parser.add_argument("--brokers")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, broker(options.brokers, Path(scratch)) as brokers:
        for n_workers in map(int, options.workers.split(",")):
            print(json.dumps(run(options, brokers, n_workers, Path(scratch))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
