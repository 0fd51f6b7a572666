#!/usr/bin/env bash
# CPU time of a training step on one thread, ours and PyTorch's in turns, and the ratio. Usage: bench.sh ATOLL
set -euo pipefail
atoll=$1
here=$(cd "$(dirname "$0")" && pwd)
if ! "${PYTHON:-python3}" -c 'import torch' 2>/dev/null; then
    echo "PyTorch is not installed: our figures alone"
    exec "$atoll" bench engine
fi
models=${MODELS:-1m,15m}
for turn in 1 2 3; do
    "$atoll" bench engine --models "$models" --steps "${STEPS:-8}"
    OMP_NUM_THREADS=1 "${PYTHON:-python3}" "$here/bench_torch.py" --models "$models" --steps "${STEPS:-8}"
done | tee /dev/stderr | python3 -c '
import json, sys
best = {}
for line in sys.stdin:
    try: row = json.loads(line)
    except ValueError: continue
    key = (row["model"], "atoll" if row["engine"] == "atoll" else "pytorch")
    best[key] = min(best.get(key, 1e9), row["cpu_milliseconds_per_step"])
for model in sorted({m for m, _ in best}):
    ours, theirs = best.get((model, "atoll")), best.get((model, "pytorch"))
    if ours and theirs: print(f"{model}: atoll {ours:.1f} ms, PyTorch {theirs:.1f} ms of CPU time: ratio {ours / theirs:.2f} (anchor 1.00)")
'
