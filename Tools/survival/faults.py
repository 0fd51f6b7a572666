#!/usr/bin/env python3
"""Two pools of eight paced peers on loopback, at the same time: in one of them a peer is killed or stopped every 29 seconds.

    faults.py ATOLL [MINUTES]

Prints how many rounds each has sealed. What else this machine does befalls both.
"""
import os, random, re, shutil, signal, subprocess, sys, tempfile, time

PEERS = 8
EVERY = 29  # seconds, as torchft's published experiment
ASLEEP = 8
HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = os.path.join(HERE, "..", "..", "docs", "ARCHITECTURE.md")

TOPOLOGY = (
    "name: eight\nabout: eight peers alike\nexpect: a pipeline each\nhosts:\n"
    + "".join(
        f"  - {{name: h{i}, device: pc, gflops: 0.5, memory_mib: 256, up_mbps: 50, down_mbps: 100}}\n" for i in range(PEERS)
    )
    + "  - {name: meet, role: bootstrap, device: pc, up_mbps: 100, down_mbps: 100}\n"
    + "  - {name: desk, role: coordinator, device: pc, up_mbps: 50, down_mbps: 100}\n"
    + "default_link: {latency_ms: 5}\n"
)
JOB = f"""name: live
model: {{architecture: llama, hidden_size: 64, layers: 4, heads: 4, kv_heads: 4, intermediate_size: 192, context: 64, tokenizer: byte}}
data: {{path: {os.path.abspath(TEXT)}, validation_fraction: 0.05}}
train: {{tokens: 40_000_000, batch_tokens: 2048, optimizer: adamw, learning_rate: 3e-3, schedule: constant, clip: 1.0, seed: 1}}
parallel: {{virtual_pipelines: {PEERS}, micro_batch: 2, pipelines: {PEERS}, stages: 1, inner_steps: 2}}
exchange: {{codec: int8, quality_budget: 0.5}}
activations: {{codec: fp32}}
checkpoint: {{every_rounds: 50, copies: 2}}
"""
HOSTS = [f"h{i}" for i in range(PEERS)] + ["meet", "desk"]


class Pool:
    """Its processes, by the host of the topology that each of them is."""

    def __init__(self, atoll, folder, port):
        self.atoll, self.folder, self.port, self.processes = atoll, folder, port, {}
        os.makedirs(folder)
        for name, text in ("topology.yaml", TOPOLOGY), ("job.yaml", JOB):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        self.invite = os.path.join(folder, "hosts", "meet", "invite.yaml")

    def start(self, host, *arguments):
        number = HOSTS.index(host)
        command = [self.atoll, *arguments, "--listen", f"127.77.0.{number + 1}:{self.port}"]
        command += ["--emulate", f"{self.folder}/topology.yaml#{host}", "--stretch", "1", "--seed", str(100 + number)]
        if arguments[0] != "launch":
            command += ["--data", f"{self.folder}/hosts/{host}"]
        environment = dict(os.environ, ATOLL_HOME=f"{self.folder}/home", ATOLL_LIMIT_PRIORITY="normal")
        with open(f"{self.folder}/{host}.log", "a") as log:
            self.processes[host] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=self.folder
            )

    def start_peer(self, host):
        self.start(host, "peer", "--invite", self.invite, "--name", host, "--memory", "256")

    def begin(self):
        self.start("meet", "node")
        while not os.path.exists(self.invite):
            time.sleep(0.1)
        time.sleep(1)
        for host in HOSTS[:PEERS]:
            self.start_peer(host)
        time.sleep(2)
        self.start("desk", "launch", "job.yaml", "--invite", self.invite, "--peers", str(PEERS), "--out", "out")

    def rounds(self):
        if self.processes["desk"].poll() is not None:
            raise SystemExit(f"the launcher has ended; its words are in {self.folder}/desk.log")
        with open(f"{self.folder}/desk.log") as log:
            sealed = re.findall(r"^round (\d+) ", log.read(), re.M)
        return int(sealed[-1]) if sealed else 0

    def kill(self, host):
        self.processes[host].kill()
        self.processes[host].wait()
        time.sleep(0.5)
        self.start_peer(host)

    def sleep(self, host):
        self.processes[host].send_signal(signal.SIGSTOP)
        time.sleep(ASLEEP)
        self.processes[host].send_signal(signal.SIGCONT)

    def end(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def main():
    atoll, minutes = os.path.abspath(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 30
    folder = tempfile.mkdtemp(prefix="atoll-faults-")
    calm, struck = Pool(atoll, folder + "/calm", 7301), Pool(atoll, folder + "/struck", 7302)
    draws, faults = random.Random(7), 0
    try:
        calm.begin()
        struck.begin()
        while min(calm.rounds(), struck.rounds()) < 5:
            time.sleep(1)
        since, before = time.time(), (calm.rounds(), struck.rounds())
        while time.time() < since + 60 * minutes:
            time.sleep(0.2)
            if time.time() < since + EVERY * (faults + 1):
                continue
            host = HOSTS[draws.randrange(PEERS)]
            (struck.sleep if draws.randrange(3) == 0 else struck.kill)(host)
            faults += 1
        calmly, disturbed = calm.rounds() - before[0], struck.rounds() - before[1]
        print(f"{faults} faults in {time.time() - since:.0f} s: {disturbed} rounds, and {calmly} undisturbed: {100 * disturbed / calmly:.1f} %")
    finally:
        calm.end()
        struck.end()
    shutil.rmtree(folder)


main()
