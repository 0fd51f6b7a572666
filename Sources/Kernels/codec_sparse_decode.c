// Sparse decoding: bytes are checked and unpacked first, and applied afterwards.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"
#include "codec_sparse.h"

/// At least 57 bits from bit `position` on; zeros beyond the message's end.
static uint64_t peek_within(const uint8_t *bytes, size_t length, size_t position) {
    uint8_t some[8] = {0};
    size_t first = position / 8;
    if (first < length) memcpy(some, bytes + first, codec_least(8, length - first));
    return codec_peek(some, position % 8);
}

/// Reads a group's magnitudes of one sign from the header's next bits.
static int read_magnitudes(uint32_t ratio, uint32_t large_bits, int sign, struct codec_magnitudes *magnitudes) {
    if (large_bits >> 6 == 255) return KERNELS_CODEC_NOT_FINITE;
    if (large_bits == 0 ? ratio != 0 : large_bits >> 6 == 0) return KERNELS_CODEC_MALFORMED;
    float large = codec_float(large_bits << 17);
    magnitudes->large[sign] = large;
    magnitudes->small[sign] = large * ((float)(ratio + 1) * 0x1p-6f);
    return KERNELS_CODEC_OK;
}

/// Reads a group's header and its tiles' scales: the levels of each tile, entries in each, the code. Position becomes
/// that of the symbols.
static int read_header(
    const uint8_t *bytes, size_t length, size_t *position, struct codec_reading *group, int values, float *levels) {
    uint64_t bits = peek_within(bytes, length, *position);
    uint32_t field = bits & 15;
    *position += codec_header_bits(values);
    if (*position > 8 * length) return KERNELS_CODEC_TRUNCATED;
    // Ratio and large magnitude of the positive entries, then of the negative ones; what is not there is the same.
    uint32_t ratio[2], large[2];
    if (values == KERNELS_CODEC_SIGN) bits = (bits & 15) | 63 << 4 | bits >> 4 << 10;
    for (int sign = 0; sign < 2; sign++) {
        ratio[sign] = bits >> 4 & 63;
        large[sign] = bits >> 10 & 0x3fff;
        if (values == KERNELS_CODEC_TWO_BIT) bits >>= 20;
    }
    struct codec_magnitudes magnitudes;
    for (int sign = 0; sign < 2; sign++) {
        if (values == KERNELS_CODEC_SIGN && large[sign] == 0) ratio[sign] = 0;
        int status = read_magnitudes(ratio[sign], large[sign], sign, &magnitudes);
        if (status != KERNELS_CODEC_OK) return status;
    }
    bool is_empty = magnitudes.large[0] == 0 && magnitudes.large[1] == 0;
    if (is_empty && field != 0) return KERNELS_CODEC_MALFORMED;
    group->code = codec_golomb_for(field);
    group->symbol_bits = codec_symbol_bits(values);
    bits = peek_within(bytes, length, *position);
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < group->values; tile++) {
        uint32_t is_short = bits & 1, shift = is_short ? 0 : 1 + (bits >> 1 & 3);
        *position += is_short ? 1 : 3;
        bits >>= is_short ? 1 : 3;
        size_t m = codec_least(group->values - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        group->in_tile[tile] = shift == 4 ? 0 : kernels_codec_sparse_tile_entries(m, group->k);
        group->count += group->in_tile[tile];
        codec_levels(magnitudes, shift & 3, levels + 4 * tile);
    }
    if (*position > 8 * length) return KERNELS_CODEC_TRUNCATED;
    return is_empty == (group->count == 0) ? KERNELS_CODEC_OK : KERNELS_CODEC_MALFORMED;
}

/// The longest that a group can be after its header with any divisor.
#define LONGEST_BITS (3 * CODEC_GROUP_ENTRIES + (CODEC_GROUP_ENTRIES + 1) / 2 * 18 + CODEC_GROUP_VALUES)

struct kernels_codec_problem kernels_codec_sparse_parse(
    const uint8_t *bytes, size_t length, size_t n, size_t k, int values, uint16_t *entries, float *levels) {
    const struct codec_ops *ops = codec_ops();
    size_t position = 0, end = 8 * length, maximum = kernels_codec_sparse_maximum_bytes(n, k, values);
    uint8_t copy[LONGEST_BITS / 8 + 2 + CODEC_SLACK];
    if (length > maximum) return codec_problem(KERNELS_CODEC_TRAILING, length - maximum, 0);
    for (size_t start = 0; start < n; start += CODEC_GROUP_VALUES) {
        struct codec_reading group = {.values = codec_least(n - start, CODEC_GROUP_VALUES), .k = k};
        int status = read_header(bytes, length, &position, &group, values, levels);
        if (status != KERNELS_CODEC_OK) return codec_problem(status, length, 0);
        size_t fixed = group.symbol_bits * group.count + (group.count + 1) / 2 * group.code.pair_bits;
        if (end - position < fixed + group.count) return codec_problem(KERNELS_CODEC_TRUNCATED, length, 0);
        // A group near the message's end is read from a copy with zeros behind it.
        size_t longest = (fixed + group.count + group.values / group.code.divisor) / 8 + 2, first = position / 8;
        group.bytes = bytes + first;
        group.position = position % 8;
        group.end = end - 8 * first;
        if (first + longest + CODEC_SLACK > length) {
            size_t there = codec_least(length - first, longest);
            memcpy(copy, bytes + first, there);
            memset(copy + there, 0, longest + CODEC_SLACK - there);
            group.bytes = copy;
        }
        struct kernels_codec_problem found = ops->unpack(&group, entries);
        if (found.status == KERNELS_CODEC_TRUNCATED) found.detail = length;
        if (found.status != KERNELS_CODEC_OK) return found;
        position = 8 * first + group.position;
        entries += KERNELS_CODEC_GROUP * k;
        levels += 4 * KERNELS_CODEC_GROUP;
    }
    size_t used = (position + 7) / 8;
    if (used < length) return codec_problem(KERNELS_CODEC_TRAILING, length - used, 0);
    if (position < end && bytes[length - 1] >> (position % 8) != 0) return codec_problem(KERNELS_CODEC_MALFORMED, 0, 0);
    return codec_problem(KERNELS_CODEC_OK, 0, 0);
}

void kernels_codec_sparse_scatter(const uint16_t *entries, const float *levels, size_t n, size_t k, float *into) {
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        float *target = into + tile * KERNELS_CODEC_TILE;
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        const uint16_t *entry = entries + tile * k, *end = entry + kernels_codec_sparse_tile_entries(m, k);
        memset(target, 0, 4 * m);
        if (*entry == CODEC_EMPTY) continue;
        for (; entry < end; entry++) target[*entry & 4095] = levels[4 * tile + (*entry >> 12)];
    }
}

void kernels_codec_sparse_accumulate(
    const uint16_t *entries, const float *levels, size_t n, size_t k, float weight, float *sum, float *weights) {
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        size_t start = tile * KERNELS_CODEC_TILE, m = codec_least(n - start, KERNELS_CODEC_TILE);
        const uint16_t *entry = entries + tile * k, *end = entry + kernels_codec_sparse_tile_entries(m, k);
        float product[4];
        if (*entry == CODEC_EMPTY) continue;
        for (size_t i = 0; i < 4; i++) product[i] = weight * levels[4 * tile + i];
        for (; entry < end; entry++) {
            size_t index = start + (*entry & 4095);
            sum[index] = sum[index] + product[*entry >> 12];
            weights[index] = weights[index] + weight;
        }
    }
}

void kernels_codec_sparse_mean(
    const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
    size_t k, float *into) {
    codec_ops()->mean(entries, levels, weight, contributors, n, k, into);
}
