"""A node of the overlay (docs/OVERLAY.md, BEP 5) that invents peers: as little of the protocol as it takes to be asked."""
import hashlib
import hmac
import os
import random
import select
import socket
import struct


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(k) + bencode(value[k]) for k in sorted(value)) + b"e"


def bdecode(data, at=0):
    kind = data[at:at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if kind in (b"l", b"d"):
        at, items = at + 1, []
        while data[at:at + 1] != b"e":
            item, at = bdecode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    size = int(data[at:colon])
    return data[colon + 1:colon + 1 + size], colon + 1 + size


class Liar:
    """Whoever asks it gets itself as closest node, and a hundred peers that nobody has heard of."""

    def __init__(self, address, pool_key, towards, seed):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.key, self.towards = pool_key, towards
        self.draw, self.id = random.Random(seed), os.urandom(20)
        self.answered, self.steps = 0, 0

    def send(self, message, to):
        """Sealed: the first half of the HMAC over the message without it, under `h`."""
        code = hmac.new(self.key, bencode(message), hashlib.sha256).digest()[:16]
        try:
            self.socket.sendto(bencode(message | {b"h": code}), to)
        except OSError:
            pass  # Its buffer is full, or nobody listens there any more.

    def compact(self, address):
        return socket.inet_aton(address[0]) + struct.pack(">H", address[1])

    def invented(self):
        return socket.inet_aton(f"127.{self.draw.randint(8, 250)}.{self.draw.randint(0, 255)}.{self.draw.randint(1, 254)}") \
            + struct.pack(">H", self.draw.randint(1024, 65535))

    def step(self):
        if self.steps % 100 == 0:
            for peer in self.towards:
                self.send({b"t": os.urandom(4), b"y": b"q", b"q": b"ping", b"a": {b"id": self.id}}, peer)
        self.steps += 1
        while select.select([self.socket], [], [], 0)[0]:
            try:
                data, source = self.socket.recvfrom(4096)
                message, _ = bdecode(data)
            except (OSError, ValueError, IndexError):
                continue
            if message.get(b"y") != b"q":
                continue
            answer = {b"id": self.id}
            if message[b"q"] in (b"find_node", b"get_peers", b"get"):
                answer[b"nodes"] = self.id + self.compact(self.address)
                answer[b"token"] = b"tokentok"
            if message[b"q"] == b"get_peers":
                answer[b"values"] = [self.invented() for _ in range(100)]
                self.answered += 1
            if message.get(b"a", {}).get(b"target") or message.get(b"a", {}).get(b"info_hash"):
                # As close as can be to whatever is looked for.
                target = message[b"a"].get(b"target") or message[b"a"][b"info_hash"]
                answer[b"id"] = self.id = target[:19] + bytes([target[19] ^ 1 + self.address[1] % 250])
            self.send({b"t": message[b"t"], b"y": b"r", b"r": answer}, source)
