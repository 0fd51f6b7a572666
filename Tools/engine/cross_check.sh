#!/bin/sh
# Compares every kernel's bits between this processor's instruction sets and ARM's NEON under emulation.
# Needs clang; for the ARM part qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.
#
#     sh Tools/engine/cross_check.sh
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources="Tools/engine/cross_check.c Sources/Kernels/gemm*.c Sources/Kernels/ops*.c"
clang -O2 -ISources/Kernels/include $sources -lm -lpthread -o "$work/here"
"$work/here" 1 > "$work/scalar"
cat "$work/scalar"
for set in 2:avx2 3:avx512 4:neon; do
    if "$work/here" "${set%%:*}" > "$work/found"; then
        cmp "$work/scalar" "$work/found" && echo "${set##*:}: the same bits as scalar"
    fi
done
if command -v qemu-aarch64 > /dev/null && command -v aarch64-linux-gnu-gcc > /dev/null; then
    for source in $sources; do
        clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include -O2 -ISources/Kernels/include \
            -c "$source" -o "$work/$(basename "$source").o"
    done
    aarch64-linux-gnu-gcc -static "$work"/*.o -lm -lpthread -o "$work/arm"
    qemu-aarch64 "$work/arm" 4 > "$work/found"
    cmp "$work/scalar" "$work/found" && echo "neon (emulated): the same bits as scalar"
else
    echo "neon (emulated): skipped, qemu-aarch64 or aarch64-linux-gnu-gcc is missing"
fi
