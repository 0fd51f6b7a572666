#!/usr/bin/env python3
"""The plan's prediction, frozen before the first step, beside what the demo measures: one run of `atoll demo` for each topology.

    prediction.py ATOLL [TOPOLOGY.yaml …] [--steps N] [--seed N] [--keep FOLDER] [--json]

Prints predicted and measured (median) seconds a step, and the median of the absolute errors. Every run has all of its topology's
peers as processes with emulated links and speeds and trains the demo's job; nobody is killed. Machines slower than a topology's
peers together stretch emulated time, and the prediction with it. Exit status 1 when a run failed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USUAL = ["demo", "lan", "three-homes", "campus", "two-data-centres", "spot"]


def measure(arguments, topology, folder):
    command = [os.path.abspath(arguments.atoll), "demo", "--topology", os.path.abspath(topology), "--no-kill", "--json", "--seed", str(arguments.seed)]
    command += ["--out", os.path.abspath(folder)] + (["--steps", str(arguments.steps)] if arguments.steps else [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        sys.exit(f"{topology}: the demo ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atoll")
    parser.add_argument("topologies", nargs="*")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="a folder for what the runs leave")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    files = arguments.topologies or [os.path.join(ROOT, "Topologies", name + ".yaml") for name in USUAL]
    rows = []
    for file in files:
        name = os.path.splitext(os.path.basename(file))[0]
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(arguments.keep, name) if arguments.keep else os.path.join(scratch, "demo")
            report = measure(arguments, file, folder)
        step = report["step_seconds"]
        rows.append({
            "topology": name, "predicted": step["predicted"], "measured": step["measured_median"],
            "stretch": report["stretch"], "error": step["predicted"] / step["measured_median"] - 1,
        })
        if not arguments.json:
            row = rows[-1]
            print(f"{name:18} predicted {row['predicted']:.3f} s  measured {row['measured']:.3f} s  "
                  f"{100 * row['error']:+.1f} %  stretch {row['stretch']:.2f}", flush=True)
    middle = statistics.median(abs(row["error"]) for row in rows)
    if arguments.json:
        print(json.dumps({"runs": rows, "median_error": middle}, indent=2))
    else:
        print(f"median error {100 * middle:.1f} % over {len(rows)} topologies (goal 10 %)")


main()
