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

/// An entry of more than 32 bits: its zeros in pieces.
static void put_long(struct bit_writer *writer, struct codec_golomb code, uint32_t gap, uint32_t symbol) {
    uint32_t quotient = gap / code.divisor, remainder = gap % code.divisor;
    for (; quotient > 32; quotient -= 32) put(writer, 0, 32);
    put(writer, 1ull << quotient, quotient + 1);
    if (code.width > 0) {
        uint32_t shifted = remainder + code.cut;
        put(writer, remainder < code.cut ? remainder : shifted >> 1, code.width - 1);
        if (remainder >= code.cut) put(writer, shifted & 1, 1);
    }
    put(writer, symbol, 2);
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

/// The chosen entries of one group: index in their tile, value, gap before them, and what they become. The room behind is for
/// wide stores.
struct group {
    uint16_t index[GROUP_ENTRIES + KERNELS_CODEC_TILE], gap[GROUP_ENTRIES];
    float value[GROUP_ENTRIES + KERNELS_CODEC_TILE], rest[GROUP_ENTRIES];
    uint32_t code[GROUP_ENTRIES];
    uint8_t length[GROUP_ENTRIES];
};

/// Writes a group of n values and takes what was sent out of the feedback.
static void emit(
    const struct codec_ops *ops, struct bit_writer *writer, struct group *group, size_t count, size_t k, size_t n,
    float *feedback) {
    float small, large;
    ops->lloyd(group->value, count, &small, &large);
    uint32_t field = best_field(ops, group->gap, count, codec_nominal_divisor(k));
    put(writer, header(&small, &large) | field, CODEC_HEADER_BITS);
    struct codec_golomb code = codec_golomb_for(codec_nominal_divisor(k), field);
    ops->golomb_codes(group->gap, group->value, count, code, small, large, group->code, group->length, group->rest);
    struct bit_writer local = *writer;
    for (size_t i = 0; i < count; i++) {
        if (group->length[i] > 0) {
            put(&local, group->code[i], group->length[i]);
        } else {
            uint32_t negative = codec_bits(group->value[i]) >> 31;
            uint32_t is_large = fabsf(group->value[i]) > (small + large) * 0.5f;
            put_long(&local, code, group->gap[i], negative | is_large << 1);
        }
    }
    *writer = local;
    if (!feedback) return;
    for (size_t start = 0, i = 0; start < n; start += KERNELS_CODEC_TILE) {
        size_t end = i + kernels_codec_sparse_tile_entries(codec_least(n - start, KERNELS_CODEC_TILE), k);
        for (; i < end; i++) feedback[start + group->index[i]] = group->rest[i];
    }
}

size_t kernels_codec_sparse_encode(const float *values, float *feedback, size_t n, size_t k, uint8_t *out) {
    const struct codec_ops *ops = codec_ops();
    struct bit_writer writer = {out, 0, 0};
    struct group group;
    struct codec_guess guess = {0, 0.9f};
    bool refused = false;
    for (size_t start = 0; start < n; start += GROUP_VALUES) {
        size_t length = codec_least(n - start, GROUP_VALUES), count = 0;
        for (size_t offset = 0; offset < length; offset += KERNELS_CODEC_TILE) {
            size_t m = codec_least(length - offset, KERNELS_CODEC_TILE), first = start + offset;
            size_t entries = kernels_codec_sparse_tile_entries(m, k);
            float *kept = feedback ? feedback + first : 0;
            if (!ops->choose(values + first, kept, m, entries, &guess, group.index + count, group.value + count)) {
                refused = true;
                if (kept) codec_zero_non_finite(kept, m);
                continue;
            }
            group.gap[count] = group.index[count];
            for (size_t i = count + 1; i < count + entries; i++)
                group.gap[i] = (uint16_t)(group.index[i] - group.index[i - 1] - 1);
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
