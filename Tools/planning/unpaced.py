#!/usr/bin/env python3
"""The plan's prediction, frozen before the first step, beside what is measured, of peers that share this machine and are slowed down by nothing: a node, so many
peers, and a launcher, on loopback and in a temporary folder.

    unpaced.py ATOLL [--peers 2,3,4,6] [--tokens N] [--keep FOLDER]

Prints predicted and measured (median) seconds a step for each pool and each way to cut the model, and the median of the absolute errors. Run it alone on a
machine: what others do meanwhile is in what is measured.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

JOB = """name: unpaced
model: {architecture: llama, hidden_size: 96, layers: 3, heads: 4, kv_heads: 2, intermediate_size: 256, context: 128, tokenizer: byte}
data: {path: corpus.txt, validation_fraction: 0.02}
train: {tokens: %d, batch_tokens: 4096, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
parallel: {virtual_pipelines: 4, micro_batch: 4, pipelines: %s, stages: %s, inner_steps: %s}
"""


def cuts(peers):
    """Pipelines, stages, and steps a round: what is chosen for the pool; and each whole cut of it."""
    yield "auto", "auto", "auto"
    for pipelines in (1, 2, 4):
        if peers % pipelines == 0 and peers // pipelines <= 3:
            yield pipelines, peers // pipelines, 4


def end(children):
    for child in children:
        child.send_signal(signal.SIGTERM)
    for child in children:
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()


def measure(program, peers, cut, tokens, folder):
    folder = os.path.abspath(folder)
    os.makedirs(folder)
    environment = dict(os.environ, ATOLL_HOME=folder, ATOLL_LIMIT_PRIORITY="normal", ATOLL_LIMIT_UNSEEN="work", ATOLL_LIMIT_ON_BATTERY="work")
    children = []

    def start(name, *arguments):
        with open(os.path.join(folder, name + ".log"), "wb") as log:
            children.append(subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder))
        return children[-1]

    with open(os.path.join(folder, "job.yaml"), "w") as file:
        file.write(JOB % (tokens, *cut))
    with open(os.path.join(folder, "corpus.txt"), "w") as file:
        file.write("".join(f"Of {n} things the {n % 97}th is worth {n * n % 89} of the others, and none is like it. " for n in range(4000)))
    try:
        start("node", "node", "--listen", "127.0.0.1:0", "--data", "n")
        invite = os.path.join(folder, "n", "invite.yaml")
        limit = time.time() + 20
        while not os.path.exists(invite):
            if time.time() > limit:
                sys.exit(f"the node wrote no invite; its log is in {folder}")
            time.sleep(0.1)
        for index in range(peers):
            start(f"p{index}", "peer", "--invite", invite, "--data", f"p{index}", "--listen", "127.0.0.1:0", "--memory", "1024", "--json")
        launch = start("launch", "launch", "job.yaml", "--invite", invite, "--listen", "127.0.0.1:0", "--peers", str(peers), "--out", "out")
        if launch.wait(600) != 0:
            sys.exit(f"the launch ended with {launch.returncode}; its log is in {folder}")
        with open(os.path.join(folder, "out", "report.json")) as file:
            return json.load(file)
    finally:
        end(children)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atoll")
    parser.add_argument("--peers", default="2,3,4,6")
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--keep", help="a folder for what the runs leave")
    arguments = parser.parse_args()
    program = os.path.realpath(arguments.atoll)
    errors = []
    with tempfile.TemporaryDirectory() as scratch:
        for peers in map(int, arguments.peers.split(",")):
            for cut in cuts(peers):
                name = f"{peers}-{cut[0]}-{cut[1]}"
                report = measure(program, peers, cut, arguments.tokens, os.path.join(arguments.keep or scratch, name))
                step = report["step_seconds"]
                errors.append(step["predicted"] / step["measured_median"] - 1)
                print(f"{peers} peers, pipelines {cut[0]}, stages {cut[1]}: predicted {step['predicted']:.4f} s  measured {step['measured_median']:.4f} s  "
                      f"{100 * errors[-1]:+.1f} %", flush=True)
    print(f"median error {100 * statistics.median(map(abs, errors)):.1f} % of {len(errors)} (goal 10 %)")


main()
