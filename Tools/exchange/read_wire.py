#!/usr/bin/env python3
"""Decodes codec messages, written from docs/WIRE.md alone, to check the program's encoders against a second reading.

    read_wire.py decode CODEC COUNT MESSAGE [OUT]   one message to raw little-endian fp32 (or a summary without OUT)
    read_wire.py check [WIRE.md]                    the document's test vectors
    read_wire.py file ENCODED [BACK.safetensors]    a file of `atoll codec encode`, against what decode made of it

Needs numpy. Slow on purpose: one bit at a time where the document speaks of bits.
"""
import hashlib
import json
import pathlib
import re
import struct
import sys

import numpy as np

BLOCK, TILE, GROUP = 256, 4096, 16
DIVISORS = [(1, 0), (2, 2), (4, 4), (5, 5), (8, 6), (11, 7), (16, 8), (22, 9), (32, 10), (45, 11), (64, 12), (90, 13),
            (128, 14), (181, 15), (256, 16), (512, 18)]


class Refused(Exception):
    pass


def need(condition, reason):
    if not condition:
        raise Refused(reason)


def scales(data, n):
    found = np.frombuffer(data, "<f4", (n + BLOCK - 1) // BLOCK)
    need(np.isfinite(found).all(), "a scale is not finite")
    need(not np.signbit(found).any() and (found <= np.float32(2.0**120)).all(), "a scale is negative or too large")
    return np.repeat(found, BLOCK)[:n]


def decode_dense(codec, data, n):
    blocks = (n + BLOCK - 1) // BLOCK
    size = {"fp32": 4 * n, "bf16": 2 * n, "fp16": 2 * n, "int8": 4 * blocks + n, "int4": 4 * blocks + (n + 1) // 2}[codec]
    need(len(data) >= size, f"truncated: {len(data)} bytes of {size}")
    need(len(data) <= size, f"{len(data) - size} bytes too many")
    if codec == "fp32":
        values = np.frombuffer(data, "<f4")
    elif codec == "fp16":
        values = np.frombuffer(data, "<f2")
    elif codec == "bf16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        rest = np.frombuffer(data, np.uint8, offset=4 * blocks)
        if codec == "int8":
            q = rest.view(np.int8)
        else:
            halves = np.stack([rest & 15, rest >> 4], 1).reshape(-1)
            need((halves[n:] == 0).all(), "a last half that is not empty")
            q = halves[:n].astype(np.int8) - 8
        values = q.astype(np.float32) * scales(data, n)
    need(np.isfinite(values).all(), "not finite")
    return values.astype(np.float32)


def entries_of_tile(m, k):
    return min(m, max((k * m + TILE - 1) // TILE, min(k, 4)))


class Bits:
    def __init__(self, data):
        self.bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").tolist()
        self.at = 0

    def take(self, width):
        need(self.at + width <= len(self.bits), "truncated")
        field = sum(bit << i for i, bit in enumerate(self.bits[self.at:self.at + width]))
        self.at += width
        return field


def decode_sparse(data, n, k, kind):
    out, bits = np.zeros(n, np.float32), Bits(data)
    for start in range(0, n, TILE * GROUP):
        tiles = [(t, min(TILE, n - t)) for t in range(start, min(n, start + TILE * GROUP), TILE)]
        divisor, width = DIVISORS[field := bits.take(4)]
        levels, any_large = [], 0
        for _ in range(2 if kind == "2-bit" else 1):
            ratio = 63 if kind == "sign" else bits.take(6)
            large_field = bits.take(14)
            any_large |= large_field
            need(large_field >> 6 != 255, "not finite")
            need(large_field >> 6 != 0 or (large_field == 0 and (ratio == 0 or kind == "sign")), "malformed header")
            large = np.array([large_field << 17], np.uint32).view(np.float32)[0]
            levels.append((large * np.float32((ratio + 1) / 64), large))
        need(any_large or field == 0, "malformed header")
        width_of_symbol = 1 if kind == "sign" else 2
        scales_of = [1.0 if bits.take(1) else [0.25, 0.0625, 0.015625, 0.0][bits.take(2)] for _ in tiles]
        counts = [entries_of_tile(m, k) if scale else 0 for (_, m), scale in zip(tiles, scales_of)]
        total = sum(counts)
        need((total == 0) == (any_large == 0), "nothing or something sent, against the header")
        symbols = [bits.take(width_of_symbol) for _ in range(total)]
        remainders = []
        for i in range(0, total, 2):
            pair = bits.take(width)
            need(pair < divisor * divisor, "pair of remainders out of range")
            remainders += divmod(pair, divisor)
        need(total % 2 == 0 or remainders[total] == 0, "padding remainder")
        values = sum(m for _, m in tiles)
        limit = bits.at + min(total + values // divisor, TILE * GROUP)
        quotients = []
        while len(quotients) < total:
            zeros = 0
            while True:
                need(bits.at < limit, "quotients too long")
                if bits.take(1):
                    break
                zeros += 1
            quotients.append(zeros)
        entry = 0
        for (tile, m), scale, count in zip(tiles, scales_of, counts):
            index = -1
            for _ in range(count):
                index += quotients[entry] * divisor + remainders[entry] + 1
                need(index < m, f"index {index} of {m}")
                magnitude = levels[symbols[entry] & 1 if kind == "2-bit" else 0][symbols[entry] >> 1] * np.float32(scale)
                out[tile + index] = -magnitude if symbols[entry] & 1 else magnitude
                entry += 1
    used = (bits.at + 7) // 8
    need(used == len(data), f"{len(data) - used} bytes too many")
    need(not any(bits.bits[bits.at:]), "padding bits")
    return out


def decode_lowrank(data, shape, rank):
    m, n = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else (0, 0)
    if not (rank < min(m, n) and rank * (m + n) < m * n):
        return decode_dense("fp32", data, int(np.prod(shape)))
    need(len(data) == 4 * rank * (m + n), "wrong length")
    factors = np.frombuffer(data, "<f4")
    left, right = factors[:rank * m].reshape(rank, m), factors[rank * m:].reshape(rank, n)
    need(np.isfinite(factors).all(), "not finite")
    need((np.abs(left) <= 2).all() and (np.abs(right) <= np.float32(2.0**120)).all(), "a factor is too large")
    out = np.zeros((m, n), np.float32)
    for t in range(rank):
        out += left[t][:, None] * right[t][None, :]
    return out.reshape(-1)


def parts(codec):
    """Name and options of a codec."""
    name, _, rest = codec.partition(":")
    return name, dict(option.split("=") for option in rest.split(",")) if rest else {}


def decode(codec, data, shape):
    """A message to its values; `shape` is a count, or for lowrank a list of dimensions."""
    shape = shape if isinstance(shape, list) else [shape]
    name, options = parts(codec)
    n = int(np.prod(shape))
    if name == "sparse":
        return decode_sparse(data, n, int(options["k"]), options.get("values", "sign-magnitude"))
    if name == "lowrank":
        return decode_lowrank(data, shape, int(options["r"]))
    return decode_dense(codec, data, n)


def read_file(path):
    """A file of `atoll codec encode`: scheme, and (name, shape, values) of each tensor."""
    data = path.read_bytes()
    need(data[:8] == b"atollcdc" and hashlib.sha256(data[:-32]).digest() == data[-32:], "magic or digest")
    start = 16 + struct.unpack("<Q", data[8:16])[0]
    header, tensors = json.loads(data[16:start]), []
    for item in header["tensors"]:
        message = data[start:start + item["bytes"]]
        tensors.append((item["name"], item["shape"], decode(header["scheme"], message, item["shape"])))
        start += item["bytes"]
    need(start == len(data) - 32, "bytes after the last tensor")
    return header["scheme"], tensors


def read_safetensors(path):
    """The bytes of each F32 tensor."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: data[start + at["data_offsets"][0]:start + at["data_offsets"][1]] for name, at in header.items()}


def inputs():
    a = np.array([0.5, -1.25, 3, -0.015625, 100], np.float32)
    b = np.array([((37 * i) % 128 - 63) / 64 for i in range(128)], np.float32)
    c = np.array([((1021 * i) % 4099 - 2000) / 1024 for i in range(4100)], np.float32)
    tile_factors = np.repeat(np.array([1, 1 / 16, 0], np.float32), TILE)
    d = np.array([((1021 * i) % 4099 - 2000) / 1024 for i in range(3 * TILE)], np.float32) * tile_factors
    e = np.array([((7 * i) % 11 - 5) / 4 for i in range(30)], np.float32)
    return {"a": a, "b": b, "c": c, "d": d, "e": e}


def expected_chosen(values, k):
    """The entries a sparse message must hold."""
    chosen = []
    for start in range(0, len(values), TILE):
        tile = np.abs(values[start:start + TILE])
        order = np.lexsort((np.arange(len(tile)), -tile))
        if tile.any():
            chosen += sorted(start + order[:entries_of_tile(len(tile), k)])
    return chosen


def check(path):
    known, failed, seen = inputs(), 0, {}
    for codec, name, data in re.findall(r"^(\S+) (a|b|b2|c|d|e) ([0-9a-f]+)$", path.read_text(), re.M):
        values = known[name.rstrip("2")]
        data = bytes.fromhex(data)
        got = decode(codec, data, [6, 5] if name == "e" else len(values))
        seen[codec, name] = got
        if name == "b2":
            # Feedback by the document: what the first message left is added (sparse: after × 0.7).
            first = seen[codec, "b"]
            decay = np.float32(0.7 if codec.startswith("sparse") else 1)
            values = (values - first) * decay + values
        error = float(np.linalg.norm(got - values) / np.linalg.norm(values))
        if codec.startswith("sparse"):
            chosen = expected_chosen(values, int(parts(codec)[1]["k"]))
            ok = sorted(np.nonzero(got)[0]) == chosen and (got[chosen] * values[chosen] > 0).all()
        elif name == "e":
            # Nothing of this rank is nearer than the singular value decomposition's; one step comes close.
            singular = np.linalg.svd(values.reshape(6, 5), compute_uv=False)
            ok = error <= 1.1 * np.linalg.norm(singular[1:]) / np.linalg.norm(singular)
        else:
            largest = np.abs(values).max()  # all vectors are within one block
            bound = {"fp32": 0, "bf16": np.abs(values) * 2.0**-8, "fp16": np.abs(values) * 2.0**-11, "int8": largest / 254, "int4": largest / 14}[codec]
            ok = (np.abs(got - values) <= np.multiply(bound, 1.00001)).all()
        failed += not ok
        print(f"{codec:12} {name:3} {len(data):4} bytes, relative error {error:.4f}{'' if ok else '  WRONG'}")
    need(len(seen) >= 14, "vectors are missing")
    return failed


def main():
    if len(sys.argv) >= 2 and sys.argv[1] == "check":
        default = pathlib.Path(__file__).resolve().parents[2] / "docs" / "WIRE.md"
        sys.exit(1 if check(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else default) else 0)
    if len(sys.argv) in (3, 4) and sys.argv[1] == "file":
        scheme, tensors = read_file(pathlib.Path(sys.argv[2]))
        back = read_safetensors(pathlib.Path(sys.argv[3])) if len(sys.argv) == 4 else {}
        for name, shape, values in tensors:
            same = "" if not back else ", the same bits" if values.tobytes() == back[name] else ", OTHER BITS"
            print(f"{name} {shape}: {np.count_nonzero(values)} not 0, norm {np.linalg.norm(values):.6g}{same}")
        sys.exit(any(back and values.tobytes() != back[name] for name, _, values in tensors))
    if len(sys.argv) in (5, 6) and sys.argv[1] == "decode":
        try:
            values = decode(sys.argv[2], pathlib.Path(sys.argv[4]).read_bytes(), int(sys.argv[3]))
        except Refused as reason:
            sys.exit(f"refused: {reason}")
        if len(sys.argv) == 6:
            pathlib.Path(sys.argv[5]).write_bytes(struct.pack(f"<{len(values)}f", *values))
        else:
            print(f"{len(values)} values, {np.count_nonzero(values)} not 0, norm {np.linalg.norm(values):.6g}")
        return
    sys.exit(__doc__)


if __name__ == "__main__":
    main()
