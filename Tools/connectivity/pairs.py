"""pairs.py ATOLL [--runs N] [--json FILE] [--keep FOLDER] : thirteen kinds of hosts, and how each two of them reach each other.

An internet of network namespaces, with two nodes in networks of their own (one at port 443) and a launcher, all of which can be dialled. Thirteen peers, each behind a
router of another kind, become members of one job at the same moment: then each wants a session with each other one, 78 pairs. Every daemon is asked once a second, by its
control socket, how its connections go. Printed is, for each pair, the path that it ended with, and after how long it was usable, and final: both as the daemons themselves
have timed it, from the moment in which the last of the two was told of the other. A cell is right where the path is one that docs/CONNECTIVITY.md allows for the two kinds.

Lines have no delay and no limit: only routers are looked at. Root, iproute2, nftables. Nothing touches this machine's network.
"""
import argparse
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PREFIX = f"atoll-pairs-{os.getpid()}-"
KINDS = {
    "full": "full cone", "port": "port-restricted", "lan": "the same home as port", "sym1": "symmetric", "sym2": "symmetric",
    "cgn1": "home behind a carrier's router", "cgn2": "another one behind the same", "addr": "address-restricted", "noudp": "no UDP leaves",
    "web": "only TCP to 80 and 443 leaves", "dual": "symmetric IPv4, IPv6 behind a firewall", "six": "IPv6 only, behind a firewall", "open": "public, IPv4 and IPv6",
}
# router: (public IPv4, masquerading, accepted from strangers before connection tracking's word, dropped on the way out)
ROUTERS = {
    "full": ("198.51.10.1", "", "any", ""), "port": ("198.51.11.1", "", "", ""), "sym1": ("198.51.12.1", "random,fully-random", "", ""),
    "sym2": ("198.51.13.1", "random,fully-random", "", ""), "addr": ("198.51.14.1", "", "seen", ""),
    "noudp": ("198.51.15.1", "", "", "iifname lan meta l4proto udp drop"),
    "web": ("198.51.16.1", "", "", "iifname lan meta l4proto udp drop; iifname lan tcp dport != { 80, 443 } drop"),
    "dual": ("198.51.17.1", "random,fully-random", "", ""),
}
SIX = {"dual": "2001:db8:17", "six": "2001:db8:18", "open": "2001:db8:20", "n1": "2001:db8:1", "n2": "2001:db8:2"}
PUBLIC = {"open": "198.51.20.1", "n1": "198.51.100.1", "n2": "203.0.113.1", "boss": "192.0.2.1"}
# Two machines behind one public address do not listen at the same port: nobody does who leaves the choice to the program.
PORTS = {"lan": 7072, "cgn2": 7073}
PORT = 7071


def expected(a, b):
    """The paths that are right for two kinds; the best first."""
    pair = {a, b}
    if pair == {"port", "lan"}:
        return ["direct"]
    if "web" in pair:
        return ["relayed"]
    if "six" in pair:
        return ["direct"] if "open" in pair else ["punched", "direct"] if "dual" in pair else ["relayed"]
    if pair & {"open", "full"}:
        # An introduction may be faster than the second address that is tried.
        return ["direct", "punched"]
    if pair == {"cgn1", "cgn2"}:
        return ["relayed"]
    if pair & {"sym1", "sym2", "dual"}:
        # Of a router that lets in whoever has an address that was written to the other end may be reached all the same.
        return ["punched", "direct", "relayed"] if "addr" in pair else ["relayed"]
    return ["punched", "direct"]


def run(*words, check=True, text=None):
    done = subprocess.run(words, check=False, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stdout}")
    return done


def inside(space, *words, **options):
    return run("ip", "netns", "exec", PREFIX + space, *words, **options)


class Internet:
    """Namespaces; what it makes it takes away."""

    def __init__(self):
        self.spaces = []

    def space(self, name, forwards=False):
        run("ip", "netns", "add", PREFIX + name)
        self.spaces.append(name)
        inside(name, "ip", "link", "set", "lo", "up")
        if forwards:
            inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def line(self, space, upstream, four=None, six=None):
        """From a space to the one that gives it its addresses."""
        far = f"p-{space}"
        run("ip", "link", "add", "wan", "netns", PREFIX + space, "type", "veth", "peer", "name", far, "netns", PREFIX + upstream)
        for where, device in ((space, "wan"), (upstream, far)):
            inside(where, "sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
            inside(where, "ip", "link", "set", device, "up")
        if four:
            inside(upstream, "ip", "addr", "add", "169.254.0.1/32", "dev", far)
            inside(upstream, "ip", "route", "add", f"{four}/32", "dev", far)
            inside(space, "ip", "addr", "add", f"{four}/32", "dev", "wan")
            inside(space, "ip", "route", "add", "169.254.0.1/32", "dev", "wan")
            inside(space, "ip", "route", "add", "default", "via", "169.254.0.1", "dev", "wan", "onlink")
        if six:
            inside(upstream, "ip", "-6", "addr", "add", "fe80::1/64", "dev", far, "nodad")
            inside(space, "ip", "-6", "addr", "add", "fe80::2/64", "dev", "wan", "nodad")
            inside(upstream, "ip", "-6", "route", "add", f"{six}::/48", "via", "fe80::2", "dev", far)
            inside(space, "ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "wan")

    def home(self, router, hosts, net=None, six=None):
        inside(router, "ip", "link", "add", "lan", "type", "bridge")
        inside(router, "sysctl", "-qw", "net.ipv6.conf.lan.accept_dad=0")
        inside(router, "ip", "link", "set", "lan", "up")
        for number, host in enumerate(hosts, 2):
            self.space(host)
            run("ip", "link", "add", f"l{number}", "netns", PREFIX + router, "type", "veth", "peer", "name", "eth0", "netns", PREFIX + host)
            inside(router, "ip", "link", "set", f"l{number}", "master", "lan", "up")
            inside(host, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
            inside(host, "ip", "link", "set", "eth0", "up")
            if net:
                inside(host, "ip", "addr", "add", f"{net}.{number}/24", "dev", "eth0")
            if six:
                inside(host, "ip", "-6", "addr", "add", f"{six}:1::{number}/64", "dev", "eth0", "nodad")
        if net:
            inside(router, "ip", "addr", "add", f"{net}.1/24", "dev", "lan")
        if six:
            inside(router, "ip", "-6", "addr", "add", f"{six}:1::1/64", "dev", "lan", "nodad")
        for host in hosts:
            if net:
                inside(host, "ip", "route", "add", "default", "via", f"{net}.1")
            if six:
                inside(host, "ip", "-6", "route", "add", "default", "via", f"{six}:1::1")

    def firewall(self, router, ports, lets_in, host, drops):
        """As a home router: translates IPv4, lets answers in, and whoever `lets_in` says besides."""
        before = ""
        if lets_in == "any":
            before = f"iifname wan tcp dport 1024-65535 dnat ip to {host}; iifname wan udp dport 1024-65535 dnat ip to {host}"
        elif lets_in == "seen":
            before = "; ".join(f"iifname wan ip saddr @seen {name} dport 1024-65535 dnat ip to {host}" for name in ("tcp", "udp"))
        inside(router, "nft", "-f", "-", text=f"""
table inet home {{
  set seen {{ type ipv4_addr; flags dynamic, timeout; timeout 120s; }}
  chain before {{ type nat hook prerouting priority dstnat;
    {before}
  }}
  chain after {{ type nat hook postrouting priority srcnat;
    meta nfproto ipv4 oifname wan masquerade {ports}
  }}
  chain through {{ type filter hook forward priority filter; policy drop;
    {drops}
    oifname wan ip daddr != 0.0.0.0 update @seen {{ ip daddr }}
    ct state established,related accept
    icmpv6 type {{ packet-too-big, destination-unreachable, time-exceeded }} accept
    iifname lan accept
    ct status dnat accept
  }}
  chain inside {{ type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname {{ lan, lo }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
  }}
}}
""")

    def build(self):
        self.space("inet", forwards=True)
        for name in ("n1", "n2", "boss", "open"):
            self.space(name)
            self.line(name, "inet", PUBLIC[name], SIX.get(name))
            if name in SIX:
                inside(name, "ip", "-6", "addr", "add", f"{SIX[name]}::1/128", "dev", "wan", "nodad")
        inside("n2", "ip", "link", "set", "dev", "wan", "up")
        for number, (name, (address, ports, lets_in, drops)) in enumerate(ROUTERS.items(), 1):
            router, net = f"r-{name}", f"192.168.{number}"
            self.space(router, forwards=True)
            self.line(router, "inet", address, SIX.get(name))
            self.home(router, ["port", "lan"] if name == "port" else [name], net, SIX.get(name))
            self.firewall(router, ports, lets_in, f"{net}.2", drops)
        self.space("r-six", forwards=True)
        self.line("r-six", "inet", None, SIX["six"])
        self.home("r-six", ["six"], None, SIX["six"])
        self.firewall("r-six", "", "", "", "")
        # A carrier with two homes, between which it forwards nothing.
        self.space("carrier", forwards=True)
        self.line("carrier", "inet", "198.51.19.1")
        for number, name in enumerate(("cgn1", "cgn2"), 1):
            self.space(f"r-{name}", forwards=True)
            self.line(f"r-{name}", "carrier", f"100.64.0.{number + 1}")
            self.home(f"r-{name}", [name], f"192.168.{20 + number}")
            self.firewall(f"r-{name}", "", "", "", "")
        inside("carrier", "nft", "-f", "-", text="""
table ip home {
  chain after { type nat hook postrouting priority srcnat;
    oifname wan masquerade
  }
  chain through { type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "p-*" oifname wan accept
  }
}
""")

    def remove(self):
        for name in self.spaces:
            run("ip", "netns", "del", PREFIX + name, check=False)


class Daemon:
    """A program of ours in a space, and the line to it."""

    def __init__(self, out, name, space, words, environment=None):
        self.name, self.folder = name, out / name
        self.log = open(out / f"{name}.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", PREFIX + space, *words], stdout=self.log, stderr=subprocess.STDOUT, cwd=out,
            env={**os.environ, **(environment or {})})
        self.line = None

    def ask(self):
        """Its status, nil while it has none to give."""
        try:
            if self.line is None:
                line = socket.socket(socket.AF_UNIX)
                line.settimeout(2)
                line.connect(str(self.folder / "control"))
                self.line = line.makefile("rwb")
            self.line.write(b'{"command":"status"}\n')
            self.line.flush()
            answer = json.loads(self.line.readline())
            return answer.get("status", {}).get("daemon")
        except (OSError, ValueError):
            self.line = None
            return None

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self):
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


JOB = """name: pairs
model: {architecture: llama, hidden_size: 32, layers: 2, heads: 4, kv_heads: 2, intermediate_size: 64, context: 32, tokenizer: byte}
data: {path: text.txt, validation_fraction: 0.1}
train: {tokens: 100_000_000, batch_tokens: 256, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
parallel: {virtual_pipelines: 2, micro_batch: 2, pipelines: 2, stages: 1, inner_steps: 64}
exchange: {codec: int8, quality_budget: 10}
activations: {codec: fp32}
electors: 1
"""


class Watch:
    """What daemons said of their connections at last."""

    def __init__(self, daemons):
        self.daemons = daemons
        self.begun = time.monotonic()
        # By name: when it was offered the job, and what it said last.
        self.told, self.last = {}, {}

    def look(self):
        for name, daemon in self.daemons.items():
            status = daemon.ask()
            if not status:
                continue
            self.last[name] = status
            if (status.get("member") or {}).get("state") == "working":
                self.told.setdefault(name, time.monotonic() - self.begun)

    def ends(self, pair):
        """What each of the two says of its connection with the other."""
        found = []
        for name, other in (pair, pair[::-1]):
            peer = self.last.get(other, {}).get("id", "-")
            found += [one for one in self.last.get(name, {}).get("connections", []) if peer.startswith(one["peer"])]
        return found

    def path(self, pair):
        ends = self.ends(pair)
        if not ends:
            return None
        # Who accepted the other's dial may not know that it was agreed on.
        path = "punched" if any(one["path"] == "punched" for one in ends) else ends[0]["path"]
        return path + (" UDP" if ends[0].get("by_datagrams") else " TCP" if path == "punched" else "")

    def seconds(self, pair, key):
        """After both were told of each other: whoever was told last has waited least."""
        return min((one[key] for one in self.ends(pair) if key in one), default=None)


def one(atoll, out, seconds):
    out.mkdir(parents=True, exist_ok=True)
    (out / "text.txt").write_text("".join(f"pair {number} of a home and another home\n" for number in range(400)))
    (out / "job.yaml").write_text(JOB)
    net = Internet()
    everyone = []
    try:
        net.build()

        def start(name, space, *words):
            daemon = Daemon(out, name, space, [str(atoll), *words])
            everyone.append(daemon)
            return daemon

        invite = str(out / "invite.yaml")
        start("n1", "n1", "node", "--listen", "[::]:443", "--advertise", f"{PUBLIC['n1']}:443", "--data", str(out / "n1"), "--invite", invite,
              "--relay-up", "100", "--json")
        until(lambda: os.path.exists(invite) and os.path.getsize(invite) > 0, 20, "the first node makes no invite")
        start("n2", "n2", "node", "--listen", "[::]:7070", "--data", str(out / "n2"), "--join", invite, "--relay-up", "100", "--json")
        time.sleep(2)
        peers = {}
        for name in KINDS:
            listen = ("[::]" if name in SIX else "0.0.0.0") + f":{PORTS.get(name, PORT)}"
            peers[name] = start(name, name, "peer", "--invite", invite, "--data", str(out / name), "--name", name, "--listen", listen, "--json")
        watch = Watch(peers)
        # Whoever can be met has its berths, or was dialled back, by then.
        settled = time.monotonic() + 20
        while time.monotonic() < settled:
            watch.look()
            time.sleep(1)
        watch.begun = time.monotonic()
        start("boss", "boss", "launch", str(out / "job.yaml"), "--invite", invite, "--out", str(out / "result"),
              "--peers", str(len(KINDS)), "--events")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            begun = time.monotonic()
            watch.look()
            time.sleep(max(0.0, 1 - (time.monotonic() - begun)))
        return watch
    finally:
        for daemon in reversed(everyone):
            daemon.end()
        for daemon in everyone:
            daemon.kill()
        net.remove()


def until(condition, seconds, why):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(why)
        time.sleep(0.1)


def p95(values):
    values = sorted(values)
    return values[min(len(values) - 1, int(0.95 * len(values)))] if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atoll")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40, help="that a run is watched after the launch begins")
    parser.add_argument("--json")
    parser.add_argument("--keep", help="a folder for everybody's logs")
    options = parser.parse_args()
    atoll = pathlib.Path(options.atoll).resolve()
    cells = {pair: [] for pair in itertools.combinations(KINDS, 2)}
    for number in range(options.runs):
        out = pathlib.Path(options.keep).resolve() / str(number) if options.keep else pathlib.Path(tempfile.mkdtemp(prefix="atoll-pairs-"))
        try:
            watch = one(atoll, out, options.seconds)
            for pair in cells:
                cells[pair].append({
                    "path": watch.path(pair), "usable_seconds": watch.seconds(pair, "usable_after_seconds"),
                    "final_seconds": watch.seconds(pair, "path_after_seconds")})
            outside = [name for name in KINDS if name not in watch.told]
            print(f"run {number + 1}: {sum(1 for pair in cells if watch.path(pair))} of {len(cells)} pairs have a session"
                  + (f"; not in the job: {', '.join(outside)}" if outside else "")
                  + "; had the job's offer after " + ", ".join(f"{name} {watch.told[name]:.0f} s" for name in KINDS if name in watch.told), flush=True)
            if options.keep:
                (out / "status.json").write_text(json.dumps(watch.last, indent=1))
        finally:
            if not options.keep:
                shutil.rmtree(out, ignore_errors=True)
    report(cells)
    if options.json:
        found = [{"pair": list(pair), "allowed": expected(*pair), "runs": runs} for pair, runs in cells.items()]
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


def report(cells):
    right = 0
    print(f"{'pair':14} {'allowed':26} {'came out':26} usable  final, s (the slowest run)")
    for (a, b), runs in cells.items():
        came = sorted({run["path"] or "none" for run in runs})
        good = all(run["path"] and run["path"].split()[0] in expected(a, b) for run in runs)
        right += good

        def slowest(key):
            values = [run[key] for run in runs if run[key] is not None]
            return f"{max(values):6.2f}" if values else "     –"

        print(f"{a + '–' + b:14} {', '.join(expected(a, b)):26} {', '.join(came):26} {slowest('usable_seconds')} {slowest('final_seconds')}{'' if good else '  ✗'}")
    for key in ("usable_seconds", "final_seconds"):
        values = [run[key] for runs in cells.values() for run in runs if run[key] is not None]
        if values:
            print(f"{key.split('_')[0]}: p50 {sorted(values)[len(values) // 2]:.2f} s, p95 {p95(values):.2f} s, at most {max(values):.2f} s, of {len(values)}")
    print(f"{right} of {len(cells)} cells right in every run")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("pairs.py makes network namespaces: it needs root")
    main()
