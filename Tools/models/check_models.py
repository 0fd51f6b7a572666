"""Compares what `atoll` computes with `transformers`: losses of real and random models, checkpoints written back, greedy answers.

    python3 Tools/models/check_models.py ATOLL FIXTURES WORK

Random models of every supported family and type are made by `transformers` (they need no network); SmolLM2 comes from
fixtures.py. Exits with 1 where a loss differs by more than 1e-5.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import torch
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config,
)

ATOLL, FIXTURES, WORK = sys.argv[1:4]
torch.set_num_threads(1)
SIZE = dict(
    vocab_size=262, hidden_size=96, intermediate_size=200, num_hidden_layers=4, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
MODELS = {
    "llama": LlamaConfig(**SIZE),
    "llama-tied-bias": LlamaConfig(**SIZE, tie_word_embeddings=True, attention_bias=True),
    "llama-head": LlamaConfig(**SIZE, head_dim=24),
    "llama-linear": LlamaConfig(**SIZE, rope_scaling=dict(rope_type="linear", factor=2.0)),
    "llama-llama3": LlamaConfig(**SIZE, rope_scaling=dict(LLAMA3), rope_theta=500000.0),
    "mistral": MistralConfig(**SIZE, sliding_window=None),
    "qwen2": Qwen2Config(**SIZE),
    "qwen2-tied": Qwen2Config(**SIZE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZE, head_dim=32),
    "smollm3": SmolLM3Config(**SIZE, no_rope_layer_interval=2, pad_token_id=0),
}
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def run(*arguments):
    done = subprocess.run([ATOLL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"atoll {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode()


def loss_of(folder, ids, context):
    """Windows as `atoll eval` cuts them: each reads context tokens and predicts one on."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, context):
            part = torch.tensor([ids[start : start + context + 1]])
            logits = model(part[:, :-1]).logits.float()
            total += torch.nn.functional.cross_entropy(logits[0], part[0, 1:], reduction="sum").item()
            count += part.shape[1] - 1
    return total / count


def randomise(model):
    torch.manual_seed(7)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.1 if "norm" in name or "bias" in name else 0.06)


def legacy(folder):
    """As older programs wrote positions: rope_theta beside rope_scaling with `type`."""
    path = f"{folder}/config.json"
    config = json.load(open(path))
    rope = config.pop("rope_parameters", None) or config.get("rope_scaling") or {}
    config["rope_theta"] = rope.pop("rope_theta", config.get("rope_theta", 10000.0))
    kind = rope.pop("rope_type", "default")
    config["rope_scaling"] = None if kind == "default" else dict(rope, **{"rope_type" if kind == "llama3" else "type": kind})
    json.dump(config, open(path, "w"))


def decoding(folder, prompt, count):
    """What `transformers` says with a cache, greedily, and CPU seconds a token after the first."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt")
    spent = []
    for new in (1, count):
        start = time.process_time()
        model.generate(**ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        spent.append(time.process_time() - start)
    # The answer itself may end where the model says so: `min_new_tokens` would forbid the token that ends it.
    out = model.generate(**ids, max_new_tokens=count, do_sample=False)
    answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer, (spent[1] - spent[0]) / (count - 1)


def check(name, folder, text, context, bad):
    done = json.loads(run("eval", folder, text, "--context", str(context), "--json"))
    # A text ends with the token that says so.
    ids = [int(x) for x in run("tokenize", folder, text).split()] + [AutoTokenizer.from_pretrained(folder).eos_token_id]
    expected = loss_of(folder, ids, context)
    difference = abs(done["loss"] - expected)
    print(f"{name}: atoll {done['loss']:.7f}, transformers {expected:.7f}, difference {difference:.1e}")
    if difference > 1e-5 or done["tokens"] != len(ids) - 1:
        bad.append(name)


def main():
    bad = []
    os.makedirs(WORK, exist_ok=True)
    random.seed(2)
    words = "the quick brown fox jumps over lazy dogs and cats in a house of straw".split()
    text = f"{WORK}/text.txt"
    open(text, "w").write(" ".join(random.choice(words) for _ in range(400)))
    run("tokenizer", "train", f"{WORK}/tokenizer", text, "--size", "262")
    for index, (name, config) in enumerate(MODELS.items()):
        folder = f"{WORK}/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        model = AutoModelForCausalLM.from_config(config)
        randomise(model)
        kind = TYPES[index % 3]
        model.to(kind).save_pretrained(folder, max_shard_size="300KB" if index % 2 else "5GB")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(f"{WORK}/tokenizer/{file}", folder)
        if index % 2 == 0:
            legacy(folder)
        files = len([f for f in os.listdir(folder) if f.endswith(".safetensors")])
        check(f"{name} ({str(kind)[6:]}, {files} files)", folder, text, 128, bad)
        for target, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            copy = f"{WORK}/copy"
            run("convert", folder, copy, "--type", target, "--file-bytes", "400000")
            before = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).state_dict()
            after = AutoModelForCausalLM.from_pretrained(copy, dtype=kind).state_dict()
            if before.keys() != after.keys() or not all(torch.equal(before[k], after[k]) for k in before):
                print(f"{name}: written back as {target}, it differs")
                bad.append(name)
    real = f"{FIXTURES}/smollm2"
    if os.path.exists(real):
        long = f"{WORK}/long.txt"
        open(long, "w").write(
            "The industrial revolution began in Great Britain, where new machines powered by water and steam changed how "
            "cloth was made. Towns grew around the mills, and people left the land to look for work in them. " * 6
        )
        check("smollm2", real, long, 256, bad)
        prompt, count = "The capital of France is", 48
        arguments = ("--prompt", prompt, "--count", str(count), "--temperature", "0", "--threads", "1", "--json")
        out = json.loads(run("generate", real, *arguments))
        expected, seconds = decoding(real, prompt, count)
        same = len(os.path.commonprefix([out["text"], expected]))
        print(f"smollm2 goes on: {out['text'][:60]!r}; the first {same} of {len(expected)} characters are transformers' own")
        print(
            f"smollm2, CPU seconds a token, one thread: atoll {out['cpu_seconds_a_token']:.4f}, "
            f"torch with a cache {seconds:.4f}, ratio {out['cpu_seconds_a_token'] / seconds:.2f}"
        )
    else:
        print("smollm2: the fixture is not there, left out")
    sys.exit(1 if bad else 0)


main()
