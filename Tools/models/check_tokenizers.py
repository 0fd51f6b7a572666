"""Compares `atoll tokenize` with the reference tokenizers, and times it.

    python3 Tools/models/check_tokenizers.py ATOLL FIXTURES [TEXT]

For each tokenizer.json under FIXTURES (see fixtures.py): random strings, every code point, the text, and the vectors that
came with it, against `tokenizers` and, for byte-level ones, `tiktoken`. Prints a line a check; exits with 1 at a
difference.
"""

import glob
import json
import os
import random
import re
import subprocess
import sys
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

ATOLL, FIXTURES = sys.argv[1], sys.argv[2]
TEXT = open(sys.argv[3], encoding="utf-8").read() if len(sys.argv) > 3 else None
# Random strings, and of all code points every how many-th: COUNT=1000 EVERY=50 takes seconds.
COUNT, EVERY = int(os.environ.get("COUNT", "20000")), int(os.environ.get("EVERY", "1"))
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
POOL = list(range(0x250)) + [
    0x17F, 0x212A, 0x2028, 0x2029, 0x3000, 0x1680, 0x180E, 0x200B, 0x200D, 0x2581, 0xFEFF, 0x300, 0x301, 0x323, 0x327,
    0x345, 0x344, 0xF73, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01, 0x9BE, 0x9C7, 0x1D7D8, 0x10D40, 0x11DE0, 0x660, 0xBD,
    0x2165, 0x4E00, 0x3042, 0x1F600, 0x1F468, 0xFE0F, 0x1F1E9, 0x2E60, 0x88F, 0xFB03, 0x1E9E, 0x130, 0x10FFFF, 0xE000,
    0x7FD, 0x898, 0x212B, 0x2126, 0x958, 0x2ADC,
]
PARTS = [
    "'s", "'S", "'ſ", "'LL", "'ll", "'re", " '", "\r\n", "\n\n", "   ", "\t", " \n", "don't", "I'M", "12345", "1 000",
    "٣٤٥", "½", "Ⅻ", "http://a.b/c?d=1", "ﬃ", "é", "é", "<|endoftext|>", "<|im_start|>", "<|begin_of_text|>", "<s>",
    "</s>", "한국어", "한국", "日本語123", "🦙", "👨‍👩‍👧", "a" * 90, "ab" * 60, "  x", "_foo_bar", "$100", "C++", "—", "…", "▁", " ▁ ",
    "x▁y", "\u0301" * 70, "0" * 70, " " * 100 + "x", "\n" * 9 + " ",
]


def strings(seed):
    random.seed(seed)
    for _ in range(COUNT):
        yield "".join(
            random.choice(PARTS)
            if random.random() < 0.5
            else "".join(chr(random.choice(POOL)) for _ in range(random.randint(1, 4)))
            for _ in range(random.randint(1, 6))
        )
    for _ in range(COUNT // 10):
        yield "".join(chr(random.choice(POINTS)) for _ in range(random.randint(1, 30)))


def ours(folder, texts, *flags):
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    command = [ATOLL, "tokenize", folder, "--lines", "--no-special", *flags]
    done = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def tiktoken_of(file):
    """The same vocabulary as tiktoken sees it: ranks are numbers. None where that is not what the file says."""
    import tiktoken

    model, pre = file["model"], file["pre_tokenizer"]
    if not pre or "ByteLevel" not in json.dumps(pre) or "Digits" in json.dumps(pre):
        return None
    expression = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    if pre["type"] == "Sequence":
        expression = pre["pretokenizers"][0]["pattern"]["Regex"]
    letters, more = {}, 256
    for b in range(256):
        plain = 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b
        letters[chr(b if plain else more)] = b
        more += not plain
    special = {t["content"]: t["id"] for t in file["added_tokens"]}
    ranks = {bytes(letters[c] for c in t): i for t, i in model["vocab"].items() if t not in special}
    return tiktoken.Encoding("x", pat_str=expression, mergeable_ranks=ranks, special_tokens=special)


def check(name, texts, expected, found):
    bad = [t for t, a, b in zip(texts, expected, found) if a != b]
    print(f"{name}: {len(texts)} texts, {len(bad)} differ" + "".join(f"\n    {ascii(t)[:100]}" for t in bad[:3]))
    return len(bad)


def vectors(folder):
    if not os.path.exists(f"{folder}/vectors.inp"):
        return [], []
    texts = open(f"{folder}/vectors.inp", newline="", encoding="utf-8").read().split("\n__ggml_vocab_test__\n")
    answers = open(f"{folder}/vectors.out").read().split("\n")
    return texts, [[int(x) for x in line.split()] for line in answers][: len(texts)]


def seconds(body):
    start = time.process_time()
    body()
    return time.process_time() - start


def main():
    bad = 0
    for path in sorted(glob.glob(f"{FIXTURES}/*/tokenizer.json")):
        folder, name = os.path.dirname(path), os.path.basename(os.path.dirname(path))
        file = json.load(open(path, encoding="utf-8"))
        reference = tokenizers.Tokenizer.from_file(path)
        encode = lambda texts: [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]
        texts = list(strings(3))
        found = ours(folder, texts)
        bad += check(f"{name}: random strings", texts, encode(texts), found)
        other = tiktoken_of(file)
        if other:
            composed = [unicodedata.normalize("NFC", t) if name == "qwen2" else t for t in texts]
            if name == "qwen2":  # Python's NFC is of another Unicode than the reference's
                keep = [i for i, t in enumerate(texts) if reference.normalizer.normalize_str(t) == composed[i]]
                texts, composed, found = ([x[i] for i in keep] for x in (texts, composed, found))
            answers = [other.encode(t, allowed_special="all") for t in composed]
            bad += check(f"{name}: random strings, tiktoken", texts, answers, found)
        points = ["".join(map(chr, POINTS[i : i + 64])) for i in range(0, len(POINTS), 64 * EVERY)]
        points += ["a" + chr(c) + "1 " + chr(c) + "\u0301" + chr(c) for c in POINTS[::EVERY]]
        bad += check(f"{name}: every code point" + (f", of {EVERY} one" if EVERY > 1 else ""), points, encode(points), ours(folder, points))
        texts, answers = vectors(folder)
        if texts:
            # SentencePiece's own vectors are of its algorithm; what is compared there is the reference's reading of the file.
            expected = encode(texts) if name == "llama2" else answers
            bad += check(f"{name}: vectors", texts, expected, ours(folder, texts))
        sample = list(strings(4))[:2000]
        ids = encode(sample)
        back = [reference.decode(i, skip_special_tokens=False) for i in ids]
        whole = [i for i, t in enumerate(back) if "\ufffd" not in t]
        done = ours_decode(folder, [ids[i] for i in whole])
        bad += check(f"{name}: decoded", [sample[i] for i in whole], [back[i] for i in whole], done)
        if TEXT:
            bad += measure(name, folder, encode, other)
    sys.exit(1 if bad else 0)


def ours_decode(folder, lists):
    lines = "".join(json.dumps(i) + "\n" for i in lists)
    command = [ATOLL, "tokenize", folder, "--decode", "--lines", "--plain"]
    done = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(name, folder, encode, other):
    size = len(TEXT.encode()) / 1e6
    answer = []
    spent = seconds(lambda: answer.extend(encode([TEXT])[0]))
    line = f"{name}: tokenizers {size / spent:.1f} MB/s"
    if other:
        line += f", tiktoken {size / seconds(lambda: other.encode_ordinary(TEXT)):.1f} MB/s"
    command = [ATOLL, "tokenize", folder, sys.argv[3], "--no-special", "--json"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print(line + f", atoll {found['megabytes_per_second']:.1f} MB/s (one thread, CPU time)")
    long = "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1 << 20))
    times = []
    for length in (1 << 17, 1 << 20):
        command = [ATOLL, "tokenize", folder, "--no-special", "--json", "--count"]
        done = subprocess.run(command, input=long[:length].encode(), stdout=subprocess.PIPE, check=True)
        times.append(length / json.loads(done.stdout)["megabytes_per_second"] / 1e6)
    print(f"{name}: a word of 128 KiB {times[0]:.3f} s, of 1 MiB {times[1]:.3f} s: {times[1] / times[0]:.1f} times")
    return check(f"{name}: the text", [TEXT], [answer], [found["ids"]])


main()
