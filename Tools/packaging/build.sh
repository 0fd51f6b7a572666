#!/usr/bin/env bash
# The program for a package: Swift's runtime linked in. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/../.."
${SWIFT:-swift} build -c release --product atoll --static-swift-stdlib >&2
echo .build/release/atoll
