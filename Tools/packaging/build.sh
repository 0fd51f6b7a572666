#!/usr/bin/env bash
# The program for a package: Swift's runtime linked in, ICU's data left out (no-icu-data.c). Prints its path.
set -euo pipefail
cd "$(dirname "$0")/../.."
swift=${SWIFT:-swift}
object=$PWD/.build/packaging/no-icu-data.o
mkdir -p "$(dirname "$object")"
clang -O2 -c Tools/packaging/no-icu-data.c -o "$object"
$swift build -c release --product atoll --static-swift-stdlib -Xlinker "$object" >&2
echo .build/release/atoll
