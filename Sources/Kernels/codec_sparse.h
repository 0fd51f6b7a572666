#ifndef CODEC_SPARSE_H
#define CODEC_SPARSE_H

#include "kernels_codec.h"

#include <string.h>

/// A Golomb code (Golomb 1966) whose remainders are written in pairs, first · divisor + second, in a fixed number of
/// bits. The divisors are those whose square is just below a power of two, so that hardly any of those bits are wasted,
/// and nothing but the quotients has a length that depends on the data.
struct codec_golomb {
    uint32_t divisor;
    /// Bits of a pair of remainders.
    uint32_t pair_bits;
};

/// Values of a group's divisor field.
#define CODEC_DIVISORS 16

static inline struct codec_golomb codec_golomb_for(uint32_t field) {
    static const struct codec_golomb codes[CODEC_DIVISORS] = {
        {1, 0},   {2, 2},   {4, 4},   {5, 5},   {8, 6},    {11, 7},   {16, 8},   {22, 9},
        {32, 10}, {45, 11}, {64, 12}, {90, 13}, {128, 14}, {181, 15}, {256, 16}, {512, 18},
    };
    return codes[field];
}

/// Multiplier and shift with gap / divisor == (2 · gap · multiplier >> 16) >> shift for gaps up to 4095.
struct codec_division {
    uint16_t multiplier;
    uint16_t shift;
};

static inline struct codec_division codec_division_by(uint32_t divisor) {
    struct codec_division division = {0, 0};
    while ((1u << division.shift) < divisor) division.shift++;
    division.multiplier = (uint16_t)(((1u << (15 + division.shift)) + divisor - 1) / divisor);
    return division;
}

static inline uint16_t codec_quotient(uint16_t gap, struct codec_division division) {
    return (uint16_t)((uint16_t)((uint32_t)(uint16_t)(2 * gap) * division.multiplier >> 16) >> division.shift);
}

/// Bits of a group's header. Divisor field (4); then for sign-magnitude the small magnitude in 64ths of the large one
/// less one (6) and the large magnitude's exponent and upper six mantissa bits (14); for signs only the latter (14); for
/// two bits both for positive entries, then both for negative ones.
static inline uint32_t codec_header_bits(int values) {
    return values == KERNELS_CODEC_SIGN ? 18 : values == KERNELS_CODEC_TWO_BIT ? 44 : 24;
}
/// Bits of an entry's symbol.
static inline uint32_t codec_symbol_bits(int values) { return values == KERNELS_CODEC_SIGN ? 1 : 2; }

/// What stands in place of an empty tile's first entry.
#define CODEC_EMPTY 0xffff

#define CODEC_GROUP_VALUES (KERNELS_CODEC_TILE * KERNELS_CODEC_GROUP)
#define CODEC_GROUP_ENTRIES (KERNELS_CODEC_SPARSE_K_MAX * KERNELS_CODEC_GROUP)

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

/// One group to be read: where its bits are, and what is to come out of them.
struct codec_reading {
    /// Readable for CODEC_SLACK bytes beyond the longest that this group can be; zeros beyond the message's end.
    const uint8_t *bytes;
    /// The bit that is next (a group's symbols; afterwards what follows its quotients), and the first one that is not
    /// there.
    size_t position, end;
    /// Entries in the group, of them in each tile (0 for an empty one), values in it, and k.
    size_t count, in_tile[KERNELS_CODEC_GROUP], values, k;
    struct codec_golomb code;
    /// Bits of an entry's symbol: bit 0 negative, bit 1 (if there is one) the larger level.
    uint32_t symbol_bits;
};
#define CODEC_SLACK 128

static inline struct kernels_codec_problem codec_problem(int status, size_t detail, size_t limit) {
    return (struct kernels_codec_problem){status, detail, limit};
}

/// At least 57 bits from bit `position` on.
static inline uint64_t codec_peek(const uint8_t *bytes, size_t position) {
    uint64_t word;
    memcpy(&word, bytes + (position >> 3), 8);
    return word >> (position & 7);
}

/// `width` bits (at most 56) from bit position + base on, without those from position + limit on.
static inline uint64_t codec_next(
    const uint8_t *bytes, size_t position, size_t base, size_t limit, uint32_t width) {
    size_t there = limit - base < width ? limit - base : width;
    return codec_peek(bytes, position + base) & ((1ull << there) - 1);
}

/// For each byte the positions of its ones, lowest first, a byte each.
extern uint64_t codec_ones[256];

/// A group's magnitudes by sign (0 positive, 1 negative).
struct codec_magnitudes {
    float small[2], large[2];
};

/// What the four symbols stand for in a tile of scale 4^−shift: small, −small, large, −large.
static inline void codec_levels(struct codec_magnitudes magnitudes, uint32_t shift, float *level) {
    static const float scales[4] = {1, 0.25f, 0.0625f, 0.015625f};
    for (int sign = 0; sign < 2; sign++) {
        float small = magnitudes.small[sign] * scales[shift], large = magnitudes.large[sign] * scales[shift];
        level[sign] = sign ? -small : small;
        level[2 + sign] = sign ? -large : large;
    }
}

#endif
