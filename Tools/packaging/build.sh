#!/usr/bin/env bash
# The program for a package: Swift's runtime linked in, ICU's locale data left out (NoLocaleData), in a build folder of its own, because it is
# compiled with other flags. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=.build/package
ATOLL_PACKAGED=1 ${SWIFT:-swift} build -c release --scratch-path $folder --product atoll --static-swift-stdlib \
    -Xlinker --icf=safe -Xlinker --gc-sections -Xlinker --no-export-dynamic >&2
echo $folder/release/atoll
