#!/usr/bin/env python3
"""Decodes codec messages, written from docs/WIRE.md alone, to check the program's encoders against a second reading.

    read_wire.py decode CODEC COUNT MESSAGE [OUT]   one message to raw little-endian fp32 (or a summary without OUT)
    read_wire.py check [WIRE.md]                    the document's test vectors

Needs numpy. Slow on purpose: one bit at a time where the document speaks of bits.
"""
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
    size = {"fp32": 4 * n, "bf16": 2 * n, "int8": 4 * blocks + n, "int4": 4 * blocks + (n + 1) // 2}[codec]
    need(len(data) >= size, f"truncated: {len(data)} bytes of {size}")
    need(len(data) <= size, f"{len(data) - size} bytes too many")
    if codec == "fp32":
        values = np.frombuffer(data, "<f4")
    elif codec == "bf16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        rest = np.frombuffer(data, np.uint8, offset=4 * blocks)
        if codec == "int8":
            q = rest.view(np.int8)
            need((q != -128).all(), "-128")
        else:
            halves = np.stack([rest & 15, rest >> 4], 1).reshape(-1)
            need((halves[:n] != 0).all() and (halves[n:] == 0).all(), "a half of 0")
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


def decode_sparse(data, n, k):
    out, bits = np.zeros(n, np.float32), Bits(data)
    for start in range(0, n, TILE * GROUP):
        tiles = [(t, min(TILE, n - t)) for t in range(start, min(n, start + TILE * GROUP), TILE)]
        field, ratio, large_field = bits.take(4), bits.take(6), bits.take(14)
        divisor, width = DIVISORS[field]
        need(large_field >> 6 != 255, "not finite")
        need(large_field >> 6 != 0 or (large_field == 0 and ratio == 0 and field == 0), "malformed header")
        scales_of = [1.0 if bits.take(1) else [0.25, 0.0625, 0.015625, 0.0][bits.take(2)] for _ in tiles]
        counts = [entries_of_tile(m, k) if scale else 0 for (_, m), scale in zip(tiles, scales_of)]
        total = sum(counts)
        need((total == 0) == (large_field == 0), "nothing or something sent, against the header")
        large = np.array([large_field << 17], np.uint32).view(np.float32)[0]
        small = large * np.float32((ratio + 1) / 64)
        symbols = [bits.take(2) for _ in range(total)]
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
                magnitude = (large if symbols[entry] & 2 else small) * np.float32(scale)
                out[tile + index] = -magnitude if symbols[entry] & 1 else magnitude
                entry += 1
    used = (bits.at + 7) // 8
    need(used == len(data), f"{len(data) - used} bytes too many")
    need(not any(bits.bits[bits.at:]), "padding bits")
    return out


def decode(codec, data, n):
    if codec.startswith("sparse:k="):
        return decode_sparse(data, n, int(codec.removeprefix("sparse:k=")))
    return decode_dense(codec, data, n)


def inputs():
    a = np.array([0.5, -1.25, 3, -0.015625, 100], np.float32)
    b = np.array([((37 * i) % 128 - 63) / 64 for i in range(128)], np.float32)
    c = np.array([((1021 * i) % 4099 - 2000) / 1024 for i in range(4100)], np.float32)
    tile_factors = np.repeat(np.array([1, 1 / 16, 0], np.float32), TILE)
    d = np.array([((1021 * i) % 4099 - 2000) / 1024 for i in range(3 * TILE)], np.float32) * tile_factors
    return {"a": a, "b": b, "c": c, "d": d}


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
    for codec, name, data in re.findall(r"^(\S+) (a|b|b2|c|d) ([0-9a-f]+)$", path.read_text(), re.M):
        values = known[name.rstrip("2")]
        data = bytes.fromhex(data)
        got = decode(codec, data, len(values))
        seen[codec, name] = got
        if name == "b2":
            # Feedback by the document: what the first message left is added (sparse: after × 0.95).
            first = seen[codec, "b"]
            decay = np.float32(0.95 if codec.startswith("sparse") else 1)
            values = (values - first) * decay + values
        error = float(np.linalg.norm(got - values) / np.linalg.norm(values))
        if codec.startswith("sparse"):
            chosen = expected_chosen(values, int(codec.removeprefix("sparse:k=")))
            ok = sorted(np.nonzero(got)[0]) == chosen and (got[chosen] * values[chosen] > 0).all()
        else:
            largest = np.abs(values).max()  # all vectors are within one block
            bound = {"fp32": 0, "bf16": np.abs(values) * 2.0**-9, "int8": largest / 254, "int4": largest / 14}[codec]
            ok = (np.abs(got - values) <= np.multiply(bound, 1.00001)).all()
        failed += not ok
        print(f"{codec:12} {name:3} {len(data):4} bytes, relative error {error:.4f}{'' if ok else '  WRONG'}")
    need(len(seen) >= 14, "vectors are missing")
    return failed


def main():
    if len(sys.argv) >= 2 and sys.argv[1] == "check":
        default = pathlib.Path(__file__).resolve().parents[2] / "docs" / "WIRE.md"
        sys.exit(1 if check(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else default) else 0)
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
