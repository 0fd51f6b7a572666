"""A member of a pool, written from docs/WIRE.md and swarm.proto: TLS, hello, frames, credit, packets, signed statements.

It keeps no rule that is not needed to be listened to, so that others can be tried with it. Only the standard library and libssl.
"""
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import re
import select
import socket
import struct
import time

PROTO = os.path.join(os.path.dirname(__file__), "../../Sources/Base/Wire/Protocol/swarm.proto")
CONTROL, ACTIVATIONS, EXCHANGE, BULK = range(4)
HELLO, DATA, SEEK, ACK, PING, PONG, BYE = range(1, 8)


# ---- protobuf, as far as swarm.proto goes ----------------------------------------------------------------------------

class Schema:
    """Message types and their fields, read from the .proto file: name -> {field: (number, type, repeated)}."""

    def __init__(self, path=PROTO):
        self.messages, self.enums, scope = {}, set(), []
        for line in open(path, encoding="utf-8"):
            line = line.split("//")[0].strip()
            for word in re.findall(r"message \w+ \{\}|message \w+ \{|enum \w+ \{|oneof \w+ \{|\}|[\w ]+ = \d+;", line):
                if word.startswith("message"):
                    name = ".".join([n for n in scope if n] + [word.split()[1]])
                    self.messages[name] = {}
                    if not word.endswith("}"):
                        scope.append(word.split()[1])
                elif word.startswith("enum"):
                    self.enums.add(word.split()[1])
                    scope.append(None)
                elif word.startswith("oneof"):
                    scope.append("")
                elif word == "}":
                    scope.pop()
                elif None not in scope:
                    kind, name, number = re.match(r"(.*\w) (\w+) = (\d+);", word).groups()
                    repeated = kind.startswith("repeated ")
                    owner = ".".join(n for n in scope if n)
                    self.messages[owner][name] = (int(number), kind.removeprefix("repeated ").strip(), repeated)

    def resolve(self, owner, kind):
        """The full name of a message type as seen from `owner`, or None for a scalar or enum."""
        parts = owner.split(".")
        for n in range(len(parts), -1, -1):
            name = ".".join(parts[:n] + [kind])
            if name in self.messages:
                return name
        return None

    def encode(self, name, value):
        out = bytearray()
        for field, content in value.items():
            number, kind, repeated = self.messages[name][field]
            for one in content if repeated else [content]:
                out += self.field(number, kind, self.resolve(name, kind), one)
        return bytes(out)

    def field(self, number, kind, message, value):
        if isinstance(value, Raw):
            return varint(number << 3 | value.wire) + value.bytes
        if message:
            body = value if isinstance(value, bytes) else self.encode(message, value)
            return varint(number << 3 | 2) + varint(len(body)) + body
        if kind in ("bytes", "string"):
            body = value.encode() if isinstance(value, str) else value
            return varint(number << 3 | 2) + varint(len(body)) + body
        if kind == "double":
            return varint(number << 3 | 1) + struct.pack("<d", value)
        if kind == "float":
            return varint(number << 3 | 5) + struct.pack("<f", value)
        return varint(number << 3) + varint(int(value))

    def decode(self, name, data):
        names = {number: (field, kind, repeated) for field, (number, kind, repeated) in self.messages[name].items()}
        out, at = {}, 0
        while at < len(data):
            key, at = read_varint(data, at)
            wire = key & 7
            if wire == 0:
                value, at = read_varint(data, at)
            elif wire == 1:
                value, at = data[at:at + 8], at + 8
            elif wire == 5:
                value, at = data[at:at + 4], at + 4
            else:
                size, at = read_varint(data, at)
                value, at = data[at:at + size], at + size
            if key >> 3 not in names:
                continue
            field, kind, repeated = names[key >> 3]
            if kind == "double":
                value = struct.unpack("<d", value)[0]
            elif kind == "string":
                value = value.decode(errors="replace")
            elif message := self.resolve(name, kind):
                value = self.decode(message, value)
            if repeated:
                out.setdefault(field, []).append(value)
            else:
                out[field] = value
        return out


class Raw:
    """A field's value as it goes over the wire, whatever its type asks for."""

    def __init__(self, wire, data):
        self.wire, self.bytes = wire, data


def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


SCHEMA = Schema()


# ---- libssl ----------------------------------------------------------------------------------------------------------

def _library(name):
    lib = ctypes.CDLL(ctypes.util.find_library(name))
    lib.restype = ctypes.c_void_p
    return lib


ssl, crypto = _library("ssl"), _library("crypto")


def call(lib, name, *arguments, result=ctypes.c_int):
    function = getattr(lib, name)
    function.restype = result
    return function(*[ctypes.c_void_p(a) if isinstance(a, int) and a > 1 << 31 else a for a in arguments])


POINTER = ctypes.c_void_p
ED25519 = 1087


class Identity:
    """An Ed25519 key, its self-signed certificate and a TLS context with both."""

    def __init__(self, seed=None):
        seed = seed or os.urandom(32)
        self.key = call(crypto, "EVP_PKEY_new_raw_private_key", ED25519, None, seed, ctypes.c_size_t(32), result=POINTER)
        public, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        call(crypto, "EVP_PKEY_get_raw_public_key", self.key, public, ctypes.byref(size))
        self.peer = public.raw
        certificate = call(crypto, "X509_new", result=POINTER)
        call(crypto, "X509_set_version", certificate, ctypes.c_long(2))
        call(crypto, "ASN1_INTEGER_set", call(crypto, "X509_get_serialNumber", certificate, result=POINTER), ctypes.c_long(1))
        call(crypto, "X509_gmtime_adj", call(crypto, "X509_getm_notBefore", certificate, result=POINTER), ctypes.c_long(-86400))
        call(crypto, "X509_gmtime_adj", call(crypto, "X509_getm_notAfter", certificate, result=POINTER), ctypes.c_long(86400))
        call(crypto, "X509_set_pubkey", certificate, self.key)
        call(crypto, "X509_sign", certificate, self.key, None)
        self.context = call(ssl, "SSL_CTX_new", call(ssl, "TLS_client_method", result=POINTER), result=POINTER)
        call(ssl, "SSL_CTX_use_certificate", self.context, certificate)
        call(ssl, "SSL_CTX_use_PrivateKey", self.context, self.key)
        call(crypto, "X509_free", certificate, result=None)

    def sign(self, data):
        digest = call(crypto, "EVP_MD_CTX_new", result=POINTER)
        call(crypto, "EVP_DigestSignInit", digest, None, None, None, self.key)
        out, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        call(crypto, "EVP_DigestSign", digest, out, ctypes.byref(size), data, ctypes.c_size_t(len(data)))
        call(crypto, "EVP_MD_CTX_free", digest, result=None)
        return out.raw

    def envelope(self, kind, job, body, epoch=0, sequence=0, expiry=0):
        """A signed statement (docs/WIRE.md, Packets)."""
        said = f"atoll/{kind}/1".encode() + job + struct.pack("<QQQ", epoch, sequence, expiry) + body
        return {"type": kind, "job": job, "epoch": epoch, "sequence": sequence, "expiry": expiry, "body": body,
                "signer": self.peer, "signature": self.sign(said)}


class Closed(Exception):
    pass


class TLSStream:
    """TLS 1.3 over a socket that does not block."""

    def __init__(self, identity, address, timeout=10):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.handle = call(ssl, "SSL_new", identity.context, result=POINTER)
        call(ssl, "SSL_set_fd", self.handle, self.socket.fileno())
        self.socket.setblocking(False)
        self.unsent = bytearray()
        end = time.monotonic() + timeout
        while (result := call(ssl, "SSL_connect", self.handle)) != 1:
            if call(ssl, "SSL_get_error", self.handle, result) not in (2, 3) or time.monotonic() > end:
                self.close()
                raise Closed("handshake")
            select.select([self.socket], [], [], 0.1)

    def exporter(self):
        out, label = ctypes.create_string_buffer(32), b"EXPORTER-atoll-pool"
        call(ssl, "SSL_export_keying_material", self.handle, out, ctypes.c_size_t(32), label, ctypes.c_size_t(len(label)),
             None, ctypes.c_size_t(0), 0)
        return out.raw

    def write(self, data):
        self.unsent += data
        self.flush()

    def flush(self):
        while self.unsent:
            piece = bytes(self.unsent[:16384])
            result = call(ssl, "SSL_write", self.handle, piece, len(piece))
            if result > 0:
                del self.unsent[:result]
            elif call(ssl, "SSL_get_error", self.handle, result) in (2, 3):
                return
            else:
                raise Closed("write")

    def read(self):
        out, buffer = bytearray(), ctypes.create_string_buffer(65536)
        while len(out) < 1 << 20:
            result = call(ssl, "SSL_read", self.handle, buffer, 65536)
            if result > 0:
                out += buffer.raw[:result]
            elif call(ssl, "SSL_get_error", self.handle, result) in (2, 3):
                break
            elif out:
                break
            else:
                raise Closed("read")
        return bytes(out)

    def close(self):
        if self.handle:
            call(ssl, "SSL_free", self.handle, result=None)
            self.handle = None
        self.socket.close()


# ---- sessions and packets --------------------------------------------------------------------------------------------

class Link:
    """One connection with its session: sends messages as far as the other side takes them, and hands over what comes."""

    WINDOW = {CONTROL: 1 << 20, ACTIVATIONS: 4 << 20, EXCHANGE: 4 << 20, BULK: 4 << 20}

    def __init__(self, identity, pool_key, address, credit=None):
        """`credit`: how many bytes of each channel the other side may send, instead of the usual windows."""
        self.identity = identity
        self.window = dict(self.WINDOW, **(credit or {}))
        self.stream = TLSStream(identity, address)
        self.sent, self.limit = [0] * 4, [0] * 4
        self.received = [0] * 4
        self.granted = [self.window[c] for c in range(4)]
        self.waiting = [bytearray() for _ in range(4)]
        self.incoming = [bytearray() for _ in range(4)]
        self.input = bytearray()
        self.is_open = False
        fields = b"atoll" + struct.pack("<HHHB", 2, 2, 9, 1) + os.urandom(16) + bytes(16) + struct.pack("<I", 0)
        for channel in range(4):
            fields += struct.pack("<QQ", 0, self.granted[channel])
        proof = hmac.new(pool_key, b"atoll/hello/2client" + self.stream.exporter() + fields, hashlib.sha256).digest()
        self.frame(HELLO, 0, fields + proof)

    def frame(self, kind, channel, payload):
        self.stream.write(struct.pack("<BBH", kind, channel, len(payload)) + payload)

    def put(self, data, channel=CONTROL):
        """Bytes of a channel's stream, whether or not they make messages."""
        self.waiting[channel] += data
        self.push(channel)

    def message(self, data, channel=CONTROL):
        self.put(struct.pack("<I", len(data)) + data, channel)

    def packet(self, kind, body, job=b"", term=0, payload=b"", channel=None):
        packet = {kind: body}
        if job:
            packet["job"] = job
        if term:
            packet["term"] = term
        header = SCHEMA.encode("Packet", packet)
        if channel is None:
            channel = {"activation": ACTIVATIONS, "exchange_part": EXCHANGE, "chunk": BULK, "content_index": BULK,
                       "probe_burst": BULK}.get(kind, CONTROL)
        self.message(struct.pack("<I", len(header)) + header + payload, channel)

    def push(self, channel):
        while self.waiting[channel] and self.sent[channel] < self.limit[channel] and len(self.stream.unsent) < 1 << 18:
            size = min(16380, len(self.waiting[channel]), self.limit[channel] - self.sent[channel])
            self.frame(DATA, channel, bytes(self.waiting[channel][:size]))
            del self.waiting[channel][:size]
            self.sent[channel] += size

    @property
    def backlog(self):
        return sum(map(len, self.waiting)) + len(self.stream.unsent)

    def poll(self, seconds=0.0):
        """Packets that have come: (packet as a dictionary, payload)."""
        select.select([self.stream.socket], [self.stream.socket] if self.stream.unsent else [], [], seconds)
        self.stream.flush()
        self.input += self.stream.read()
        out = []
        while len(self.input) >= 4:
            kind, channel, size = struct.unpack_from("<BBH", self.input)
            if len(self.input) < 4 + size:
                break
            payload = bytes(self.input[4:4 + size])
            del self.input[:4 + size]
            out += self.take(kind, channel, payload)
        for channel in range(4):
            self.push(channel)
        return out

    def take(self, kind, channel, payload):
        if kind == HELLO:
            self.is_open = True
            for n in range(4):
                self.limit[n] = struct.unpack_from("<Q", payload, 5 + 7 + 36 + 16 * n + 8)[0]
        elif kind == ACK:
            self.limit[channel] = struct.unpack("<QQ", payload)[1]
        elif kind == PING:
            self.frame(PONG, 0, payload)
        elif kind == BYE:
            raise Closed(payload.decode(errors="replace"))
        elif kind == DATA:
            return self.messages(channel, payload)
        return []

    def messages(self, channel, payload):
        buffer, out = self.incoming[channel], []
        buffer += payload
        self.received[channel] += len(payload)
        if self.window[channel] and self.granted[channel] - self.received[channel] < self.window[channel] // 2:
            self.granted[channel] = self.received[channel] + self.window[channel]
            self.frame(ACK, channel, struct.pack("<QQ", self.received[channel], self.granted[channel]))
        while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack_from("<I", buffer)[0]:
            size = struct.unpack_from("<I", buffer)[0]
            data = bytes(buffer[4:4 + size])
            del buffer[:4 + size]
            header = struct.unpack_from("<I", data)[0]
            out.append((SCHEMA.decode("Packet", data[4:4 + header]), data[4 + header:]))
        return out

    def close(self):
        self.stream.close()


class Member:
    """Gets itself into a job, and then says what its owner likes."""

    def __init__(self, pool_key, launcher, numerics, name="mallory", identity=None, credit=None):
        self.identity = identity or Identity()
        self.numerics, self.name = numerics, name
        self.link = Link(self.identity, pool_key, launcher, credit)
        self.job, self.term, self.log, self.round = None, 0, [], 0
        self.heard = {}

    @property
    def is_member(self):
        return any(joined.get("peer") == self.identity.peer
                   for entry in self.log for joined in entry.get("members", {}).get("joined", []))

    def step(self, seconds=0.0):
        """Hears what there is, and answers what it takes to be let in and to stay."""
        for packet, payload in self.link.poll(seconds):
            kind = next((k for k in packet if k not in ("job", "term")), None)
            self.heard[kind] = packet.get(kind)
            self.term = max(self.term, packet.get("term", 0))
            if kind == "capability_request":
                self.link.packet("capability", {
                    "name": self.name, "device": "a liar", "memory_bytes": 1 << 33, "flops": 5e9, "numerics": self.numerics})
            elif kind == "offer":
                genesis = packet["offer"]["genesis"]
                self.job = hashlib.sha256(b"\0" + genesis["body"]).digest()
                self.log = [SCHEMA.decode("LogEntry", genesis["body"])]
                self.link.packet("offer_answer", {"job": self.job, "accepted": True}, job=self.job)
            elif kind == "log_entries":
                for envelope in packet["log_entries"].get("entries", []):
                    entry = SCHEMA.decode("LogEntry", envelope["body"])
                    if entry.get("index", 0) == len(self.log):
                        self.log.append(entry)
            elif kind == "ping":
                self.link.packet("pong", {"nonce": packet["ping"].get("nonce", 0)}, job=packet.get("job", b""))
            elif kind == "lease" and packet["lease"].get("log_length", 0) > len(self.log):
                self.link.packet("log_request", {"from": len(self.log)}, job=self.job, term=self.term)

    def report(self, kind, body, payload=b""):
        self.link.packet(kind, body, job=self.job or b"", term=self.term, payload=payload)


def capability_of(pool_key, address):
    """What a peer says of itself."""
    link = Link(Identity(), pool_key, address)
    link.packet("capability_request", {})
    end = time.monotonic() + 10
    try:
        while time.monotonic() < end:
            for packet, _ in link.poll(0.1):
                if "capability" in packet:
                    return packet["capability"]
    finally:
        link.close()
    raise Closed("no capability came")
