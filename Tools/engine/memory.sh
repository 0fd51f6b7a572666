#!/usr/bin/env bash
# The most memory of stages' steps beside what the memory law says. Usage: memory.sh ATOLL
set -euo pipefail
atoll=$1
for stage in "--model 15m" "--model 134m --units 0-16" "--model 134m --units 16-32" "--model 134m --units 8-24"; do
    for way in "" "--rounds" "--rounds --recompute" "--rounds --bf16" "--rounds --muon --bf16"; do
        "$atoll" bench memory $stage --sequences 2 --in-flight 2 $way
    done
done
"$atoll" bench memory --model 134m --units 1-2 --context 8192
"$atoll" bench memory --model 134m --units 30-32 --context 8192
