"""The training step of EngineBenchmark in PyTorch on the processor: forward, backward, fused AdamW; fp32,
scaled-dot-product attention. Prints one JSON line a model: the least process CPU time of a step.

    python3 Tools/engine/bench_torch.py [--steps 20] [--threads 1] [--models 1m,15m]
"""
import argparse
import json
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

# V, d, F, layers, heads, key-value heads, sequences, T, tied: as in EngineBenchmark.swift.
MODELS = {
    "1m": (256, 128, 384, 5, 4, 4, 16, 128, False), "15m": (8192, 288, 768, 12, 6, 6, 8, 256, False),
    "134m": (49152, 576, 1536, 30, 9, 3, 4, 256, True),
}


def measure(name, steps, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    v, d, f, layers, heads, kv, sequences, length, tied = MODELS[name]
    config = LlamaConfig(
        vocab_size=v, hidden_size=d, intermediate_size=f, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, rms_norm_eps=1e-5, tie_word_embeddings=tied, max_position_embeddings=length,
        use_cache=False, attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, min(v, 256), (sequences, length + 1))
    best = float("inf")
    for step in range(steps + 1):
        start = time.process_time()
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.view(-1, v), tokens[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step > 0:
            best = min(best, time.process_time() - start)
    return {
        "engine": f"torch {torch.__version__}", "model": name, "parameters": sum(p.numel() for p in model.parameters()),
        "threads": threads, "cpu_milliseconds_per_step": round(best * 1e3, 2), "loss": round(loss.item(), 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default="1m,15m")
    arguments = parser.parse_args()
    for model in arguments.models.split(","):
        print(json.dumps(measure(model, arguments.steps, arguments.threads)), flush=True)
