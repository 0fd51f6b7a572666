#!/usr/bin/env bash
# Imports point upward only: System < Kernels < Base < Engines < Formats and Cores < Charts < Benchmarks < Drivers < Programs, in the
# order that is listed here. What is not a driver or a program touches no clock, socket, thread or file: the modules that
# would give it one are refused.
set -euo pipefail
cd "$(dirname "$0")/.."

order="CUV COpenSSL CMicroHTTPD Kernels Primitives Digests Wire JSON Tokenizers Checkpoints Datasets CompletionAPI
Compute CPU Worker Inference
Links Telemetry Topologies Experiments Lending Exchange Kademlia Paths Flows Pools Channels Training Planning Consensus Messages Content Record Coordination Membership Daemon Completions
Charts Benchmarks
Files Sensors Weights EventLoop SecureTransport Web VirtualNetworks Simulation Node atoll"

git ls-files -co --exclude-standard 'Sources/*.swift' | grep -v '\.pb\.swift$' | while read -r file; do [ -e "$file" ] && echo "$file"; done |
    xargs awk -v order="$order" '
    BEGIN { n = split(order, names, /[ \n]+/); for (i = 1; i <= n; i++) rank[names[i]] = i }
    FNR == 1 {
        split(FILENAME, part, "/")
        layer = part[2]; module = part[3]
        if (layer == "Kernels" || layer == "Charts" || layer == "Benchmarks") module = layer
        if (!(module in rank)) { print FILENAME ": module " module " is not in the list of layers"; bad = 1 }
    }
    /^(public |package |internal |private |fileprivate |@[a-zA-Z()_]+ )*import / {
        name = $NF
        sub(/\..*/, "", name)
        if (name in rank && rank[name] >= rank[module]) {
            print FILENAME ":" FNR ": " module " imports " name ", which is not above it"; bad = 1
        }
        pure = layer ~ /^(Base|Engines|Formats|Cores|Charts|Benchmarks)$/ && module != "Worker"
        if (pure && name ~ /^(Foundation|Dispatch|Glibc|Synchronization|CUV|_Concurrency)$/) {
            print FILENAME ":" FNR ": " layer " must not import " name; bad = 1
        }
        if (pure && name == "COpenSSL" && module != "Digests") {
            print FILENAME ":" FNR ": only Digests may import COpenSSL"; bad = 1
        }
    }
    module != "Worker" && layer ~ /^(Engines|Formats|Cores|Charts|Benchmarks)$/ && /ContinuousClock|SuspendingClock|SystemRandomNumberGenerator|\.random\(in:[^,)]*\)|[^A-Za-z]Task *\{|Mutex</ && !/^ *\/\// {
        print FILENAME ":" FNR ": a core reads a clock, draws unseeded, starts a task or locks"; bad = 1
    }
    END { exit bad }'
echo "layers: imports point upward"
