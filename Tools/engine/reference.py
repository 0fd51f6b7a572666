"""Reference values for Tests/TrainingTests, from PyTorch's LlamaForCausalLM.

A tiny model whose weights are an exact function of their position, so that nothing has to be exchanged but this file:
value(i) = ((i * 2654435761 + n * 40503) mod 2^32 / 2^32 - 0.5) / 4 for element i of the n-th tensor in canonical order,
1 plus that for norm gains. The first micro-batch of two sequences; loss and gradients of the mean cross-entropy.

    python3 Tools/engine/reference.py
"""
import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM

V, D, F, LAYERS, HEADS, KV, T = 256, 32, 48, 2, 4, 2, 16
TEXT = bytes((i * i * 7 + i * 3 + 11) % 97 + 32 for i in range(400))
SEED = 5
MASK = 2**64 - 1


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def xoshiro(seed):
    mixer = split_mix(seed)
    s = [next(mixer) for _ in range(4)]
    rotate = lambda x, k: ((x << k) | (x >> (64 - k))) & MASK
    while True:
        yield rotate((s[1] * 5) & MASK, 7) * 9 & MASK
        t = (s[1] << 17) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotate(s[3], 45)


def window_start(seed, step, sequence, training_count):
    """The data order, written a second time: see DataOrder.swift."""
    stream = (step << 32) ^ sequence
    mixed = next(xoshiro(seed ^ (stream * 0xD1B54A32D192ED03 & MASK)))
    bound = training_count - T
    for word in xoshiro(mixed ^ stream):
        if (word * bound) & MASK >= 2**64 % bound:
            return word * bound >> 64


STARTS = [window_start(SEED, 0, sequence, len(TEXT)) for sequence in range(2)]


def tensor_names():
    yield "model.embed_tokens.weight"
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        yield p + "input_layernorm.weight"
        for q in "qkvo":
            yield p + f"self_attn.{q}_proj.weight"
        yield p + "post_attention_layernorm.weight"
        for q in ("gate", "up", "down"):
            yield p + f"mlp.{q}_proj.weight"
    yield "model.norm.weight"
    yield "lm_head.weight"


def value(n, count):
    i = torch.arange(count, dtype=torch.int64)
    return (((i * 2654435761 + n * 40503) % 2**32).double() / 2**32 - 0.5) / 4


torch.set_num_threads(1)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False, max_position_embeddings=T, attn_implementation="eager",
    )
).double()
parameters = dict(model.named_parameters())
with torch.no_grad():
    for n, name in enumerate(tensor_names()):
        p = parameters[name]
        values = value(n, p.numel()) + (1 if p.dim() == 1 else 0)
        p.copy_(values.float().double().reshape(p.shape))
tokens = torch.tensor([list(TEXT[s : s + T]) for s in STARTS])
targets = torch.tensor([list(TEXT[s + 1 : s + T + 1]) for s in STARTS])
loss = torch.nn.functional.cross_entropy(model(input_ids=tokens).logits.view(-1, V), targets.view(-1))
loss.backward()
out = {
    "starts": STARTS,
    "starts_of_step_9": [window_start(SEED, 9, sequence, len(TEXT)) for sequence in range(4)],
    "loss": loss.item(),
    "gradients": {},
}
for name in tensor_names():
    g = parameters[name].grad.reshape(-1)
    top = g.abs().argmax().item()
    out["gradients"][name] = {"sum_squares": (g * g).sum().item(), "index": top, "value": g[top].item()}
print(json.dumps(out, indent=1))
