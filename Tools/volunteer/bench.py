#!/usr/bin/env python3
"""What a peer costs its owner, beside the goals: an idle peer's processor time, memory and traffic; and how soon the processor is free when the owner
wants it back; and how long other programs wait for a processor beside a peer that trains. bench.py PROGRAM [SECONDS]. Everything is on loopback and in a temporary folder."""
import os
import signal
import subprocess
import sys
import time
import urllib.request

import lab

program = os.path.realpath(sys.argv[1])
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
folder = lab.Folder("atoll-volunteer-")
work, read, waited = folder.path, folder.read, folder.waited
environment = dict(os.environ, ATOLL_HOME=work, **lab.LIMITS)
children = []


def start(name, *arguments, **limits):
    out = open(os.path.join(work, name + ".log"), "wb")
    child = subprocess.Popen([program, *arguments], stdout=out, stderr=subprocess.STDOUT, env=dict(environment, **limits), cwd=work)
    children.append(child)
    return child


def figures(port):
    page = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port, timeout=5).read().decode()
    return {key: float(value) for key, value in (l.rsplit(" ", 1) for l in page.splitlines() if l and l[0] != "#")}


def cpu(child):
    """Seconds of processor time of all its threads (proc_pid_stat(5): fields 14 and 15)."""
    with open("/proc/%d/stat" % child.pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(what, value, goal, met):
    print("| %-52s | %14s | %10s | %s |" % (what, value, goal, "yes" if met else "no"))


def idle(port):
    time.sleep(10)
    a = figures(port)
    time.sleep(seconds)
    b = figures(port)
    span = b["atoll_uptime_seconds"] - a["atoll_uptime_seconds"]
    share = 100 * (b["process_cpu_seconds_total"] - a["process_cpu_seconds_total"]) / span
    memory = b["process_resident_memory_bytes"] / 2**20
    traffic = sum(b[k] - a[k] for k in ("atoll_sent_bytes_total", "atoll_received_bytes_total")) / span / 1000
    row("idle peer: processor, of a core (%.0f s)" % span, "%.2f %%" % share, "0.5 %", share <= 0.5)
    row("idle peer: memory", "%.1f MiB" % memory, "40 MiB", memory <= 40)
    row("idle peer: traffic, both ways", "%.2f kB/s" % traffic, "0.4 kB/s", traffic <= 0.4)


def wanted_back(peer, port):
    with open(os.path.join(work, "text.txt"), "w") as file:
        file.write("in the beginning was the word and " * 4000)
    with open(os.path.join(work, "job.yaml"), "w") as file:
        file.write(
            "name: endless\n"
            "model: {architecture: llama, hidden_size: 64, layers: 2, heads: 4, kv_heads: 4, intermediate_size: 128, context: 64, tokenizer: byte}\n"
            "data: {path: text.txt, validation_fraction: 0.05}\n"
            "train: {tokens: 50_000_000, batch_tokens: 1024, optimizer: adamw, learning_rate: 3e-3, seed: 1}\n"
            "parallel: {virtual_pipelines: 4, micro_batch: 4, inner_steps: 4}\n")
    start("launch", "launch", "job.yaml", "--invite", "node/invite.yaml", "--listen", "127.0.0.1:0", "--out", "out", "--peers", "1")
    waited("a sealed round", 120, lambda: len(read("out/rounds.csv").splitlines()) > 2)
    asked = time.time()
    subprocess.run([program, "pause", "--data", "peer"], env=environment, cwd=work, check=True, stdout=subprocess.DEVNULL)
    free = left = None
    before, quiet = cpu(peer), 0
    while time.time() - asked < 30 and not (free and left):
        time.sleep(0.05)
        now = cpu(peer)
        # The clock of /proc has ticks of 10 ms: one of them in 50 ms is the loop, not arithmetic.
        quiet = quiet + 1 if now - before <= 0.01 else 0
        before = now
        if free is None and quiet == 5:
            free = time.time() - asked - 0.25
        if left is None and figures(port).get('atoll_member_state{state="paused"}') == 1 and "atoll_member_round" not in figures(port):
            left = time.time() - asked
    row("owner pauses: processor free after", "%.2f s" % free if free else "never", "2 s", bool(free and free <= 2))
    row("owner pauses: its place handed over after", "%.2f s" % left if left else "never", "5 s", bool(left and left <= 5))


def median(values):
    return sorted(values)[len(values) // 2]


def wakings(seconds):
    """Of a program that works 5 ms and sleeps 5 ms: by how much it wakes late, in the median, in milliseconds."""
    end, late = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        asleep = time.perf_counter()
        time.sleep(0.005)
        late.append(time.perf_counter() - asleep - 0.005)
        busy = time.perf_counter() + 0.005
        while time.perf_counter() < busy:
            pass
    return 1000 * median(late)


def foreground():
    """Beside a peer as its owner would start it (lowest priority), with a thread for each processor; in turn while it computes and while it is stopped."""
    threads = str(os.cpu_count())
    peer = start("quiet", "peer", "--invite", "node/invite.yaml", "--listen", "127.0.0.1:0", "--data", "quiet", "--threads", threads,
                 ATOLL_LIMIT_PRIORITY="idle")
    sealed = len(read("out/rounds.csv").splitlines())
    waited("a round of the second peer", 300, lambda: len(read("out/rounds.csv").splitlines()) > sealed + 2)
    beside, alone, share = [], [], []
    for _ in range(7):
        before, began = cpu(peer), time.time()
        beside.append(wakings(2))
        share.append(100 * (cpu(peer) - before) / (time.time() - began))
        # Shorter than anybody takes for a loss.
        peer.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        alone.append(wakings(2))
        peer.send_signal(signal.SIGCONT)
        time.sleep(2)
    if median(share) < 20:
        row("a program that works in bursts beside a peer", "not measured", "1.5", False)
        print("the peer had %.0f %% of a processor: others left it none (load %.1f), or it does not train; logs are in %s" % (median(share), os.getloadavg()[0], work))
        return
    ratio = median(beside) / median(alone)
    row("a program that works in bursts: wakes late by", "%.3f ms" % median(alone), "", True)
    row("... beside a peer that trains (%.0f %% of a processor)" % median(share), "%.3f ms" % median(beside), "", True)
    row("... ratio", "%.2f" % ratio, "1.5", ratio <= 1.5)


try:
    start("node", "node", "--listen", "127.0.0.1:0", "--data", "node")
    waited("an invite", 20, lambda: "peers join with" in read("node.log"))
    peer = start("peer", "peer", "--invite", "node/invite.yaml", "--listen", "127.0.0.1:0", "--data", "peer", "--metrics", "0")
    port = int(waited("figures", 20, lambda: read("peer.log").partition("metrics at http://127.0.0.1:")[2].partition("/")[0]))
    waited("the pool", 30, lambda: figures(port).get("atoll_overlay_joined") == 1)
    print("| what | measured | goal | met |\n|---|---|---|---|")
    idle(port)
    wanted_back(peer, port)
    foreground()
finally:
    for child in reversed(children):
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
    for child in reversed(children):
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
