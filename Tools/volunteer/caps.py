#!/usr/bin/env python3
"""Whether a peer keeps within its owner's caps: the most that its sockets carry in any ten seconds, from the kernel's counters of its network interface, while a job wants
more than the caps allow. caps.py PROGRAM [SECONDS] [WAY]. A peer is alone in a network namespace; node, launcher and another peer are in a second one. WAY is how it reaches launcher
and other peer: direct (TCP), flow (no connection comes in at either, only datagrams do) relayed (nothing passes between them, and the node carries it), or
carrying (they do not reach each other but through the peer, which carries what they send). Root, iproute2; nft for the last two."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import lab

program = os.path.realpath(sys.argv[1])
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
way = sys.argv[3] if len(sys.argv) > 3 else "direct"
WINDOW, GOAL = 10.0, 1.05
# Beyond the local network: those addresses are capped (RFC 5737 has them for documentation).
FAR, JOB, NEAR = "198.51.100.1", "198.51.100.2", "203.0.113.2"
# What does not pass between the peer and the addresses of launcher and other peer.
CLOSED = {"direct": [], "flow": [], "relayed": ["tcp", "udp"], "carrying": []}
if way not in CLOSED:
    sys.exit("not done: %s is none of %s" % (way, ", ".join(CLOSED)))
if seconds < 1.5 * WINDOW:
    sys.exit("not done: %g s are too short for a window of %g s; at least %g" % (seconds, WINDOW, 1.5 * WINDOW))
if os.geteuid() != 0 or not shutil.which("ip") or way != "direct" and not shutil.which("nft"):
    print("not done: needs root, iproute2 and nft, for network namespaces")
    sys.exit(77)
folder = lab.Folder("atoll-caps-")
work, read, waited = folder.path, folder.read, folder.waited
spaces = {"far": "atoll-caps-far-%d" % os.getpid(), "near": "atoll-caps-near-%d" % os.getpid()}
environment = dict(os.environ, ATOLL_HOME=work, ATOLL_LIMIT_METERED="work", **lab.LIMITS)
children = []


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def start(space, name, *arguments):
    out = open(os.path.join(work, name + ".log"), "wb")
    child = subprocess.Popen(["ip", "netns", "exec", spaces[space], program, *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=work)
    children.append(child)
    return child


def rule(space, hook, words):
    text = "table ip closed { chain %s { type filter hook %s priority 0; %s; }; }" % (hook, hook, words)
    subprocess.run(["ip", "netns", "exec", spaces[space], "nft", text], check=True)


def counters(pid):
    """Seconds, and of each direction (up, down) the bytes on the wire and those of TCP and UDP in it: without 14 bytes of Ethernet, 20 of IP, and
    32 of TCP (with its time stamps) or 8 of UDP a packet."""
    with open("/proc/%d/net/dev" % pid) as file:
        fields = next(l for l in file if l.strip().startswith("wan:")).partition(":")[2].split()
    with open("/proc/%d/net/snmp" % pid) as file:
        lines = [l.split() for l in file if l.startswith("Udp:")]
    udp = dict(zip(lines[0], lines[1]))
    now = time.monotonic()
    out = []
    for octets, packets, datagrams in ((fields[8], fields[9], udp["OutDatagrams"]), (fields[0], fields[1], udp["InDatagrams"])):
        octets, packets, datagrams = int(octets), int(packets), int(datagrams)
        out.append((octets, octets - 66 * max(0, packets - datagrams) - 42 * datagrams))
    return now, out


def most(samples, direction, kind):
    """The greatest number of bytes a second over ten seconds or a tenth more."""
    best, j = 0.0, 0
    for i, (t, now) in enumerate(samples):
        while j < len(samples) and samples[j][0] - t < WINDOW:
            j += 1
        if j == len(samples):
            break
        best = max(best, (samples[j][1][direction][kind] - now[direction][kind]) / (samples[j][0] - t))
    return best


def told(what, samples, caps):
    fine = True
    for direction, name in ((0, "sent"), (1, "received")):
        cap = caps[direction] * 1e6 / 8
        payload, wire = most(samples, direction, 1), most(samples, direction, 0)
        good = payload <= GOAL * cap
        fine = fine and good
        print("| %-34s | %-8s | %5.0f kB/s | %6.1f kB/s | %5.1f %% | %5.1f %% | %s |" % (
            what, name, cap / 1e3, payload / 1e3, 100 * payload / cap, 100 * wire / cap, "yes" if good else "no"))
    return fine


def sampled(pid, seconds):
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(counters(pid))
        time.sleep(0.1)
    return samples


def paths():
    """How the peer reaches each of the others, as it says itself."""
    out = subprocess.run(["ip", "netns", "exec", spaces["near"], program, "status", "--json", "--data", "peer"], env=environment, cwd=work, capture_output=True, text=True).stdout
    try:
        return ["%s %s%s" % (c.get("name") or c.get("peer", "")[:8], c.get("path"), " by datagrams" if c.get("by_datagrams") else "") for c in json.loads(out)["status"]["daemon"]["connections"]]
    except (ValueError, KeyError, TypeError):
        return [out[:2000]]


def caps_kept():
    with open(os.path.join(work, "text.txt"), "w") as file:
        for n in range(60_000):
            file.write("in the beginning was the word number %d, and " % (n * 7919 % 104729))
    with open(os.path.join(work, "job.yaml"), "w") as file:
        # Gradients of 1.1 million parameters as they are, every step, and a text of 2.8 MB: far more than the caps let through.
        file.write(
            "name: endless\n"
            "model: {architecture: llama, hidden_size: 128, layers: 6, heads: 4, kv_heads: 4, intermediate_size: 384, context: 32, tokenizer: byte}\n"
            "data: {path: text.txt, validation_fraction: 0.01}\n"
            "train: {tokens: 50_000_000, batch_tokens: 512, optimizer: adamw, learning_rate: 3e-3, seed: 1}\n"
            "parallel: {virtual_pipelines: 2, micro_batch: 8, pipelines: 2, stages: 1, inner_steps: 1}\n"
            "exchange: {codec: fp32}\n")
    start("far", "node", "node", "--listen", FAR + ":7070", "--data", "node", "--no-port-mapping", "--relay-up", "0" if way == "carrying" else "100")
    waited("an invite", 20, lambda: "peers join with" in read("node.log"))
    start("far", "other", "peer", "--invite", "node/invite.yaml", "--listen", JOB + ":0", "--data", "other", "--name", "other", "--no-port-mapping")
    # What is on the command line no command changes.
    os.mkdir(os.path.join(work, "peer"), 0o700)
    with open(os.path.join(work, "peer", "peer.yaml"), "w") as file:
        file.write("limits: {up_mbps: 1, down_mbps: 2}\n")
    peer = start("near", "peer", "peer", "--invite", "node/invite.yaml", "--listen", NEAR + ":0", "--data", "peer", "--name", "capped",
                 "--no-port-mapping", *(["--relay-up", "100"] if way == "carrying" else []))
    waited("the pool", 30, lambda: "it has joined the pool" in read("peer.log"))
    start("far", "launch", "launch", "job.yaml", "--invite", "node/invite.yaml", "--listen", JOB + ":0", "--out", "out", "--peers", "2", "--no-port-mapping")
    print("way: %s" % way)
    print("| caps of 1 Mbit/s up, 2 Mbit/s down | way      | cap        | most in 10 s | of it  | with headers | met |\n|---|---|---|---|---|---|---|")
    # From its first byte on: the text, the measuring of links, then training.
    first = sampled(peer.pid, seconds)
    waited("a sealed round", 300, lambda: len(read("out/rounds.csv").splitlines()) > 1)
    fine = told("joining, text, measuring, training", first, (1, 2))
    print("its connections: %s" % ", ".join(paths()))
    second = sampled(peer.pid, seconds)
    fine = told("training", second, (1, 2)) and fine
    subprocess.run(["ip", "netns", "exec", spaces["near"], program, "limits", "set", "up_mbps", "0.5", "--data", "peer"], env=environment, cwd=work, check=True,
                   stdout=subprocess.DEVNULL)
    third = sampled(peer.pid, seconds)
    fine = told("up_mbps set to 0.5 while it trains", third, (0.5, 2)) and fine
    if most(second, 0, 1) < 0.7 * 125_000:
        print("not measured: the job wanted less than the cap; logs are in %s" % work)
        fine = False
    return fine


good = False
try:
    for space in spaces.values():
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
    ip("link", "add", "wan", "netns", spaces["near"], "type", "veth", "peer", "name", "wan", "netns", spaces["far"])
    for space, all_own, all_other in (("far", (FAR, JOB), (NEAR,)), ("near", (NEAR,), (FAR, JOB))):
        for own in all_own:
            ip("-n", spaces[space], "addr", "add", own + "/32", "dev", "wan")
        # One packet is counted as one: nothing is left for the card to cut.
        ip("-n", spaces[space], "link", "set", "wan", "gso_max_segs", "1", "up")
        for other in all_other:
            ip("-n", spaces[space], "route", "add", other + "/32", "dev", "wan", "src", all_own[0])
    if way != "direct":
        # Homes: no connection comes in, and no datagram that was not asked for. The node is in the open.
        for space, whom in (("near", ""), ("far", "ip daddr %s " % JOB))[way == "carrying":]:
            rule(space, "input", whom + "ct state new drop")
            rule(space, "input", whom + "tcp flags & (syn|ack) == syn drop")
        if way == "carrying":
            rule("far", "input", "ip saddr %s ip daddr %s drop" % (JOB, JOB))
    for protocol in CLOSED[way]:
        rule("near", "input", "ip saddr %s meta l4proto %s drop" % (JOB, protocol))
        rule("near", "output", "ip daddr %s meta l4proto %s drop" % (JOB, protocol))
    good = caps_kept()
finally:
    for child in reversed(children):
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
    for child in reversed(children):
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
    for space in spaces.values():
        subprocess.run(["ip", "netns", "del", space], check=False)
sys.exit(0 if good else 1)
