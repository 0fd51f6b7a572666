"""A model of the Llama family continued by two peers in control groups with little memory, one of them killed with -9 half way.

    python3 Tools/models/check_continued.py ATOLL MODEL TEXT [--limit-mb 2500] [--inner-steps 1] [--steps 12] [--state fp32] [--keep FOLDER]

A node, a launcher and two peers on loopback; each peer is half of MODEL (SmolLM2-135M, from fixtures.py). Needs root and the memory
controller of control groups (either version). The killed peer is started again two seconds later. `atoll serve` answers from the job's folder
from its first checkpoint on. Prints each peer's most allocated memory beside the memory law, and what becomes of the result. Exits with 1
where the job did not end, or its result cannot be asked and evaluated.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from process_memory import memory_of

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("atoll")
parser.add_argument("model")
parser.add_argument("text")
parser.add_argument("--limit-mb", type=int, default=2500, help="of each peer's control group, in millions of bytes")
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--inner-steps", type=int, default=1)
parser.add_argument("--context", type=int, default=256)
parser.add_argument("--state", default="fp32", choices=["fp32", "bf16"], help="of moments")
parser.add_argument("--weights", default="fp32", choices=["fp32", "bf16"])
parser.add_argument("--checkpoint", type=int, default=4, help="every so many rounds")
parser.add_argument("--recompute", action="store_true")
parser.add_argument("--no-kill", action="store_true")
parser.add_argument("--keep", help="a folder that stays; a temporary one otherwise")
options = parser.parse_args()
ATOLL = os.path.abspath(options.atoll)
# What a peer needs beside what the memory law counts is not offered: a plan may use all that is.
BESIDE_MB = 100

JOB = f"""name: continued
model: {{from: {os.path.abspath(options.model)}, context: {options.context}}}
data: {{path: {os.path.abspath(options.text)}, validation_fraction: 0.02}}
train: {{tokens: {options.steps * 2 * options.context}, batch_tokens: {2 * options.context}, learning_rate: 5e-5, warmup_tokens: 0, state: {options.state}, weights: {options.weights}}}
parallel: {{virtual_pipelines: 1, micro_batch: 1, pipelines: 1, stages: 2, inner_steps: {options.inner_steps}, recompute: {str(options.recompute).lower()}}}
exchange: {{codec: {'fp32' if options.inner_steps == 1 else 'int8'}}}
activations: {{codec: fp32}}
checkpoint: {{every_rounds: {options.checkpoint}, copies: 1, keep: 1}}
"""


def law(first, end):
    """Bytes of a stage as docs/COST.md has them: two micro-batches of one sequence in flight."""
    with open(f"{options.model}/config.json") as file:
        m = json.load(file)
    d, f, vocabulary = m["hidden_size"], m["intermediate_size"], m["vocab_size"]
    heads, size = m["num_attention_heads"], m.get("head_dim") or d // m["num_attention_heads"]
    q, kv, layers = heads * size, m["num_key_value_heads"] * size, m["num_hidden_layers"]
    tied, rows = m["tie_word_embeddings"], options.context
    block = d * (q + 2 * kv) + q * d + 3 * d * f + 2 * d
    parameters = (first == 0) * vocabulary * d + max(0, min(end, layers + 1) - max(1, first)) * block
    parameters += (end == layers + 2) * (d + (not tied) * vocabulary * d)
    w, s = ({"fp32": 4, "bf16": 2}[kind] for kind in (options.weights, options.state))
    each = w + 4 + 2 * s + (8 + s if options.inner_steps > 1 else 0)
    blocks, once, own, widest = max(0, min(end, layers + 1) - max(1, first)), 3 * rows * d, 0, 0
    stretch = min(rows, 1024)
    rest = rows * (d + q + (q + 2 * kv) + 2 * f + 2)
    if blocks:
        own += blocks * rows * d + (0 if options.recompute else blocks * rest)
        once += (rest if options.recompute else 0) + stretch * (2 * q + 2 * kv) + stretch * 3 * f
        once += options.context * size + 2 * 64 * (options.context + 31)
        widest = stretch
    head_rows = min(rows, max(64, (1 << 24) // vocabulary))
    if end == layers + 2:
        once += head_rows * (d + 1) + d - rows * d
        own += rows * d
        widest = max(widest, head_rows)
    if first == 0 if tied else end == layers + 2:
        own += rows * (d + 1 if end < layers + 2 else 1)
        once += head_rows * vocabulary
    if w == 2:
        once += max(block, min(4096, vocabulary) * d)
    return parameters * each + 4 * (2 * own + once + 2 * widest * d)


class Group:
    """A control group with a memory limit."""

    def __init__(self, name, limit):
        root, self.is_first = "/sys/fs/cgroup/memory", True
        if not os.path.exists(root):
            root, self.is_first = "/sys/fs/cgroup", False
        self.path = f"{root}/atoll-continued-{os.getpid()}-{name}"
        os.mkdir(self.path)
        self.write("memory.limit_in_bytes" if self.is_first else "memory.max", limit)

    def write(self, name, value):
        with open(f"{self.path}/{name}", "w") as file:
            file.write(str(value))

    def events(self):
        """How often the limit was hit, and how many were ended for it."""
        if self.is_first:
            text = open(f"{self.path}/memory.oom_control").read() + f"failcnt {open(f'{self.path}/memory.failcnt').read()}"
            return int(re.search(r"failcnt (\d+)", text)[1]), int((re.search(r"oom_kill (\d+)", text) or [0, 0])[1])
        text = open(f"{self.path}/memory.events").read()
        return int(re.search(r"^max (\d+)", text, re.M)[1]), int(re.search(r"oom_kill (\d+)", text)[1])

    def end(self):
        for _ in range(50):
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.1)


class Lab:
    def __init__(self, folder):
        self.folder, self.processes, self.peaks, self.watched = folder, {}, {}, True
        self.groups = {}
        self.environment = dict(
            os.environ, ATOLL_HOME=f"{folder}/home", ATOLL_LIMIT_PRIORITY="normal", ATOLL_LIMIT_UNSEEN="work")
        with open(f"{folder}/job.yaml", "w") as file:
            file.write(JOB)

    def start(self, name, *arguments, group=None):
        def enter():
            if group:
                group.write("cgroup.procs", os.getpid())

        with open(f"{self.folder}/{name}.log", "a") as log:
            self.processes[name] = subprocess.Popen(
                [ATOLL, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, cwd=self.folder,
                preexec_fn=enter)

    def peer(self, name):
        if name not in self.groups:
            self.groups[name] = Group(name, options.limit_mb * 1_000_000)
        self.start(
            name, "peer", "--invite", f"{self.folder}/node/invite.yaml", "--name", name, "--data", f"{self.folder}/{name}",
            "--listen", "127.0.0.1:0", "--memory", str((options.limit_mb - BESIDE_MB) * 1_000_000 // 2**20), "--no-port-mapping",
            group=self.groups[name])

    def watch(self):
        """The most that each process ever had resident; of what it allocated, and of all."""
        while self.watched:
            for name, process in list(self.processes.items()):
                found = memory_of(process.pid)
                if found:
                    self.peaks[name] = tuple(map(max, self.peaks.get(name, (0, 0)), found))
            time.sleep(0.1)

    def words(self, name):
        try:
            return open(f"{self.folder}/{name}.log").read()
        except OSError:
            return ""

    def until(self, what, truth, seconds):
        end = time.time() + seconds
        while not truth():
            if self.processes.get("launch") and self.processes["launch"].poll() is not None:
                return False
            if time.time() > end:
                print(f"{what}: not within {seconds} s")
                return False
            time.sleep(0.1)
        return True

    def rounds(self):
        found = re.findall(r"^round (\d+)", self.words("launch"), re.M)
        return int(found[-1]) if found else 0

    def end(self):
        self.watched = False
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for group in self.groups.values():
            group.end()


def main():
    folder = os.path.abspath(options.keep) if options.keep else tempfile.mkdtemp(prefix="atoll-continued-")
    os.makedirs(folder, exist_ok=True)
    lab, bad = Lab(folder), []
    threading.Thread(target=lab.watch, daemon=True).start()
    started = time.time()
    try:
        lab.start("node", "node", "--data", f"{folder}/node", "--listen", "127.0.0.1:0", "--no-port-mapping")
        lab.until("an invite", lambda: os.path.exists(f"{folder}/node/invite.yaml"), 30)
        time.sleep(1)
        for name in ("first", "second"):
            lab.peer(name)
        time.sleep(2)
        lab.start(
            "launch", "launch", "job.yaml", "--invite", f"{folder}/node/invite.yaml", "--peers", "2", "--out", f"{folder}/out",
            "--listen", "127.0.0.1:0")
        rounds = options.steps // options.inner_steps
        if not options.no_kill and lab.until("half of the rounds", lambda: lab.rounds() >= rounds // 2, 1200):
            print(f"{time.time() - started:.0f} s: round {lab.rounds()}; second is killed")
            lab.processes["second"].send_signal(signal.SIGKILL)
            lab.processes["second"].wait()
            time.sleep(2)
            lab.peer("second")
        if lab.until("a checkpoint", lambda: "checkpoint saved at round" in lab.words("launch"), 600):
            lab.start("serve", "serve", f"{folder}/out", "--port", "0", "--context", "256")
        try:
            code = lab.processes["launch"].wait(1200)
        except subprocess.TimeoutExpired:
            code = "none: not within 1200 s"
        print(f"{time.time() - started:.0f} s: the launcher ended with {code}")
        if code != 0:
            bad.append("the job did not end")
            print(lab.words("launch")[-1500:])
        if code == 0:
            bad += result(lab, folder)
    finally:
        lab.end()
    for name, (anonymous, resident) in lab.peaks.items():
        print(f"{name}: {resident / 1e6:.0f} MB resident at most, {anonymous / 1e6:.0f} of it allocated", end="")
        place = re.search(r"units (\d+) to (\d+)", lab.words(name)) if name in lab.groups else None
        if place:
            size = law(int(place[1]), int(place[2]) + 1)
            print(f"; units {place[1]} to {place[2]}, law {size / 1e6:.0f}: {anonymous / size:.2f} times", end="")
        print()
    for word in bad:
        print(f"WRONG {word}")
    if not options.keep:
        shutil.rmtree(folder)
    return 1 if bad else 0


def result(lab, folder):
    """Whether what came out is served, and reads and writes as a model."""
    bad = []
    lab.until("the served model to be the last one", lambda: lab.words("serve").count("answers from now on") > 0, 60)
    said = lab.words("serve")
    print("served: " + " / ".join(line.replace(folder, "") for line in said.splitlines())[:400])
    try:
        base = said.split(" at ")[1].split(" ")[0]
        name = json.load(urllib.request.urlopen(f"{base}/models", timeout=10))["data"][0]["id"]
        body = json.dumps(dict(prompt="The capital of France is", max_tokens=8, temperature=0, model=name)).encode()
        request = urllib.request.Request(f"{base}/completions", body, {"Content-Type": "application/json"})
        print("asked: " + repr(json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["text"]))
    except (IndexError, OSError, ValueError, KeyError) as error:
        bad.append(f"the served model does not answer: {error}")
    if "out/checkpoint:" not in said:
        bad.append("the result is not what is served in the end")
    for model in (options.model, f"{folder}/out/checkpoint"):
        done = subprocess.run(
            [ATOLL, "eval", model, options.text, "--context", "256", "--windows", "20", "--json"], capture_output=True, text=True)
        if done.returncode:
            bad.append(f"eval: {done.stderr}")
        else:
            print(f"loss of {'the result' if 'out' in model[-15:] else 'the model before'}: {json.loads(done.stdout)['loss']:.4f}")
    return bad


sys.exit(main())
