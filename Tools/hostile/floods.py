#!/usr/bin/env python3
"""Floods against a launcher and peers that train: what it costs them in memory, and whether the job still ends well.

    floods.py ATOLL [--only NAME,…] [--tokens N] [--seconds S] [--keep]

Each flood strikes a pool of its own, from before the job begins until it ends or for S seconds. Printed are the most memory that the
launcher and the first peer took, above what they take undisturbed, the rounds sealed, and how the launcher ended. Exit status 1 when
one of them took more than 64 MiB more, or the job did not end well.
"""
import argparse
import hashlib
import os
import random
import select
import socket
import struct
import sys
import time

import overlay
import swarm
from pool import Pool
from swarm import ACTIVATIONS, BULK, CONTROL, EXCHANGE, Closed, Identity, Link, Member, TLSStream

GOAL_MIB = 64


class Flood:
    """Steps until it is told to stop. `said` is what it has sent, in units of its own."""
    unit = "messages"

    def __init__(self, pool, numerics):
        self.pool, self.numerics, self.said = pool, numerics, 0
        self.launcher = ("127.0.0.1", pool.port)
        self.peer = ("127.0.0.1", pool.ports[0])

    def step(self):
        time.sleep(0.05)

    def close(self):
        pass


class Undisturbed(Flood):
    """Nothing."""


class HalfOpen(Flood):
    """200 connections without TLS and 100 without a hello, to launcher and peer; those turned away come back."""
    unit = "connections"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.open, self.identity = [], Identity()

    def step(self):
        self.open = [c for c in self.open if not self.is_over(c)]
        for address in (self.launcher, self.peer):
            for tls, most in ((False, 200), (True, 100)):
                missing = most - sum(c[0] == address and c[1] == tls for c in self.open)
                for _ in range(min(missing, 20)):
                    try:
                        made = TLSStream(self.identity, address, 1) if tls else socket.create_connection(address, 1)
                    except (OSError, Closed):
                        break
                    self.open.append((address, tls, made))
                    self.said += 1
        time.sleep(0.05)

    @staticmethod
    def is_over(connection):
        made = connection[2].socket if connection[1] else connection[2]
        ready, _, _ = select.select([made], [], [], 0) if made.fileno() >= 0 else ([made], 0, 0)
        if not ready:
            return False
        try:
            if made.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) and connection[1]:
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        connection[2].close()
        return True

    def close(self):
        for _, _, made in self.open:
            made.close()


class OfLinks(Flood):
    """Floods by members of the pool, each over a link of its own; who is turned out comes back as somebody else."""
    links_each = 1

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.links = []

    def step(self):
        for address in (self.launcher, self.peer):
            if sum(a == address for a, _ in self.links) < self.links_each:
                try:
                    self.links.append((address, self.connect(address)))
                except (OSError, Closed):
                    time.sleep(0.02)
        for entry in list(self.links):
            try:
                entry[1].poll(0.002)
                if entry[1].is_open:
                    self.speak(entry[1])
            except (OSError, Closed):
                entry[1].close()
                self.links.remove(entry)

    def connect(self, address):
        return Link(Identity(), self.pool.pool_key, address)

    def speak(self, link):
        raise NotImplementedError

    def close(self):
        for _, link in self.links:
            link.close()


class LongMessages(OfLinks):
    """Six connections to each announce messages of 64 MiB, and send as much of them as they may, one byte a step after 4 MiB."""
    links_each, unit = 6, "bytes"

    def speak(self, link):
        state = link.__dict__.setdefault("spent", 0)
        if state == 0:
            for channel in (ACTIVATIONS, EXCHANGE, BULK):
                link.put(struct.pack("<I", 64 << 20), channel)
        if link.backlog < 1 << 18:
            size = 1 << 18 if state < 12 << 20 else 1
            for channel in (ACTIVATIONS, EXCHANGE, BULK):
                link.put(bytes(size), channel)
            link.spent += 3 * size
            self.said += 3 * size


class EmptyMessages(OfLinks):
    """Messages of no bytes, and of a packet of none, as fast as they are taken."""

    def speak(self, link):
        if link.backlog < 1 << 18:
            link.put(struct.pack("<I", 0) * 10_000 + struct.pack("<II", 4, 0) * 10_000)
            self.said += 20_000


class Pings(OfLinks):
    """Questions that have long answers or many, and nobody who takes the answers."""

    def connect(self, address):
        return Link(Identity(), self.pool.pool_key, address, credit={c: 0 for c in range(4)})

    def speak(self, link):
        if link.backlog < 1 << 18:
            for n in range(2000):
                link.packet("ping", {"nonce": n})
                link.packet("capability_request", {})
                self.said += 2


class Newcomers(OfLinks):
    """One new key after the other, each with the longest name, that goes at once and never comes back."""
    links_each, unit = 4, "keys"

    def speak(self, link):
        link.packet("capability", {"name": "n" * 500_000, "device": "d" * 500_000, "memory_bytes": 1 << 40, "flops": 1e12,
                                   "numerics": self.numerics, "accepts": [os.urandom(32)] * 200})
        self.said += 1
        if link.__dict__.setdefault("turns", 0) > 3:
            raise Closed("enough")
        link.turns += 1


class OfMembers(Flood):
    """Floods by one who is let into the job, and comes back when it is sent away."""
    credit = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.member, self.beside, self.turn = None, None, 0

    def step(self):
        try:
            if self.member is None:
                self.member = Member(self.pool.pool_key, self.launcher, self.numerics, credit=self.credit)
            self.member.step(0.005)
            if self.member.job:
                if self.beside is None:
                    self.beside = Link(self.member.identity, self.pool.pool_key, self.peer, self.credit)
                self.beside.poll(0)
                self.turn += 1
                if self.member.link.backlog < 1 << 19:
                    self.speak(self.member.report)
                if self.beside.is_open and self.beside.backlog < 1 << 19:
                    self.speak(lambda kind, body, payload=b"": self.beside.packet(
                        kind, body, job=self.member.job, term=self.member.term, payload=payload))
        except (OSError, Closed):
            self.close()
            self.member = self.beside = None

    def close(self):
        for link in (self.member and self.member.link, self.beside):
            if link:
                link.close()

    def speak(self, report):
        raise NotImplementedError


class Requests(OfMembers):
    """Requests for all of the text, for its index and for states, whose answers are not taken."""
    credit = {BULK: 0}

    def speak(self, report):
        content = self.member.log[0]["genesis"]["content"]
        for n in range(300):
            report("chunk_request", {"content": content, "chunk": n % 2})
            report("index_request", {"content": content, "first": 0})
            report("state_request", {"round": n, "units": list(range(6)), "moments": True})
            report("log_request", {"from": 0})
            self.said += 4


class EarlyWork(OfMembers):
    """Work for rounds and steps that are to come, from pipelines that are not its own."""

    def speak(self, report):
        for n in range(40):
            work = {"round": self.turn % 50 + n, "rank": n % 4, "attempt": n % 3}
            report("norms", {"work": work, "step": self.turn + n, "stage": n % 2, "sum_squares": [1.0] * 2000})
            report("activation", {"work": work, "step": self.turn + n, "virtual_pipeline": n % 4, "index": n,
                                  "checksum": bytes(8)}, payload=bytes(32_768))
            report("exchange_part", {"work": work, "epoch": n % 3, "version": 0,
                                     "chunks": [{"unit": n % 6, "chunk": n, "bytes": 16_384}]}, payload=bytes(16_384))
            self.said += 3


class LongReports(OfMembers):
    """Reports with as many entries as a message holds, and texts as long."""

    def speak(self, report):
        stranger = os.urandom(32)
        report("probe_result", {
            "turn": 1, "round_trips": [{"peer": stranger, "nanoseconds": 1}] * 9000,
            "arrivals": [{"sender": stranger, "bytes": 1, "nanoseconds": 1 << 62}] * 9000})
        report("applied", {"round": self.turn, "units": [
            {"unit": n, "parameters": stranger, "outer_momentum": stranger} for n in range(9000)]})
        report("gathered", {"round": self.turn, "epoch": 1, "aggregates": [{"unit": n, "digest": stranger} for n in range(9000)]})
        report("held", {"round": self.turn, "digests": [{"unit": n, "digest": stranger} for n in range(9000)]})
        report("objection", {"work": {"round": self.turn}, "why": "w" * 900_000})
        self.said += 5


class Receipts(OfMembers):
    """Receipts, rightly signed, of rounds that never were, with as many digests as a message holds."""

    def speak(self, report):
        for n in range(10):
            body = swarm.SCHEMA.encode("Work", {
                "work": {"round": self.turn * 10 + n, "rank": n % 4, "attempt": n}, "stage": 0, "micro_batches": 1 << 30,
                "tokens": 1 << 40, "loss_sum": 1.0, "flops": 1e12, "exchange_bytes": 1 << 40,
                "chunks": [{"unit": u, "digest": bytes(8)} for u in range(4000)]})
            envelope = self.member.identity.envelope(
                "receipt", self.member.job, body, expiry=int(time.time()) + 3600 if n % 2 else 0)
            report("receipt", {"envelope": envelope})
            self.said += 1


class Chatter(OfMembers):
    """Heartbeats and readiness, each another one, as fast as they are taken."""

    def speak(self, report):
        for n in range(1000):
            report("heartbeat", {"log_length": n, "round": n, "step": self.turn, "sent_bytes": 1 << 49,
                                 "activity": {"kind": n % 10, "have": n, "total": 1 << 40}})
            report("readiness", {"state": n % 4, "epoch": n, "round": n})
            self.said += 2


class InventedPeers(Flood):
    """Eight nodes of the overlay that know of a hundred new peers at every question; all invented addresses are loopback's."""
    unit = "answers"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        towards = [("127.0.0.1", p) for p in (self.pool.node_port, self.pool.port, *self.pool.ports)]
        self.nodes = [overlay.Liar(f"127.0.7.{n + 1}", self.pool.pool_key, towards, n) for n in range(8)]

    def step(self):
        for node in self.nodes:
            node.step()
        self.said = sum(node.answered for node in self.nodes)
        time.sleep(0.01)

    def close(self):
        for node in self.nodes:
            node.socket.close()


FLOODS = {kind.__name__: kind for kind in (
    Undisturbed, HalfOpen, LongMessages, EmptyMessages, Pings, Newcomers, Requests, EarlyWork, LongReports, Receipts, Chatter,
    InventedPeers)}


def strike(kind, arguments):
    pool = Pool(arguments.atoll, tokens=arguments.tokens)
    flood = None
    try:
        end = time.monotonic() + 20
        while True:
            try:
                numerics = swarm.capability_of(pool.pool_key, ("127.0.0.1", pool.ports[0]))["numerics"]
                break
            except (OSError, Closed):
                if time.monotonic() > end:
                    raise SystemExit("the first peer does not answer:\n" + pool.peers[0].said)
                time.sleep(0.2)
        flood = kind(pool, numerics)
        pool.launch()
        began = time.monotonic()
        code = pool.wait(arguments.seconds, flood.step)
        took = time.monotonic() - began
        rounds = pool.launcher.said.count("\nround ")
        alive = all(peer.is_alive for peer in pool.peers)
        return {"code": code, "seconds": took, "rounds": rounds, "alive": alive, "said": flood.said, "unit": flood.unit,
                "launcher": pool.peaks.get("launch", 0), "peer": pool.peaks.get("p0", 0), "folder": pool.folder,
                "node": pool.peaks.get("node", 0)}
    finally:
        if flood:
            flood.close()
        pool.close(arguments.keep)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atoll")
    parser.add_argument("--only", default=",".join(FLOODS))
    parser.add_argument("--tokens", type=int, default=600_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--keep", action="store_true", help="keep the folders, and say where they are")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    for name in names:
        if name not in FLOODS:
            parser.error(f"no flood {name}; there are {', '.join(FLOODS)}")
    normal = strike(Undisturbed, arguments)
    print(f"undisturbed: launcher {normal['launcher']:.0f} MiB, peer {normal['peer']:.0f} MiB, {normal['rounds']} rounds in "
          f"{normal['seconds']:.0f} s, exit {normal['code']}\n")
    print(f"{'flood':16}{'launcher':>10}{'peer':>10}{'rounds':>8}{'seconds':>9}  exit")
    bad = normal["code"] != 0
    for name in names:
        if name == "Undisturbed":
            continue
        got = strike(FLOODS[name], arguments)
        more = [got[who] - normal[who] for who in ("launcher", "peer")]
        wrong = max(more) > GOAL_MIB or got["code"] != 0 or not got["alive"]
        bad |= wrong
        ending = "still running" if got["code"] is None else got["code"]
        print(f"{name:16}{more[0]:+6.0f} MiB{more[1]:+6.0f} MiB{got['rounds']:8}{got['seconds']:8.0f}s  {ending}"
              f"{'' if got['alive'] else ', a peer died'}{'   ← goal missed' if wrong else ''}   "
              f"({got['said']:,} {got['unit']})" + (f"  {got['folder']}" if arguments.keep else ""), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
