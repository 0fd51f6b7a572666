#!/usr/bin/env python3
"""Every field of every message, each with every value that has broken a reader, said to a launcher and a peer while they train.

    fields.py ATOLL [--tokens N] [--seed S] [--rate MESSAGES] [--keep]

A member that was let into the job says them, in an order of its own, through all phases of the job, and comes back whenever it is sent
away. The messages are made from swarm.proto, so none can be forgotten. In the end the job must have ended well, its books must close,
and launcher and peers must live. Exit status 1 when not.
"""
import argparse
import os
import random
import struct
import sys
import time

import swarm
from pool import Pool
from swarm import SCHEMA, Closed, Link, Member, Raw, varint

INTEGERS = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 63 - 1, 2 ** 63, 2 ** 64 - 1, 9999]
DOUBLES = [0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e-300]
TO_LAUNCHER = ["capability", "offer_answer", "log_request", "heartbeat", "probe_result", "pong", "receipt", "held", "applied",
               "state_request", "state_offer", "index_request", "content_index", "chunk_request", "chunk", "farewell", "readiness",
               "gathered", "objection", "audited", "kept", "setback", "election", "ping", "norms", "activation", "exchange_part", "lease", "log_entries", "group"]
TO_PEER = ["capability_request", "offer", "log_entries", "lease", "probe_order", "probe_burst", "ping", "activation", "norms",
           "state_request", "state_offer", "index_request", "content_index", "chunk_request", "chunk", "exchange_part", "group",
           "audit", "dismissal", "election"]


class Mouth:
    """Makes messages: plausible ones for the job as the member knows it, with one field wrong."""

    def __init__(self, seed):
        self.draw = random.Random(seed)

    def plausible(self, message, member, depth=0):
        """A value for each field: of the right type, and where it is known of this job."""
        out = {}
        for field, (number, kind, repeated) in SCHEMA.messages[message].items():
            inner = SCHEMA.resolve(message, kind)
            if inner == "Envelope":
                value = self.envelope(message, member)
            elif inner:
                value = self.plausible(inner, member, depth + 1)
            else:
                value = self.scalar(field, kind, member)
            out[field] = [value] * self.draw.randint(0, 3) if repeated else value
        if message == "StateOffer":
            out.pop("unavailable")
        return out

    def scalar(self, field, kind, member):
        log = member.log
        if kind in ("double", "float"):
            return self.draw.choice([0.5, 1.0, 1e6])
        if kind == "string":
            return "all-gather" if field == "way" else "mallory"
        if kind == "bytes":
            known = {"content": log[0]["genesis"]["content"] if log else bytes(32), "job": member.job or bytes(32),
                     "endpoint": bytes([127, 0, 0, 1]) + struct.pack(">H", 9), "peer": self.somebody(member),
                     "sender": self.somebody(member), "checksum": bytes(8), "entries": bytes(40)}
            return known.get(field, bytes(32))
        if kind == "bool":
            return self.draw.randint(0, 1)
        return self.draw.choice([0, 1, 2, member.round])

    def somebody(self, member):
        peers = [j["peer"] for e in member.log for j in e.get("members", {}).get("joined", [])]
        return self.draw.choice(peers) if peers else member.identity.peer

    def envelope(self, message, member):
        if message == "Receipt":
            kind, body = "receipt", SCHEMA.encode("Work", self.plausible("Work", member))
        else:
            entry = self.plausible("LogEntry", member)
            chosen = self.draw.choice(["members", "plan", "seal", "finish", "states", "genesis"])
            entry = {"index": len(member.log), "previous": bytes(32), "term": member.term, chosen: entry[chosen]}
            kind, body = "log", SCHEMA.encode("LogEntry", entry)
        return member.identity.envelope(kind, member.job or bytes(32), body)

    def wrong(self, kind):
        """A value of a type, or of another, that should not be there; None: the field is left out."""
        draw = self.draw
        if draw.random() < 0.05:
            return None
        if draw.random() < 0.05:
            return Raw(draw.choice([0, 1, 2, 5]), draw.choice([varint(7), bytes(8), varint(3) + b"abc", bytes(4)]))
        if kind == "double":
            return draw.choice(DOUBLES)
        if kind == "float":
            return Raw(5, struct.pack("<f", draw.choice([0.0, float("nan"), float("inf"), -1.0, 1e38])))
        if kind in ("bytes", "string"):
            return draw.choice([b"", b"\0", os.urandom(32), os.urandom(31), b"\x1b[2J\x07\n\xe2\x80\xae", b"A" * 1000,
                                b"A" * (1 << 19), b"\xff\xfe"])
        return draw.choice(INTEGERS)

    def spoilt(self, message, value):
        """The same message, with one field of it, or of a message in it, wrong."""
        fields = [f for f in SCHEMA.messages[message] if f in value]
        if not fields:
            return value
        field = self.draw.choice(fields)
        number, kind, repeated = SCHEMA.messages[message][field]
        inner = SCHEMA.resolve(message, kind)
        out = dict(value)
        content = value[field]
        if repeated and self.draw.random() < 0.2:
            out[field] = (list(content) or [self.scalar_of(kind, inner)]) * self.draw.choice([1, 300, 5000])
        elif inner and content and self.draw.random() < 0.8:
            one = content[0] if repeated else content
            one = self.spoilt(inner, one)
            out[field] = [one] + list(content[1:]) if repeated else one
        else:
            bad = self.wrong("bytes" if inner else kind)
            if bad is None:
                del out[field]
            else:
                out[field] = [bad] if repeated else bad
        return out

    def scalar_of(self, kind, inner):
        return b"" if inner or kind in ("bytes", "string") else 1

    def message(self, kind, member):
        name = SCHEMA.messages["Packet"][kind][1]
        value = self.plausible(name, member)
        if kind == "receipt" and self.draw.random() < 0.7:
            # Rightly signed, wrong inside.
            work = self.spoilt("Work", self.plausible("Work", member))
            value = {"envelope": member.identity.envelope("receipt", member.job or bytes(32), SCHEMA.encode("Work", work),
                                                          expiry=self.draw.choice([0, int(time.time()) + 600, 1]))}
        else:
            value = self.spoilt(name, value)
        payload = bytes(self.draw.choice([0, 0, 33, 16_384])) if kind in (
            "activation", "exchange_part", "chunk", "probe_burst") or self.draw.random() < 0.05 else b""
        return value, payload


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atoll")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=100, help="wrong messages a second, to each")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    pool = Pool(arguments.atoll, tokens=arguments.tokens)
    mouth = Mouth(arguments.seed)
    said, lives, member, beside = {}, 0, None, None
    phases = {}
    try:
        time.sleep(1.5)
        numerics = swarm.capability_of(pool.pool_key, ("127.0.0.1", pool.ports[0]))["numerics"]
        pool.launch(peers=3)
        began, due = time.monotonic(), 0.0

        def step():
            nonlocal member, beside, lives, due
            try:
                if member is None:
                    member = Member(pool.pool_key, ("127.0.0.1", pool.port), numerics)
                    lives += 1
                if beside is None:
                    beside = Link(member.identity, pool.pool_key, ("127.0.0.1", pool.ports[0]))
                member.step(0.01)
                beside.poll(0)
                member.round = max([e["seal"].get("round", 0) + 1 for e in member.log if "seal" in e] or [0])
                due = max(due, time.monotonic() - 0.5)
                while due < time.monotonic():
                    due += 1 / arguments.rate
                    for link, kinds in ((member.link, TO_LAUNCHER), (beside, TO_PEER)):
                        if not link.is_open or link.backlog > 1 << 20:
                            continue
                        kind = mouth.draw.choice(kinds)
                        if kind == "farewell" and mouth.draw.random() < 0.95:
                            continue
                        value, payload = mouth.message(kind, member)
                        job = mouth.draw.choice([member.job or b""] * 9 + [os.urandom(32)])
                        link.packet(kind, value, job=job, term=mouth.draw.choice([member.term] * 9 + [2 ** 31, 2 ** 64 - 1]),
                                    payload=payload)
                        said[kind] = said.get(kind, 0) + 1
                        phase = "a member" if member.is_member else "before it is one"
                        phases[phase] = phases.get(phase, 0) + 1
            except (OSError, Closed):
                for link in (member and member.link, beside):
                    if link:
                        link.close()
                member = beside = None
                time.sleep(0.05)

        code = pool.wait(arguments.seconds, step)
        text = pool.launcher.said
        alive = [p.is_alive for p in pool.peers]
        audited = "(audited)" in text
        print(f"{sum(said.values()):,} wrong messages of {len(said)} kinds in {lives} lives, "
              + ", ".join(f"{n:,} as {phase}" for phase, n in sorted(phases.items())))
        print(f"launcher: exit {code}, {text.count(chr(10) + 'round ')} rounds, {time.monotonic() - began:.0f} s; books "
              f"{'close' if audited else 'do not close'}; peers alive: {sum(alive)} of {len(alive)}")
        good = code == 0 and all(alive) and audited
        if not good:
            print("\n".join(text.splitlines()[-25:]))
        if arguments.keep or not good:
            print(f"logs: {pool.folder}")
        pool.close(arguments.keep or not good)
        sys.exit(0 if good else 1)
    finally:
        pool.close(True)


if __name__ == "__main__":
    main()
