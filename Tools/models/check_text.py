"""A text that is larger than the memory of those who train on it: what the launcher and two peers allocate.

    python3 Tools/models/check_text.py ATOLL TEXT [--times 120] [--steps 8] [--keep FOLDER]

A node, a launcher and two peers with `--memory 300` on loopback train a small model of bytes on TEXT, so many times one after the other.
Prints the most that each process allocated (RssAnon) and had resident (VmHWM), files that are mapped included, and the job's figures, which
are the same for the same text, whatever the build. Exits with 1 where the job did not end, or somebody allocated more than `--most` megabytes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from process_memory import memory_of

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("atoll")
parser.add_argument("text")
parser.add_argument("--times", type=int, default=120)
parser.add_argument("--steps", type=int, default=8)
parser.add_argument("--most", type=int, default=300, help="megabytes that each may allocate")
parser.add_argument("--keep", help="a folder that stays; a temporary one otherwise")
options = parser.parse_args()
ATOLL = os.path.abspath(options.atoll)

JOB = f"""name: large-text
model: {{hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64, context: 64}}
data: {{path: text.txt, validation_fraction: 0.0001}}
train: {{tokens: {options.steps * 256}, batch_tokens: 256, learning_rate: 1e-3, warmup_tokens: 0}}
parallel: {{virtual_pipelines: 2, micro_batch: 1, pipelines: 2, stages: 1, inner_steps: 2}}
exchange: {{codec: fp32}}
"""


def main():
    folder = os.path.abspath(options.keep) if options.keep else tempfile.mkdtemp(prefix="atoll-text-")
    os.makedirs(folder, exist_ok=True)
    piece = open(options.text, "rb").read()
    with open(f"{folder}/text.txt", "wb") as file:
        for _ in range(options.times):
            file.write(piece)
    with open(f"{folder}/job.yaml", "w") as file:
        file.write(JOB)
    environment = dict(
        os.environ, ATOLL_HOME=f"{folder}/home", ATOLL_LIMIT_PRIORITY="normal", ATOLL_LIMIT_UNSEEN="work")
    processes, peaks, watched, bad = {}, {}, [True], []

    def start(name, *arguments):
        with open(f"{folder}/{name}.log", "w") as log:
            processes[name] = subprocess.Popen(
                [ATOLL, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=folder)

    def watch():
        while watched[0]:
            for name, process in list(processes.items()):
                found = memory_of(process.pid)
                if found:
                    peaks[name] = tuple(map(max, peaks.get(name, (0, 0)), found))
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    try:
        invite = f"{folder}/node/invite.yaml"
        start("node", "node", "--data", f"{folder}/node", "--listen", "127.0.0.1:0", "--no-port-mapping")
        end = time.time() + 60
        while not os.path.exists(invite) and time.time() < end:
            time.sleep(0.1)
        time.sleep(1)
        for name in ("first", "second"):
            start(
                name, "peer", "--invite", invite, "--name", name, "--data", f"{folder}/{name}", "--listen", "127.0.0.1:0",
                "--memory", "300", "--no-port-mapping")
        time.sleep(2)
        began = time.time()
        start(
            "launch", "launch", "job.yaml", "--invite", invite, "--peers", "2", "--out", f"{folder}/out", "--listen",
            "127.0.0.1:0")
        try:
            code = processes["launch"].wait(1200)
        except subprocess.TimeoutExpired:
            code = "none: not within 1200 s"
        print(f"{os.path.getsize(f'{folder}/text.txt') / 1e6:.0f} MB of text; the launcher ended with {code} after {time.time() - began:.0f} s")
        if code == 0:
            report = json.load(open(f"{folder}/out/report.json"))
            print(f"loss {report['final']['validation_loss']}, weights {report['weights_sha256']}")
        else:
            bad.append("the job did not end")
            print(open(f"{folder}/launch.log").read()[-1500:])
    finally:
        watched[0] = False
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
        for process in processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    for name, (allocated, resident) in peaks.items():
        print(f"{name}: {allocated / 1e6:.0f} MB allocated, {resident / 1e6:.0f} MB resident, at most")
        if allocated > options.most * 1e6:
            bad.append(f"{name} allocated more than {options.most} MB")
    for word in bad:
        print(f"WRONG {word}")
    if not options.keep:
        shutil.rmtree(folder)
    return 1 if bad else 0


sys.exit(main())
