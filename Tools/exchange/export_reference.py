#!/usr/bin/env python3
"""Writes down what a run of a convergence reference in PyTorch starts from and reads, for `atoll bench convergence`.

    export_reference.py REFERENCE.py --text FILE --out FOLDER [--seed 1] [--steps 600] [--L 3] [--bs 4]

REFERENCE.py is the reference harness (its `Run` and `ByteModel` are used as they are). FOLDER receives the initial
weights as a Hugging Face checkpoint (config.json, model.safetensors), and order.json: the first byte of the window of
every sequence of every step (worker by worker within a step), and those of the validation windows. Nothing of the
text is copied. Needs PyTorch.
"""
import argparse
import importlib.util
import json
import pathlib
import struct
import sys

import torch


def load(path, arguments):
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv = ["reference", "ddp", *arguments]
    return module, module.parse()


def hugging_face_name(name):
    fixed = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, part, kind = name.split(".")
    parts = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "q": "self_attn.q_proj",
             "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
             "up": "mlp.up_proj", "down": "mlp.down_proj"}
    return f"model.layers.{layer}.{parts[part]}.{kind}"


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + 4 * tensor.numel()]}
        offset += 4 * tensor.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().contiguous().numpy().tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--L", type=int, default=3)
    parser.add_argument("--bs", type=int, default=4)
    options = parser.parse_args()
    given = {"text": options.text, "seed": options.seed, "steps": options.steps, "L": options.L, "bs": options.bs}
    module, o = load(options.reference, [part for name, value in given.items() for part in (f"--{name}", str(value))])
    run = module.Run(o)
    model = run.model()
    # The same draws as Run.backward makes: each worker from its own generator, a step at a time.
    starts = []
    for _ in range(o.steps):
        for worker in range(o.M):
            starts += torch.randint(0, len(run.train) - o.T - 1, (o.bs,), generator=run.draws[worker]).tolist()
    # And as Run.__init__ makes for validation, in the part of the text held back.
    held = pathlib.Path(options.text).stat().st_size - len(run.train)
    windows = torch.randint(0, held - o.T - 1, (256,), generator=torch.Generator().manual_seed(42))
    options.out.mkdir(parents=True, exist_ok=True)
    write_safetensors(options.out / "model.safetensors",
                      {hugging_face_name(name): value for name, value in model.named_parameters()})
    (options.out / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": o.d,
        "intermediate_size": o.ff, "num_hidden_layers": o.L, "num_attention_heads": o.heads, "hidden_act": "silu",
        "num_key_value_heads": o.heads, "max_position_embeddings": o.T, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True}))
    (options.out / "order.json").write_text(json.dumps({
        "workers": o.M, "sequences": o.bs, "steps": o.steps, "seed": o.seed, "text_bytes": len(run.train) + held,
        "learning_rate": o.lr, "warmup_steps": o.warm, "starts": starts,
        "validation_starts": (windows + len(run.train)).tolist()}))


if __name__ == "__main__":
    main()
