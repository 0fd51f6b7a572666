// Sparse decoding: bytes are checked and unpacked first, and applied afterwards.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"
#include "codec_sparse.h"

/// At least 57 bits from bit `position` on; zeros beyond the end.
static inline uint64_t peek(const uint8_t *bytes, size_t length, size_t position) {
    size_t byte = position >> 3;
    uint64_t word = 0;
    if (byte + 8 <= length) memcpy(&word, bytes + byte, 8);
    else if (byte < length)
        for (size_t i = 0; byte + i < length; i++) word |= (uint64_t)bytes[byte + i] << (8 * i);
    return word >> (position & 7);
}

static inline struct kernels_codec_problem problem(int status, size_t detail, size_t limit) {
    return (struct kernels_codec_problem){status, detail, limit};
}

/// Reads a group's header into its levels and code.
static int read_header(uint32_t bits, uint32_t nominal, float *levels, struct codec_golomb *code) {
    uint32_t field = bits & 15, ratio = bits >> 4 & 63, large_bits = bits >> 10 & 0x3fff;
    if (large_bits >> 6 == 255) return KERNELS_CODEC_NOT_FINITE;
    if (large_bits == 0 ? ratio != 0 : large_bits >> 6 == 0) return KERNELS_CODEC_MALFORMED;
    *code = codec_golomb_for(nominal, field);
    float large = codec_float(large_bits << 17), small = large * ((float)(ratio + 1) * 0x1p-6f);
    levels[0] = small;
    levels[1] = -small;
    levels[2] = large;
    levels[3] = -large;
    return KERNELS_CODEC_OK;
}

struct kernels_codec_problem kernels_codec_sparse_parse(
    const uint8_t *bytes, size_t length, size_t n, size_t k, uint16_t *entries, float *levels) {
    size_t position = 0, end = 8 * length, maximum = kernels_codec_sparse_maximum_bytes(n, k);
    uint32_t nominal = codec_nominal_divisor(k);
    struct codec_golomb code = {1, 0, 0};
    if (length > maximum) return problem(KERNELS_CODEC_TRAILING, length - maximum, 0);
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        if (tile % KERNELS_CODEC_GROUP == 0) {
            if (end - position < CODEC_HEADER_BITS) return problem(KERNELS_CODEC_TRUNCATED, length, 0);
            int status = read_header(
                (uint32_t)peek(bytes, length, position), nominal, levels + tile / KERNELS_CODEC_GROUP * 4, &code);
            if (status != KERNELS_CODEC_OK) return problem(status, 0, 0);
            position += CODEC_HEADER_BITS;
        }
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE), next = 0;
        uint32_t short_bits = code.width > 0 ? code.width - 1 : 0, mask = (1u << short_bits) - 1;
        for (size_t left = kernels_codec_sparse_tile_entries(m, k); left > 0; left--) {
            uint64_t window = peek(bytes, length, position);
            while ((window & 0xffffffff) == 0) {
                next += (size_t)32 * code.divisor;
                position += 32;
                if (position > end) return problem(KERNELS_CODEC_TRUNCATED, length, 0);
                if (next >= m) return problem(KERNELS_CODEC_INDEX, next, m);
                window = peek(bytes, length, position);
            }
            uint32_t quotient = (uint32_t)__builtin_ctzll(window), used = quotient + 1 + short_bits;
            uint32_t remainder = (uint32_t)(window >> (quotient + 1)) & mask;
            if (remainder >= code.cut && code.width > 0) {
                remainder = (remainder << 1 | (uint32_t)(window >> used & 1)) - code.cut;
                used++;
            }
            uint32_t symbol = (uint32_t)(window >> used) & 3;
            position += used + 2;
            next += (size_t)quotient * code.divisor + remainder;
            if (position > end) return problem(KERNELS_CODEC_TRUNCATED, length, 0);
            if (next >= m) return problem(KERNELS_CODEC_INDEX, next, m);
            *entries++ = (uint16_t)(next | symbol << 12);
            next++;
        }
    }
    size_t used = (position + 7) / 8;
    if (used < length) return problem(KERNELS_CODEC_TRAILING, length - used, 0);
    if (position < end && peek(bytes, length, position) != 0) return problem(KERNELS_CODEC_MALFORMED, 0, 0);
    return problem(KERNELS_CODEC_OK, 0, 0);
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
    float weights[KERNELS_CODEC_TILE];
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        float *sum = into + tile * KERNELS_CODEC_TILE;
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        size_t first = tile * k, count = kernels_codec_sparse_tile_entries(m, k);
        memset(sum, 0, 4 * m);
        memset(weights, 0, 4 * m);
        for (size_t c = 0; c < contributors; c++) {
            float product[4];
            for (size_t i = 0; i < 4; i++) product[i] = weight[c] * levels[c][tile / KERNELS_CODEC_GROUP * 4 + i];
            for (size_t i = first; i < first + count; i++) {
                uint16_t entry = entries[c][i], index = entry & 4095;
                sum[index] = sum[index] + product[entry >> 12];
                weights[index] = weights[index] + weight[c];
            }
        }
        for (size_t i = 0; i < m; i++) sum[i] = sum[i] / (weights[i] > 0 ? weights[i] : 1);
    }
}
