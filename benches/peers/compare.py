#!/usr/bin/env python3
"""negstream's step beside PyTorch's, and both beside the fastest matrix product that any library reaches here.

    python3 -m venv peers && peers/bin/pip install torch
    peers/bin/python benches/peers/compare.py --torch-step PATH/torch_step.py [--rounds 3] [--no-compile] [--json]

Runs, in turn and as often as --rounds says: `cargo bench --bench step`, the `gemm` crate's product, and PyTorch's step
(eager, and compiled). Of the speeds of a step it takes the median over the rounds, of the rates of a product the best. GFLOP/s count every
candidate (6·B·N·d), as PyTorch computes them; negstream merges equal ones, to as many as the table says.
PyTorch is measured by the script given with --torch-step, which prints the same fields as the bench.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def lines(command, **options):
    """The JSON lines that a command prints."""
    print("…", " ".join(map(str, command)), file=sys.stderr, flush=True)
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def processor():
    try:
        text = Path("/proc/cpuinfo").read_text()
        field = lambda name: next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(name))
        return f"{field('model name')}, family {field('cpu family')} model {field('model')}"
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-step", type=Path, default=ROOT.parent / "shared/eval/torch_step.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    if not arguments.torch_step.exists():
        parser.error(f"there is no {arguments.torch_step}; name PyTorch's script with --torch-step")

    threads = ["--threads", str(arguments.threads)]
    ours = ["cargo", "bench", "--quiet", "--locked", "--bench", "step", "--", *threads]
    gemm = ["cargo", "run", "--quiet", "--release", "--manifest-path", str(HERE / "gemm/Cargo.toml"),
            "--target-dir", str(ROOT / "target/peers"), "--", str(arguments.threads), "2"]
    torch = [sys.executable, str(arguments.torch_step), *threads]
    sides = {"negstream": ours, "eager": torch}
    if not arguments.no_compile:
        sides["compiled"] = [*torch, "--compile"]

    columns = {}
    speeds, rates = {}, {"gemm": 0.0, "MKL (PyTorch)": 0.0, "matrixmultiply": 0.0}
    for _ in range(arguments.rounds):
        rates["gemm"] = max(rates["gemm"], float(subprocess.check_output(gemm, text=True)))
        for side, command in sides.items():
            for line in lines(command, cwd=ROOT if side == "negstream" else None):
                workload = (line["batch"], line["bank"], line["dim"])
                speeds.setdefault(workload, {}).setdefault(side, []).append(line["examples_per_second"])
                if side == "negstream":
                    columns[workload] = line["columns_after_merging"]
                library = "matrixmultiply" if side == "negstream" else "MKL (PyTorch)"
                rates[library] = max(rates[library], line["matmul_gflops"])

    library, rate = max(rates.items(), key=lambda pair: pair[1])
    rows = []
    for (batch, bank, dim), by_side in speeds.items():
        median = {side: statistics.median(numbers) for side, numbers in by_side.items()}
        peer = max(number for side, number in median.items() if side != "negstream")
        gflops = 6 * (batch + bank) * dim * median["negstream"] / 1e9
        rows.append(dict(batch=batch, bank=bank, dim=dim, examples_per_second=round(median["negstream"]),
                         gflops=round(gflops, 1), share=round(gflops / rate, 2), columns=columns[batch, bank, dim],
                         torch_eager=round(median["eager"]), torch_compiled=round(median.get("compiled", 0)) or None,
                         ratio=round(median["negstream"] / peer, 1)))
    if arguments.json:
        for row in rows:
            print(json.dumps(row | {"matmul_gflops": rate, "matmul_library": library}))
        return
    print(f"{processor()}, {arguments.threads} threads; medians of {arguments.rounds} rounds")
    print("fastest matrix product: " + ", ".join(f"{name} {number:.0f}" for name, number in rates.items()) + " GFLOP/s\n")
    print("| batch, bank, dim | merged to | examples/s | GFLOP/s | share | PyTorch eager | compiled | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        compiled = f"{row['torch_compiled']:,}" if row["torch_compiled"] else "–"
        print(f"| {row['batch']}, {row['bank']}, {row['dim']} | {row['columns']} | {row['examples_per_second']:,} "
              f"| {row['gflops']:.0f} | {row['share']:.0%} | {row['torch_eager']:,} | {compiled} | {row['ratio']}× |")


if __name__ == "__main__":
    main()
