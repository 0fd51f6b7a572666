"""A peer with a PyTorch worker and one on its processor train low-rank adapters together, and agree on every round.

    ATOLL_PYTHON=PYTHON-WITH-TORCH python3 Tools/torch-engine/check_pool.py ATOLL [--device cpu] [--adapters-off]

A node, two peers and a launcher on loopback; a small model of bytes; each peer is a pipeline, so that both hold all layers and their
digests are compared with every seal. Exits with 1 where the job does not end, a round is not sealed by both, or nothing is learnt.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("atoll")
parser.add_argument("--device", default="auto")
parser.add_argument("--adapters-off", action="store_true", help="all weights move")
options = parser.parse_args()
ATOLL = os.path.abspath(options.atoll)
HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = os.path.join(HERE, "..", "..", "docs", "ARCHITECTURE.md")
ADAPTERS = "" if options.adapters_off else ", adapters: {rank: 8, alpha: 16}"
JOB = f"""name: adapters
model: {{hidden_size: 64, layers: 4, heads: 4, intermediate_size: 192, context: 64, tokenizer: byte}}
data: {{path: {os.path.abspath(TEXT)}, validation_fraction: 0.05}}
train: {{tokens: 65_536, batch_tokens: 1024, learning_rate: 1e-2, seed: 1{ADAPTERS}}}
parallel: {{virtual_pipelines: 4, micro_batch: 2, pipelines: 2, stages: 1, inner_steps: 4}}
exchange: {{codec: bf16}}
checkpoint: {{every_rounds: 8}}
"""


def main():
    with tempfile.TemporaryDirectory(prefix="atoll-pool-") as folder:
        environment = dict(
            os.environ, ATOLL_HOME=f"{folder}/home", ATOLL_LIMIT_PRIORITY="normal", ATOLL_LIMIT_UNSEEN="work",
            ATOLL_TORCH_ENGINE=HERE)
        with open(f"{folder}/job.yaml", "w") as file:
            file.write(JOB)
        running = {}

        def start(name, *arguments):
            with open(f"{folder}/{name}.log", "w") as log:
                running[name] = subprocess.Popen(
                    [ATOLL, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=folder)

        def words(name):
            return open(f"{folder}/{name}.log").read()

        invite = f"{folder}/node/invite.yaml"
        try:
            start("node", "node", "--data", f"{folder}/node", "--listen", "127.0.0.1:0", "--no-port-mapping")
            while not os.path.exists(invite):
                time.sleep(0.1)
            time.sleep(1)
            for name, engine in (("gpu", ["--engine", "torch", "--torch-device", options.device]), ("cpu", [])):
                start(
                    name, "peer", "--invite", invite, "--name", name, "--data", f"{folder}/{name}", "--listen", "127.0.0.1:0",
                    "--memory", "512", "--no-port-mapping", *engine)
            start(
                "launch", "launch", "job.yaml", "--invite", invite, "--peers", "2", "--out", f"{folder}/out", "--listen",
                "127.0.0.1:0")
            code = running["launch"].wait(300)
        except subprocess.TimeoutExpired:
            code = "none: not within 300 s"
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait(20)
        said = words("launch")
        rounds = re.findall(r"^round (\d+)", said, re.M)
        trouble = [line for line in said.splitlines() if re.search(r"^✗|disagree|[1-9]\d* (late|lost|superseded)", line)]
        good = code == 0 and len(rounds) == 16 and not trouble
        if code == 0:
            report = json.load(open(f"{folder}/out/report.json"))
            first, last = report["initial_validation_loss"], report["final"]["validation_loss"]
            print(f"{len(rounds)} rounds, validation loss {first:.4f} to {last:.4f} nats a byte")
            good = good and last < first - 0.2
        print("\n".join(line for line in words("gpu").splitlines() if "gradients within" in line))
        if not good:
            print(f"WRONG the launcher ended with {code}\n" + "\n".join(trouble or said.splitlines()[-20:]))
            print("\n".join(words("gpu").splitlines()[-20:]))
        return 0 if good else 1


sys.exit(main())
