#ifndef CODEC_SPARSE_H
#define CODEC_SPARSE_H

#include "kernels_codec.h"

#include <string.h>

/// A Golomb code (Golomb 1966): a gap is gap ÷ divisor in unary (zeros, then a one) and the remainder in truncated binary.
struct codec_golomb {
    uint32_t divisor;
    /// ⌈log₂ divisor⌉.
    uint32_t width;
    /// Remainders below this take width − 1 bits.
    uint32_t cut;
};

/// The divisor that suits uniformly spread entries: ⌊ln 2 · 4096 / k⌋.
static inline uint32_t codec_nominal_divisor(size_t k) {
    uint32_t divisor = (uint32_t)(KERNELS_CODEC_TILE * 45426u / k >> 16);
    return divisor > 0 ? divisor : 1;
}

/// The code for a group's divisor field, 0…15: that many and one sixteenths of the nominal divisor.
static inline struct codec_golomb codec_golomb_for(uint32_t nominal, uint32_t field) {
    struct codec_golomb code = {nominal * (field + 1) >> 4, 0, 0};
    if (code.divisor == 0) code.divisor = 1;
    while ((1u << code.width) < code.divisor) code.width++;
    code.cut = (1u << code.width) - code.divisor;
    return code;
}

/// Bits of a group's header: divisor field (4), small magnitude in 64ths of the large one less one (6), large magnitude's
/// exponent and upper six mantissa bits (14).
#define CODEC_HEADER_BITS 24

static inline float codec_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t codec_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline size_t codec_least(size_t a, size_t b) { return a < b ? a : b; }

#endif
