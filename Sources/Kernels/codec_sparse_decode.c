// Sparse decoding: bytes are checked and unpacked first, and applied afterwards.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"
#include "codec_sparse.h"

/// Reads a group's header into its levels and code.
static int read_header(uint32_t bits, float *levels, struct codec_golomb *code) {
    uint32_t field = bits & 15, ratio = bits >> 4 & 63, large_bits = bits >> 10 & 0x3fff;
    if (large_bits >> 6 == 255) return KERNELS_CODEC_NOT_FINITE;
    if (large_bits == 0 ? ratio != 0 : large_bits >> 6 == 0) return KERNELS_CODEC_MALFORMED;
    *code = codec_golomb_for(field);
    float large = codec_float(large_bits << 17), small = large * ((float)(ratio + 1) * 0x1p-6f);
    levels[0] = small;
    levels[1] = -small;
    levels[2] = large;
    levels[3] = -large;
    return KERNELS_CODEC_OK;
}

/// The longest that a group can be with any divisor.
#define LONGEST_BITS                                                                                                   \
    (CODEC_HEADER_BITS + 3 * CODEC_GROUP_ENTRIES + (CODEC_GROUP_ENTRIES + 1) / 2 * 18 + CODEC_GROUP_VALUES)

struct kernels_codec_problem kernels_codec_sparse_parse(
    const uint8_t *bytes, size_t length, size_t n, size_t k, uint16_t *entries, float *levels) {
    const struct codec_ops *ops = codec_ops();
    size_t position = 0, end = 8 * length, maximum = kernels_codec_sparse_maximum_bytes(n, k);
    uint8_t copy[LONGEST_BITS / 8 + 2 + CODEC_SLACK];
    if (length > maximum) return codec_problem(KERNELS_CODEC_TRAILING, length - maximum, 0);
    for (size_t start = 0; start < n; start += CODEC_GROUP_VALUES, levels += 4) {
        struct codec_reading group = {.values = codec_least(n - start, CODEC_GROUP_VALUES), .k = k};
        group.count = kernels_codec_sparse_entries(group.values, k);
        if (end - position < CODEC_HEADER_BITS) return codec_problem(KERNELS_CODEC_TRUNCATED, length, 0);
        uint32_t header = 0;
        for (size_t i = 0; i < 4 && position / 8 + i < length; i++)
            header |= (uint32_t)bytes[position / 8 + i] << (8 * i);
        int status = read_header(header >> (position % 8), levels, &group.code);
        if (status != KERNELS_CODEC_OK) return codec_problem(status, 0, 0);
        position += CODEC_HEADER_BITS;
        size_t fixed = 2 * group.count + (group.count + 1) / 2 * group.code.pair_bits;
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
        entries += group.count;
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
        const float *level = levels + tile / KERNELS_CODEC_GROUP * 4;
        memset(target, 0, 4 * m);
        for (size_t left = kernels_codec_sparse_tile_entries(m, k); left > 0; left--, entries++)
            target[*entries & 4095] = level[*entries >> 12];
    }
}

void kernels_codec_sparse_accumulate(
    const uint16_t *entries, const float *levels, size_t n, size_t k, float weight, float *sum, float *weights) {
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        size_t start = tile * KERNELS_CODEC_TILE, m = codec_least(n - start, KERNELS_CODEC_TILE);
        float product[4];
        for (int i = 0; i < 4; i++) product[i] = weight * levels[tile / KERNELS_CODEC_GROUP * 4 + (size_t)i];
        for (size_t left = kernels_codec_sparse_tile_entries(m, k); left > 0; left--, entries++) {
            size_t index = start + (*entries & 4095);
            sum[index] = sum[index] + product[*entries >> 12];
            weights[index] = weights[index] + weight;
        }
    }
}

void kernels_codec_sparse_mean(
    const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
    size_t k, float *into) {
    codec_ops()->mean(entries, levels, weight, contributors, n, k, into);
}
