#!/usr/bin/env bash
# The program for a package: Swift's runtime linked in, ICU's locale data left out (NoLocaleData), in a build folder of its own, because it is
# compiled with other flags. Relocations are packed (DT_RELR), which takes glibc 2.36 and saves 2.7 MB. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=.build/package
ATOLL_PACKAGED=1 ${SWIFT:-swift} build -c release --scratch-path $folder --product atoll --static-swift-stdlib \
    -Xswiftc -Xclang-linker -Xswiftc -fuse-ld=lld -Xlinker --icf=safe -Xlinker --gc-sections \
    -Xlinker --no-export-dynamic -Xlinker -z -Xlinker pack-relative-relocs >&2
echo $folder/release/atoll
