"""Writes Sources/Formats/Tokenizers/UnicodeTables.swift: what the tokenizers' patterns and NFC need of Unicode.

The versions are those of the reference, which is asked and not guessed: `tokenizers` 0.23.3 takes \\p{L}, \\p{N} and \\s
from Unicode 16.0, its digits from 17.0 and NFC from 9.0. `unicodedata2` 16.0.0 gives the decompositions.

    pip install tokenizers==0.23.3 unicodedata2==16.0.0 && python3 Tools/models/unicode_tables.py
"""

import os
import sys

import tokenizers
import unicodedata2 as data
from tokenizers import Regex, normalizers, pre_tokenizers

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
assert data.unidata_version == "16.0.0", data.unidata_version
TARGET = os.path.join(os.path.dirname(__file__), "../../Sources/Formats/Tokenizers/UnicodeTables.swift")
ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xD7A4)


def matching(pattern):
    """Code points that the pattern of one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for start in range(0, len(ALL), 20000):
        part = ALL[start : start + 20000]
        kept = "".join(text for text, _ in split.pre_tokenize_str("".join(map(chr, part))))
        found |= set(part) - set(map(ord, kept))
    return found


def digits():
    split = pre_tokenizers.Digits(individual_digits=True)
    text = "".join("a" + chr(c) + "a" for c in ALL if c != 97)
    return {ord(part) for part, _ in split.pre_tokenize_str(text) if len(part) == 1}


def ranges(points):
    """[first, count] of each run."""
    runs = []
    for c in sorted(points):
        if runs and runs[-1][0] + runs[-1][1] == c:
            runs[-1][1] += 1
        else:
            runs.append([c, 1])
    return runs


nfc = normalizers.NFC().normalize_str


def combining():
    """{code point: class}, of those that the reference moves."""
    classes = {}
    for c in ALL:
        k = data.combining(chr(c))
        # U+0334 has class 1, U+0345 240: one of them changes places with every other class.
        if k and (nfc("\u0345" + chr(c)) != "\u0345" + chr(c) or nfc(chr(c) + "\u0334") != chr(c) + "\u0334"):
            classes[c] = k
    classes[0x0334], classes[0x0345] = 1, 240
    return classes


def decompositions():
    """[code point, first, second or 0, whether the two compose again]; Hangul is arithmetic."""
    rows = []
    for c in ALL:
        text = data.decomposition(chr(c))
        if not text or text.startswith("<") or c in HANGUL:
            continue
        parts = [int(x, 16) for x in text.split()]
        composes = len(parts) == 2 and nfc(chr(parts[0]) + chr(parts[1])) == chr(c)
        # Decompositions that the reference's version does not have show in nothing that it does.
        known = composes or nfc(chr(c)) != chr(c)
        if known:
            rows.append([c, parts[0], parts[1] if len(parts) == 2 else 0, int(composes)])
    return rows


def literal(name, comment, rows):
    words = ["%x" % row[0] + "".join(",%x" % x for x in row[1:]) for row in rows]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 108:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line)
    body = "\\\n        ".join(lines)
    return f"    /// {comment}\n    static let {name}: StaticString = \"\"\"\n        {body}\n        \"\"\"\n"


letters, numbers, spaces, numerics = matching(r"\p{L}"), matching(r"\p{N}"), matching(r"\s"), digits()
assert letters == {c for c in ALL if data.category(chr(c))[0] == "L"}
assert numbers == {c for c in ALL if data.category(chr(c))[0] == "N"} and numbers < numerics
deltas = lambda runs: [[a - (runs[i - 1][0] + runs[i - 1][1] if i else 0), n] for i, (a, n) in enumerate(runs)]
classes = combining()
runs = []
for c in sorted(classes):
    if runs and runs[-1][0] + runs[-1][1] == c and runs[-1][2] == classes[c]:
        runs[-1][1] += 1
    else:
        runs.append([c, 1, classes[c]])
rows = decompositions()
with open(TARGET, "w") as out:
    out.write("// Made by Tools/models/unicode_tables.py from tokenizers 0.23.3 and unicodedata2 16.0.0. Do not edit.\n\n")
    out.write("/// What the tokenizers' patterns and NFC need of Unicode: hexadecimal numbers, groups parted by spaces.\n")
    out.write("enum UnicodeTables {\n")
    out.write(literal("letters", f"\\p{{L}} of Unicode 16.0, {len(letters)} code points: distance from the last run, length.", deltas(ranges(letters))))
    out.write("\n" + literal("numbers", f"\\p{{N}} of Unicode 16.0, {len(numbers)}: likewise.", deltas(ranges(numbers))))
    out.write("\n" + literal("laterNumbers", f"What Unicode 17.0 added to \\p{{N}}, {len(numerics - numbers)}: likewise.", deltas(ranges(numerics - numbers))))
    out.write("\n" + literal("spaces", f"\\s, {len(spaces)}: likewise.", deltas(ranges(spaces))))
    out.write("\n" + literal("combining", f"Combining classes of Unicode 9.0, {len(classes)}: first, length, class.", runs))
    out.write("\n" + literal("decompositions", f"Canonical decompositions, {len(rows)}: code point, first, second or 0, whether they compose again.", rows))
    out.write("}\n")
print(len(letters), len(numbers), len(numerics), len(spaces), len(classes), len(rows), file=sys.stderr)
