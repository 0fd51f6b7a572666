#!/usr/bin/env bash
# What systemd makes of the units, without running them: every line is understood, and how exposed they are (0 best, 10 worst).
set -euo pipefail
cd "$(dirname "$0")/systemd"
command -v systemd-analyze >/dev/null || { echo "not done: no systemd-analyze"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
for unit in atoll-peer.service atoll-node.service; do
    # A program that is there stands for the one that the package brings.
    sed 's#^ExecStart=/usr/bin/atoll#ExecStart=/bin/true#' "$unit" >"$work/$unit"
    said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$work/$unit" 2>&1 | grep -F "$unit" || true)
    if [ -n "$said" ]; then echo "$said"; bad=1; fi
    echo "$unit: exposure $(systemd-analyze security --offline=true --no-pager "$work/$unit" 2>/dev/null | sed -n 's/.*exposure level[^:]*: *\([0-9.]*\).*/\1/p')"
done
exit $bad
