#!/usr/bin/env python3
"""Mixed networks of `atoll node` and libtorrent nodes on loopback: each writes, each reads, both ways.

    interop.py ATOLL [--rounds 20] [--atoll 6] [--libtorrent 6] [--json]

Our nodes are driven through `atoll node --commands`, in the last round through the tools too. Every round writes an immutable item, a mutable one (salted, then updated) and an announcement from each side, and reads
each from the other side and from its own. Needs the PyPI package libtorrent; without it, it says so and ends with 0.
Exit status 1 when any operation failed.
"""
import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import libtorrent as lt
except ImportError:
    print("libtorrent is not installed (pip install libtorrent): interop was not tried")
    sys.exit(0)


class Foreign:
    """One libtorrent DHT node on loopback, everything but the DHT off."""

    def __init__(self):
        self.session = lt.session({
            "listen_interfaces": "127.0.0.1:0", "enable_dht": True, "enable_lsd": False, "enable_upnp": False,
            "enable_natpmp": False, "dht_bootstrap_nodes": "", "alert_mask": lt.alert.category_t.dht_notification
            | lt.alert.category_t.dht_operation_notification, "alert_queue_size": 50_000,
            # All nodes share one address here.
            "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False, "dht_block_ratelimit": 1_000_000,
            "dht_upload_rate_limit": 100_000_000,
        })
        while not self.session.listen_port():
            time.sleep(0.01)
        self.port = self.session.listen_port()

    def expect(self, judge, seconds):
        """The first true result of judge(alert), or None."""
        end = time.time() + seconds
        while time.time() < end:
            for alert in self.session.pop_alerts():
                result = judge(alert)
                if result:
                    return result
            self.session.wait_for_alert(50)
        return None

    def put(self, text):
        target = self.session.dht_put_immutable_item(text.encode())
        stored = self.expect(lambda a: isinstance(a, lt.dht_put_alert) and a.num_success, 30)
        return str(target), bool(stored)

    def get(self, target):
        self.session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(target)))
        return text_of(self.expect(lambda a: isinstance(a, lt.dht_immutable_item_alert) and (a.item,), 30))

    def put_mutable(self, key, text, salt):
        self.session.dht_put_mutable_item(key.expanded, key.public, text.encode(), salt.encode())
        return bool(self.expect(lambda a: isinstance(a, lt.dht_put_alert) and a.num_success, 30))

    def get_mutable(self, public, salt):
        self.session.dht_get_mutable_item(public, salt.encode())
        return text_of(self.expect(
            lambda a: isinstance(a, lt.dht_mutable_item_alert) and a.authoritative and (a.item,), 30))

    def announce(self, info_hash, port):
        self.session.dht_announce(lt.sha1_hash(bytes.fromhex(info_hash)), port, 0)

    def peers(self, info_hash, seconds):
        self.session.dht_get_peers(lt.sha1_hash(bytes.fromhex(info_hash)))
        found = self.expect(
            lambda a: isinstance(a, lt.dht_get_peers_reply_alert) and a.num_peers() and (a.peers(),), seconds)
        return [peer[1] for peer in found[0]] if found else []


def text_of(found):
    item = found[0] if found else None
    if isinstance(item, dict):
        item = item.get("value", item.get("v"))
    if isinstance(item, str):
        return item
    return item.decode("utf8", "replace") if item else None


class Key:
    """A key file as `atoll node put --key` reads it, and the form that libtorrent wants."""

    def __init__(self, folder, number, native):
        self.path = os.path.join(folder, f"key-{number}")
        seed = os.urandom(32)
        with open(self.path, "w") as file:
            file.write(seed.hex() + "\n")
        digest = bytearray(hashlib.sha512(seed).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        self.expanded = bytes(digest)
        # Any signed put tells the public key.
        made = native.run("put", "key", "--key", self.path, "--salt", "key")
        self.public = bytes.fromhex(made["key"])


class Native:
    """One `atoll node`, driven through its standard input (--commands)."""

    def __init__(self, atoll, folder, bootstrap):
        command = [atoll, "node", "--commands", "--pool", "mainline", "--listen", "127.0.0.1:0", "--data", folder]
        if bootstrap:
            command += ["--bootstrap", *bootstrap]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        assert line[0] == "listening" and line[2] == "id", line
        self.endpoint = line[1]

    def run(self, *words):
        self.process.stdin.write(" ".join(shlex.quote(word) for word in words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Tools:
    """`atoll node put` and its like: a process for each operation, gone afterwards."""

    def __init__(self, atoll, bootstrap):
        self.atoll, self.bootstrap = atoll, bootstrap

    def run(self, *words):
        command = [self.atoll, "node", *words, "--json", "--pool", "mainline", "--bootstrap", *self.bootstrap]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout) if done.stdout.strip() else {}


class Tally:
    def __init__(self):
        self.rows = {}

    def add(self, name, good, seconds):
        row = self.rows.setdefault(name, [0, 0, []])
        row[0] += bool(good)
        row[1] += 1
        row[2].append(seconds * 1000)

    def timed(self, name, action, judge):
        start = time.time()
        result = action()
        self.add(name, judge(result), time.time() - start)
        return result


def run_rounds(natives, tools, foreigners, rounds, folder):
    tally, chance = Tally(), random.Random(7)
    for number in range(rounds):
        # Each round asks two of our nodes; the last one also the tools, which come and go.
        native, second = chance.sample(natives, 2)
        if number == rounds - 1:
            second = tools
        start = time.time()
        writer, reader, other = chance.sample(foreigners, 3) if len(foreigners) > 2 else foreigners * 3
        text = f"value {number} " + "x" * chance.choice([0, 150, 900])

        def same(got, wanted):
            return (got.get("text") if isinstance(got, dict) else got) == wanted

        target, stored = tally.timed("libtorrent puts immutable", lambda: writer.put("lt " + text), lambda r: r[1])
        tally.timed("  atoll gets it", lambda: second.run("get", target), lambda r: same(r, "lt " + text))
        tally.timed("  libtorrent gets it", lambda: reader.get(target), lambda r: same(r, "lt " + text))
        put = tally.timed("atoll puts immutable", lambda: native.run("put", "at " + text),
                          lambda r: r.get("replicas", 0) > 0)
        tally.timed("  libtorrent gets its", lambda: reader.get(put["target"]), lambda r: same(r, "at " + text))
        tally.timed("  atoll gets its", lambda: second.run("get", put["target"]), lambda r: same(r, "at " + text))

        key, salt = Key(folder, number, native), chance.choice(["", "cap", "s" * 64])
        for version in (1, 2):
            value = f"lt {number} v{version}"
            tally.timed("libtorrent puts mutable", lambda: writer.put_mutable(key, value, salt), bool)
            tally.timed("  atoll gets that", lambda: second.run("get", "--key", key.public.hex(), "--salt", salt),
                        lambda r: same(r, value))
            tally.timed("  libtorrent gets that", lambda: other.get_mutable(key.public, salt),
                        lambda r: same(r, value))
            value = f"at {number} v{version}"
            tally.timed("atoll puts mutable",
                        lambda: native.run("put", value, "--key", key.path, "--salt", salt),
                        lambda r: r.get("replicas", 0) > 0)
            tally.timed("  libtorrent gets this", lambda: reader.get_mutable(key.public, salt),
                        lambda r: same(r, value))
            tally.timed("  atoll gets this", lambda: second.run("get", "--key", key.public.hex(), "--salt", salt),
                        lambda r: same(r, value))

        for side in ("libtorrent", "atoll"):
            info_hash, port = hashlib.sha1(f"{side} {number}".encode()).hexdigest(), 4000 + number
            if side == "atoll":
                tally.timed("atoll announces", lambda: native.run("announce", info_hash, "--port", str(port)),
                            lambda r: r.get("replicas", 0) > 0)
            else:
                writer.announce(info_hash, port)

            def until(read):
                """libtorrent does not say when its announcement has arrived: ask again for a while."""
                end = time.time() + 10
                while time.time() < end:
                    if port in read():
                        return True
                    time.sleep(0.02)
                return False

            # libtorrent announces the port it listens on when it knows better than the one it is given.
            tally.timed(f"  atoll finds {side}'s peers",
                        lambda: until(lambda: [int(p.rsplit(":", 1)[1])
                                               for p in second.run("peers", info_hash).get("peers", [])]), bool)
            tally.timed(f"  libtorrent finds {side}'s peers",
                        lambda: until(lambda: reader.peers(info_hash, 0.3)), bool)
        print(f"round {number + 1} of {rounds}: {time.time() - start:.1f} s", file=sys.stderr, flush=True)
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atoll_program", metavar="ATOLL")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--atoll", type=int, default=6)
    parser.add_argument("--libtorrent", type=int, default=6)
    parser.add_argument("--warm", type=float, default=25, help="longest wait for libtorrent's tables, s")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="atoll-interop-")
    foreigners = [Foreign() for _ in range(options.libtorrent)]
    natives = []
    try:
        own = [f"127.0.0.1:{node.port}" for node in foreigners]
        for number in range(options.atoll):
            known = [native.endpoint for native in natives[:2]] + own[:2]
            natives.append(Native(options.atoll_program, os.path.join(folder, f"node-{number}"), known))
        for node in foreigners:
            for endpoint in [native.endpoint for native in natives[:3]] + own[:2]:
                host, port = endpoint.rsplit(":", 1)
                if int(port) != node.port:
                    node.session.add_dht_node((host, int(port)))
        # libtorrent adds a node to its table every five seconds or so.
        time.sleep(options.warm)
        tools = Tools(options.atoll_program, [native.endpoint for native in natives[:2]])
        tally = run_rounds(natives, tools, foreigners, options.rounds, folder)
    finally:
        for native in natives:
            native.process.send_signal(signal.SIGINT)
        for native in natives:
            native.process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)

    good = sum(row[0] for row in tally.rows.values())
    total = sum(row[1] for row in tally.rows.values())
    if options.json:
        print(json.dumps({name: {"ok": ok, "n": n, "p50_ms": statistics.median(times)}
                          for name, (ok, n, times) in tally.rows.items()}))
    else:
        for name, (ok, n, times) in tally.rows.items():
            print(f"{name:40} {ok:4} of {n:<4} p50 {statistics.median(times):8.1f} ms")
        print(f"{options.atoll} atoll and {options.libtorrent} libtorrent {lt.__version__} nodes, {options.rounds} rounds: "
              f"{good} of {total} operations, {100 * good / total:.1f} % (goal 100 %; libtorrent with itself 100 %)")
    sys.stdout.flush()
    os._exit(0 if good == total else 1)  # libtorrent's own shutdown takes many seconds


if __name__ == "__main__":
    main()
