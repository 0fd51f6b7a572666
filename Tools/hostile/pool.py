"""A small pool on loopback for trying others with: a node, honest peers, a launcher, and what each of them takes."""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

JOB = """name: tried
model: {{architecture: llama, hidden_size: 64, layers: 4, heads: 4, kv_heads: 4, intermediate_size: 192, context: 64, tokenizer: byte}}
data: {{path: text.txt, validation_fraction: 0.05}}
train: {{tokens: {tokens}, batch_tokens: 2048, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}}
parallel: {{virtual_pipelines: 4, micro_batch: 2, pipelines: auto, stages: 1, inner_steps: 4}}
exchange: {{codec: auto, quality_budget: 0.5}}
activations: {{codec: auto}}
checkpoint: {{every_rounds: 5, copies: 1}}
"""


def free_port():
    """A port of loopback that neither TCP nor UDP has in use."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue


def text(size):
    """Words without meaning, the same at every run."""
    draw = random.Random(7)
    words = ["".join(draw.choice("etaoinshrdlu") for _ in range(draw.randint(1, 8))) for _ in range(3000)]
    out = []
    while size > 0:
        out.append(draw.choice(words))
        size -= len(out[-1]) + 1
    return " ".join(out)


class Process:
    """One of ours: its log, its memory, its end."""

    def __init__(self, folder, name, command, env):
        self.name, self.log = name, os.path.join(folder, name + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=folder)

    def _status(self, field):
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                return int(re.search(field + r":\s+(\d+) kB", status.read()).group(1)) / 1024
        except (OSError, AttributeError):
            return 0.0

    @property
    def peak(self):
        """MiB of memory, the most there has been so far; 0 when it has ended."""
        return self._status("VmHWM")

    @property
    def is_alive(self):
        return self.process.poll() is None

    @property
    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def stop(self):
        if self.is_alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Pool:
    """node, `peers` honest peers, and, when `launch` is called, a launcher with a job of so many tokens."""

    def __init__(self, atoll, peers=2, tokens=1_000_000, text_bytes=400_000):
        self.atoll = os.path.abspath(atoll)
        self.folder = tempfile.mkdtemp(prefix="atoll-hostile-")
        self.env = dict(os.environ, ATOLL_HOME=os.path.join(self.folder, "home"), NO_COLOR="1", ATOLL_LIMIT_PRIORITY="normal")
        self.processes, self.peaks = [], {}
        self.node_port = free_port()
        self._start("node", "node", "--data", "home/node", "--listen", f"127.0.0.1:{self.node_port}")
        self.invite = self._invite()
        self.pool_key = bytes.fromhex(re.search(r'pool: "(\w{64})"', open(self.invite).read()).group(1))
        self.ports = [free_port() for _ in range(peers)]
        self.peers = [
            self._start(f"p{n}", "peer", "--json", "--invite", self.invite, "--data", f"home/p{n}", "--name", f"p{n}",
                        "--listen", f"127.0.0.1:{port}")
            for n, port in enumerate(self.ports)]
        with open(os.path.join(self.folder, "text.txt"), "w") as out:
            out.write(text(text_bytes))
        with open(os.path.join(self.folder, "job.yaml"), "w") as out:
            out.write(JOB.format(tokens=tokens))
        self.port, self.launcher = free_port(), None

    def _start(self, name, *arguments):
        process = Process(self.folder, name, [self.atoll, *arguments], self.env)
        self.processes.append(process)
        return process

    def _invite(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for root, _, names in os.walk(os.path.join(self.folder, "home")):
                for name in names:
                    if name == "invite.yaml":
                        return os.path.join(root, name)
            time.sleep(0.1)
        raise SystemExit("the node wrote no invite")

    def launch(self, peers=None):
        self.launcher = self._start(
            "launch", "launch", "job.yaml", "--invite", self.invite, "--peers", str(peers or len(self.peers)),
            "--listen", f"127.0.0.1:{self.port}", "--out", "out")
        return self.launcher

    def look(self):
        """Notes how much memory each process has taken, while it lives."""
        for process in self.processes:
            self.peaks[process.name] = max(self.peaks.get(process.name, 0), process.peak)

    def wait(self, seconds, meanwhile=lambda: time.sleep(0.05)):
        """Until the launcher has ended. Its exit code, or None."""
        end = time.monotonic() + seconds
        while self.launcher.is_alive and time.monotonic() < end:
            meanwhile()
            self.look()
        return self.launcher.process.poll()

    @property
    def report(self):
        path = os.path.join(self.folder, "out", "report.json")
        if not os.path.exists(path):
            return {}
        with open(path) as file:
            return json.load(file)

    def close(self, keep=False):
        for process in reversed(self.processes):
            process.stop()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
