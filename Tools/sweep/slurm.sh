#!/bin/sh
# An experiment as a Slurm array, a point a task, and its table in the end:
#
#   Tools/sweep/slurm.sh SPEC OUT [options of sbatch, such as --partition=short --time=10]
#
# SPEC and OUT lie where all nodes see them; `atoll` is on the path there. A task that is run twice finds its point computed.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 SPEC OUT [options of sbatch]" >&2; exit 2; }
spec=$1
out=$2
shift 2
log=$out-slurm
mkdir -p "$log"
atoll sweep "$spec" --out "$out" --list > "$log/points.txt"
count=$(wc -l < "$log/points.txt")
sbatch --wait --job-name=atoll-sweep --ntasks=1 --cpus-per-task=1 --requeue --array="1-$count" --output="$log/%a.txt" "$@" \
  --wrap "sed -n \"\${SLURM_ARRAY_TASK_ID}p\" '$log/points.txt' | sh"
atoll sweep merge "$out" --out "$out"
