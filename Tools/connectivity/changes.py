"""changes.py ATOLL [--kind symmetric] [--only NAME] [--json FILE] [--keep FOLDER] : what a job does when paths change under it.

Two homes behind routers of one kind (port-restricted; symmetric: then a node relays; datagrams: they let no connection in, so the two have a flow), a launcher and two nodes that can be dialled, in network namespaces. The two train a
pipeline each and exchange after every step, so that each seal needs both of them and the path between them. In the middle of the job one thing happens:

  renumber   the first home's line gets another public address, its router forgets all connections, and nobody is told
  remap      the first home's router forgets all connections under their traffic, and takes none up again in the middle, as many do not
  remaps     the same every 20 s, three times
  cable      the first home's machine leaves its Wi-Fi for a cable: another device, another private address
  blackhole  nothing passes any more between the two homes' addresses, either way; everything else does
  relay      the node that carries the two's session is killed (symmetric routers only)

Printed is after how long both ends had the session on another connection; how long no round was sealed with both pipelines in it (the longest time between two such seals after it), against the longest before it; how many rounds had to do
without one of the two; and what was lost: roll-backs, peers given up, sessions that ended. Root, iproute2, nftables, conntrack.
"""
import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pairs  # noqa: E402 (the internet is the same)

PUBLIC = {"a": "198.51.10.1", "b": "198.51.11.1", "n1": "198.51.100.1", "n2": "203.0.113.1", "boss": "192.0.2.1"}
ANOTHER = "198.51.10.99"
JOB = """name: changes
model: {architecture: llama, hidden_size: 32, layers: 2, heads: 4, kv_heads: 2, intermediate_size: 64, context: 32, tokenizer: byte}
data: {path: text.txt, validation_fraction: 0.1}
train: {tokens: 100_000_000, batch_tokens: 256, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
parallel: {virtual_pipelines: 2, micro_batch: 2, pipelines: 2, stages: 1, inner_steps: 4}
exchange: {codec: fp32, quality_budget: 10}
activations: {codec: fp32}
electors: 1
"""
LOSSES = ("rolled_back", "peer_lost", "replaced", "interrupted", "connection_lost")


def build(net, kind):
    net.space("inet", forwards=True)
    for name in ("n1", "n2", "boss"):
        net.space(name)
        net.line(name, "inet", PUBLIC[name])
    for number, home in enumerate(("a", "b"), 1):
        net.space(f"r-{home}", forwards=True)
        net.line(f"r-{home}", "inet", PUBLIC[home])
        net.home(f"r-{home}", [home], f"192.168.{number}")
        drops = "iifname wan tcp flags & (syn|ack) == syn drop" if kind == "datagrams" else ""
        net.firewall(f"r-{home}", "random,fully-random" if kind == "symmetric" else "", "", "", drops)


def renumber(net):
    pairs.inside("inet", "ip", "route", "del", f"{PUBLIC['a']}/32", "dev", "p-r-a")
    pairs.inside("r-a", "ip", "addr", "del", f"{PUBLIC['a']}/32", "dev", "wan")
    pairs.inside("r-a", "ip", "addr", "add", f"{ANOTHER}/32", "dev", "wan")
    pairs.inside("inet", "ip", "route", "add", f"{ANOTHER}/32", "dev", "p-r-a")
    pairs.inside("r-a", "ip", "route", "replace", "default", "via", "169.254.0.1", "dev", "wan", "onlink")
    pairs.inside("r-a", "conntrack", "-F", check=False)


def remap(net):
    pairs.inside("r-a", "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0", check=False)
    pairs.inside("r-a", "conntrack", "-F", check=False)


def remaps(net):
    for number in range(3):
        if number:
            time.sleep(20)
        remap(net)


def cable(net):
    pairs.run("ip", "link", "add", "l9", "netns", pairs.PREFIX + "r-a", "type", "veth", "peer", "name", "eth1", "netns", pairs.PREFIX + "a")
    pairs.inside("r-a", "ip", "link", "set", "l9", "master", "lan", "up")
    pairs.inside("a", "ip", "link", "set", "eth0", "down")
    pairs.inside("a", "ip", "addr", "add", "192.168.1.9/24", "dev", "eth1")
    pairs.inside("a", "ip", "link", "set", "eth1", "up")
    pairs.inside("a", "ip", "route", "replace", "default", "via", "192.168.1.1")


def blackhole(net):
    pairs.inside("inet", "nft", "-f", "-", text=f"""
table ip hole {{
  chain through {{ type filter hook forward priority filter;
    ip saddr {PUBLIC['a']} ip daddr {PUBLIC['b']} drop
    ip saddr {PUBLIC['b']} ip daddr {PUBLIC['a']} drop
  }}
}}
""")


def one(atoll, out, kind, name):
    out.mkdir(parents=True, exist_ok=True)
    (out / "text.txt").write_text("".join(f"home {number} of two homes whose lines change\n" for number in range(400)))
    (out / "job.yaml").write_text(JOB)
    net = pairs.Internet()
    everyone = {}
    try:
        build(net, kind)

        def start(who, *words):
            # What else this machine does is not looked at: arithmetic that gives way to it would not end.
            everyone[who] = pairs.Daemon(
                out, who, who, [str(atoll), *words], {"ATOLL_LIMIT_PRIORITY": "normal", "ATOLL_LIMIT_UNSEEN": "work"})

        invite = str(out / "invite.yaml")
        start("n1", "node", "--listen", f"{PUBLIC['n1']}:7070", "--data", str(out / "n1"), "--invite", invite, "--relay-up", "100", "--json")
        pairs.until(lambda: os.path.exists(invite) and os.path.getsize(invite) > 0, 20, "the first node makes no invite")
        start("n2", "node", "--listen", f"{PUBLIC['n2']}:7070", "--data", str(out / "n2"), "--join", invite, "--relay-up", "100", "--json")
        time.sleep(2)
        for home in ("a", "b"):
            start(home, "peer", "--invite", invite, "--data", str(out / home), "--name", home, "--listen", "0.0.0.0:7071", "--json")
        start("boss", "launch", str(out / "job.yaml"), "--invite", invite, "--out", str(out / "result"),
              "--peers", "2", "--events")
        pairs.until(lambda: len(events(out, "boss", "round_sealed")) >= 40, 60, f"{name}: no rounds are sealed; see {out}")
        # Paths have settled by then.
        time.sleep(8)
        path = way(everyone)
        happened = time.clock_gettime(time.CLOCK_BOOTTIME)
        if name == "relay":
            carrier = path.get("relayed_by")
            victim = next((who for who in ("n1", "n2") if (everyone[who].ask() or {}).get("id", "").startswith(carrier or "-")), None)
            if victim is None:
                return {"name": name, "kind": kind, "why": f"nobody carries the session: {path}"}
            # `ip netns exec` has become the daemon itself.
            everyone[victim].process.kill()
        else:
            {"renumber": renumber, "remap": remap, "remaps": remaps, "cable": cable, "blackhole": blackhole}[name](net)
        time.sleep(25)
        ended = time.clock_gettime(time.CLOCK_BOOTTIME)
        after = way(everyone)
        # Events are timed by the same clock.
        sealed = [event for event in events(out, "boss", "round_sealed") if event["at_s"] < ended]
        both = [event["at_s"] for event in sealed if event["pipelines"] == 2]
        earlier, later = [at for at in both if at < happened], [at for at in both if at >= happened]
        alone = sum(1 for event in sealed if event["pipelines"] < 2 and event["at_s"] >= happened)
        # When both ends had the session on another connection; a resumption over a relay is said by that name.
        moves = [min((event["at_s"] for kind in ("connection_resumed", "connection_relayed") for event in events(out, who, kind)
                      if event["peer"] == other and happened <= event["at_s"] < ended), default=None) for who, other in (("a", "b"), ("b", "a"))]
        moved = round(max(moves) - happened, 2) if None not in moves else None
        lost = {kind: len(found) for kind in LOSSES for found in [[e for who in ("boss", "a", "b") for e in events(out, who, kind)
                                                                        if kind != "connection_lost" or e["peer"] in ("a", "b")]] if found}
        return {
            "name": name, "kind": kind, "before": word(path), "after": word(after), "pause_seconds": longest(earlier[-1:] + later + [ended]),
            "usual_seconds": longest(earlier[10:]), "sealed_after": len(later), "alone_after": alone,
            "moved_seconds": moved, "lost": lost}
    finally:
        for daemon in everyone.values():
            daemon.end()
        for daemon in everyone.values():
            daemon.kill()
        net.remove()


def moving(row):
    return "the session stayed" if row["moved_seconds"] is None else f"the session had moved after {row['moved_seconds']:.2f} s"


def longest(moments):
    """The longest time between two."""
    return round(max((b - a for a, b in zip(moments, moments[1:])), default=0.0), 2)


def way(everyone):
    """How the first home's session with the second goes."""
    other = (everyone["b"].ask() or {}).get("id", "-")
    mine = (everyone["a"].ask() or {}).get("connections", [])
    return next((one for one in mine if other.startswith(one["peer"])), {})


def word(connection):
    if not connection:
        return "none"
    return connection["path"] + (" UDP" if connection.get("by_datagrams") else " TCP" if connection["path"] == "punched" else "")


def events(out, who, kind):
    found = []
    try:
        with open(out / f"{who}.log", encoding="utf-8") as log:
            for line in log:
                if f'"{kind}"' in line:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue
                    if event.get("kind") == kind:
                        found.append(event)
    except OSError:
        pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atoll")
    parser.add_argument("--kind", choices=["port-restricted", "symmetric", "datagrams"])
    parser.add_argument("--only", choices=["renumber", "remap", "remaps", "cable", "blackhole", "relay"])
    parser.add_argument("--json")
    parser.add_argument("--keep")
    options = parser.parse_args()
    atoll = pathlib.Path(options.atoll).resolve()
    rows = []
    for kind in [options.kind] if options.kind else ["port-restricted", "symmetric", "datagrams"]:
        names = ["renumber", "remap", "remaps", "cable"] + {"port-restricted": ["blackhole"], "symmetric": ["relay"], "datagrams": []}[kind]
        for name in names:
            if options.only not in (None, name):
                continue
            out = pathlib.Path(options.keep).resolve() / f"{kind}-{name}" if options.keep else pathlib.Path(tempfile.mkdtemp(prefix="atoll-changes-"))
            try:
                row = one(atoll, out, kind, name)
            finally:
                if not options.keep:
                    shutil.rmtree(out, ignore_errors=True)
            rows.append(row)
            print(f"{kind:16} {name:10} " + (row["why"] if "why" in row else
                  f"{row['before']:12} → {row['after']:12} {moving(row)}; no round of both for {row['pause_seconds']:5.2f} s (before at most {row['usual_seconds']:.2f} s), "
                  f"{row['sealed_after']} after it, {row['alone_after']} of one; lost: {', '.join(f'{key} × {value}' for key, value in row['lost'].items()) or 'nothing'}"), flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("changes.py makes network namespaces: it needs root")
    main()
