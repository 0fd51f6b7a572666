"""Opens a checkpoint with transformers and prints its loss over the validation windows of a text.

    python3 Tools/engine/check_checkpoint.py CHECKPOINT TEXT FRACTION

Validation is the last floor(n * FRACTION) bytes; window i reads [iT, iT+T) and predicts [iT+1, iT+T+1); complete windows
only. One JSON line; exit code 1 where keys are missing or left over, or the tokenizer does not return bytes.
"""
import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, text_path, fraction = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with open(text_path, "rb") as file:
        text = file.read()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    model.eval()
    sample = "Héllo, wörld!\n  two  spaces"
    ids = tokenizer(sample)["input_ids"]
    bytes_agree = ids == list(sample.encode()) and tokenizer.decode(ids) == sample
    length = model.config.max_position_embeddings
    part = text[len(text) - math.floor(len(text) * fraction) :]
    windows = max(0, (len(part) - 1) // length)
    total = 0.0
    with torch.no_grad():
        for first in range(0, windows, 16):
            starts = [i * length for i in range(first, min(first + 16, windows))]
            inputs = torch.tensor([list(part[s : s + length]) for s in starts])
            targets = torch.tensor([list(part[s + 1 : s + length + 1]) for s in starts])
            logits = model(input_ids=inputs).logits.double()
            total += torch.nn.functional.cross_entropy(
                logits.view(-1, logits.shape[-1]), targets.view(-1), reduction="sum"
            ).item()
    result = {
        "windows": windows, "tokens": windows * length, "mean_loss": round(total / max(1, windows * length), 6),
        "missing_keys": sorted(info["missing_keys"]), "unexpected_keys": sorted(info["unexpected_keys"]),
        "mismatched_keys": sorted(map(str, info["mismatched_keys"])), "tokenizer_returns_bytes": bytes_agree,
    }
    print(json.dumps(result))
    faults = result["missing_keys"] or result["unexpected_keys"] or result["mismatched_keys"]
    sys.exit(1 if faults or not bytes_agree else 0)


main()
