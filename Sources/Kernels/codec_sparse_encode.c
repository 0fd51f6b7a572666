// Sparse encoding of a tensor, group by group, so that a group's error feedback (256 KiB) is still in the cache when its
// magnitudes are known and what was sent is subtracted.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"
#include "codec_sparse.h"

#include <math.h>

size_t kernels_codec_sparse_tile_entries(size_t m, size_t k) {
    size_t scaled = (k * m + KERNELS_CODEC_TILE - 1) / KERNELS_CODEC_TILE;
    size_t least = codec_least(k, 4);
    return codec_least(m, scaled > least ? scaled : least);
}

size_t kernels_codec_sparse_entries(size_t n, size_t k) {
    size_t rest = n % KERNELS_CODEC_TILE;
    return n / KERNELS_CODEC_TILE * k + (rest ? kernels_codec_sparse_tile_entries(rest, k) : 0);
}

size_t kernels_codec_sparse_groups(size_t n) {
    const size_t group = KERNELS_CODEC_TILE * KERNELS_CODEC_GROUP;
    return n / group + (n % group != 0);
}

/// The nominal divisor bounds the cost: each tile's gaps add up to at most m − k.
static size_t tile_maximum_bits(size_t m, size_t k) {
    struct codec_golomb code = codec_golomb_for(codec_nominal_divisor(k), 15);
    size_t entries = kernels_codec_sparse_tile_entries(m, k);
    return entries * (3 + code.width) + (m - entries) / code.divisor;
}

size_t kernels_codec_sparse_maximum_bytes(size_t n, size_t k) {
    size_t rest = n % KERNELS_CODEC_TILE;
    size_t bits = kernels_codec_sparse_groups(n) * CODEC_HEADER_BITS +
        n / KERNELS_CODEC_TILE * tile_maximum_bits(KERNELS_CODEC_TILE, k) + (rest ? tile_maximum_bits(rest, k) : 0);
    return (bits + 7) / 8;
}

/// Bits go to ever higher positions of little-endian words.
struct bit_writer {
    uint8_t *out;
    uint64_t pending;
    uint32_t count;
};

/// At most 56 bits at a time; `out` has eight bytes to spare.
static inline void put(struct bit_writer *writer, uint64_t bits, uint32_t count) {
    writer->pending |= bits << writer->count;
    memcpy(writer->out, &writer->pending, 8);
    writer->count += count;
    writer->out += writer->count >> 3;
    writer->pending >>= writer->count & ~7u;
    writer->count &= 7;
}

static inline void put_entry(
    struct bit_writer *writer, struct codec_golomb code, float inverse, uint32_t gap, uint32_t symbol) {
    uint32_t quotient = (uint32_t)(((float)gap + 0.5f) * inverse);
    uint32_t remainder = gap - quotient * code.divisor, rest_bits, rest;
    if (remainder < code.cut) {
        rest_bits = code.width - 1;
        rest = remainder;
    } else if (code.width > 0) {
        // The upper width − 1 bits first, so that a reader knows from them whether one more follows.
        uint32_t shifted = remainder + code.cut;
        rest_bits = code.width;
        rest = shifted >> 1 | (shifted & 1) << (code.width - 1);
    } else {
        rest_bits = 0;
        rest = 0;
    }
    while (quotient > 32) {
        put(writer, 0, 32);
        quotient -= 32;
    }
    uint64_t bits = 1 | (uint64_t)(rest | symbol << rest_bits) << 1;
    put(writer, bits << quotient, quotient + 1 + rest_bits + 2);
}

/// Rounds the magnitudes to what a header can say. Below 2⁻¹⁰⁰ both become zero.
static uint32_t header(float *small, float *large) {
    if (*large < 0x1p-100f) {
        *small = *large = 0;
        return 0;
    }
    uint32_t bits = codec_bits(*large), code = (bits + 0xffff + (bits >> 17 & 1)) >> 17;
    if (code > 0x3fbf) code = 0x3fbf;
    *large = codec_float(code << 17);
    float ratio = *small / *large * 64 + 0.5f;
    uint32_t sixty_fourths = ratio >= 64 ? 64 : ratio < 1 ? 1 : (uint32_t)ratio;
    *small = *large * ((float)sixty_fourths * 0x1p-6f);
    return (sixty_fourths - 1) << 4 | code << 10;
}

/// The divisor field that spends the fewest bits; of equal ones the largest.
static uint32_t best_field(const struct codec_ops *ops, const uint16_t *gaps, size_t count, uint32_t nominal) {
    uint32_t best = 15, last = 0;
    size_t fewest = SIZE_MAX;
    for (uint32_t field = 16; field-- > 0;) {
        uint32_t divisor = codec_golomb_for(nominal, field).divisor;
        if (divisor == last) continue;
        last = divisor;
        size_t bits = ops->golomb_bits(gaps, count, divisor);
        if (bits < fewest) {
            fewest = bits;
            best = field;
        }
    }
    return best;
}

#define GROUP_VALUES (KERNELS_CODEC_TILE * KERNELS_CODEC_GROUP)
#define GROUP_ENTRIES (KERNELS_CODEC_SPARSE_K_MAX * KERNELS_CODEC_GROUP)

/// The chosen entries of one group: their index in their tile, value, and gap before them. 16 more for wide stores.
struct group {
    uint16_t index[GROUP_ENTRIES + KERNELS_CODEC_TILE], gap[GROUP_ENTRIES + 16];
    float value[GROUP_ENTRIES + KERNELS_CODEC_TILE];
};

static void emit(
    const struct codec_ops *ops, struct bit_writer *writer, const struct group *group, size_t count, size_t k,
    size_t n, float *feedback) {
    float small, large;
    ops->lloyd(group->value, count, &small, &large);
    uint32_t field = best_field(ops, group->gap, count, codec_nominal_divisor(k));
    put(writer, header(&small, &large) | field, CODEC_HEADER_BITS);
    struct codec_golomb code = codec_golomb_for(codec_nominal_divisor(k), field);
    float inverse = 1 / (float)code.divisor, split = (small + large) * 0.5f;
    size_t entry = 0;
    for (size_t start = 0; start < n; start += KERNELS_CODEC_TILE) {
        size_t m = codec_least(n - start, KERNELS_CODEC_TILE);
        size_t end = entry + kernels_codec_sparse_tile_entries(m, k);
        for (; entry < end; entry++) {
            float value = group->value[entry];
            uint32_t negative = codec_bits(value) >> 31, is_large = fabsf(value) > split;
            put_entry(writer, code, inverse, group->gap[entry], negative | is_large << 1);
            if (!feedback) continue;
            float sent = codec_float(codec_bits(is_large ? large : small) | negative << 31);
            feedback[start + group->index[entry]] = value - sent;
        }
    }
}

size_t kernels_codec_sparse_encode(const float *values, float *feedback, size_t n, size_t k, uint8_t *out) {
    const struct codec_ops *ops = codec_ops();
    struct bit_writer writer = {out, 0, 0};
    struct group group;
    float hint = 0;
    bool refused = false;
    for (size_t start = 0; start < n; start += GROUP_VALUES) {
        size_t length = codec_least(n - start, GROUP_VALUES), count = 0;
        for (size_t offset = 0; offset < length; offset += KERNELS_CODEC_TILE) {
            size_t m = codec_least(length - offset, KERNELS_CODEC_TILE);
            size_t entries = kernels_codec_sparse_tile_entries(m, k);
            float *kept = feedback ? feedback + start + offset : 0;
            float last = ops->select(
                values + start + offset, kept, m, entries, hint, group.index + count, group.value + count);
            if (isnan(last)) {
                refused = true;
                if (kept) codec_zero_non_finite(kept, m);
                continue;
            }
            hint = last;
            int previous = -1;
            for (size_t i = count; i < count + entries; i++) {
                group.gap[i] = (uint16_t)(group.index[i] - previous - 1);
                previous = group.index[i];
            }
            count += entries;
        }
        if (!refused) emit(ops, &writer, &group, count, k, length, feedback ? feedback + start : 0);
    }
    if (refused) {
        // A header whose magnitude is infinite.
        out[0] = out[1] = 0;
        out[2] = 0xff;
        return 3;
    }
    return (size_t)(writer.out - out) + (writer.count > 0);
}
