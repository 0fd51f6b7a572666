#!/bin/sh
# Compares every codec's bits between the naive kernels, this processor's instruction sets and ARM's NEON under emulation.
# Needs clang; for the ARM part qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.
#
#     sh Tools/exchange/cross_check.sh
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources="Tools/exchange/cross_check.c Sources/Kernels/codec_*.c"
clang -O2 -ISources/Kernels/include $sources -lm -o "$work/here"
"$work/here" 0 > "$work/naive"
cat "$work/naive"
for set in 1:baseline 2:avx2 3:avx512; do
    if "$work/here" "${set%%:*}" > "$work/found"; then
        cmp "$work/naive" "$work/found" && echo "${set##*:}: the same bits as naive"
    fi
done
if command -v qemu-aarch64 > /dev/null && command -v aarch64-linux-gnu-gcc > /dev/null; then
    for source in $sources; do
        clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include -O2 -ISources/Kernels/include \
            -c "$source" -o "$work/$(basename "$source").o"
    done
    aarch64-linux-gnu-gcc -static "$work"/*.o -lm -o "$work/arm"
    qemu-aarch64 "$work/arm" 1 > "$work/found"
    cmp "$work/naive" "$work/found" && echo "neon (emulated): the same bits as naive"
else
    echo "neon (emulated): skipped, qemu-aarch64 or aarch64-linux-gnu-gcc is missing"
fi
