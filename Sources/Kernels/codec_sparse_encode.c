// Sparse encoding of a tensor, group by group, so that a group's error feedback (256 KiB) is still in the cache when
// its magnitudes are known and what was sent is subtracted.
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

size_t kernels_codec_sparse_tiles(size_t n) { return n / KERNELS_CODEC_TILE + (n % KERNELS_CODEC_TILE != 0); }

/// No divisor field does worse than any other one's bound: each tile's gaps add up to at most m − k.
size_t kernels_codec_sparse_maximum_bytes(size_t n, size_t k, int values) {
    size_t rest = n % KERNELS_CODEC_TILE, entries = kernels_codec_sparse_entries(n, k);
    size_t groups = n / CODEC_GROUP_VALUES + (n % CODEC_GROUP_VALUES != 0), least = SIZE_MAX;
    size_t rest_gaps = rest ? rest - kernels_codec_sparse_tile_entries(rest, k) : 0;
    for (uint32_t field = 0; field < CODEC_DIVISORS; field++) {
        struct codec_golomb code = codec_golomb_for(field);
        size_t zeros = n / KERNELS_CODEC_TILE * ((KERNELS_CODEC_TILE - k) / code.divisor) + rest_gaps / code.divisor;
        // A group with an odd number of entries pads its last pair.
        size_t pairs = entries / 2 + groups;
        least = codec_least(least, (1 + codec_symbol_bits(values)) * entries + pairs * code.pair_bits + zeros);
    }
    return (least + groups * codec_header_bits(values) + 3 * kernels_codec_sparse_tiles(n) + 7) / 8;
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

/// One or two bits a symbol, eight symbols (bytes) at a time.
static void put_symbols(struct bit_writer *writer, const uint8_t *symbols, size_t count, uint32_t width) {
    struct bit_writer local = *writer;
    for (size_t i = 0; width == 1 && i < count; i += 8) {
        uint64_t eight;
        memcpy(&eight, symbols + i, 8);
        eight = (eight | eight >> 7) & 0x0003000300030003;
        eight = (eight | eight >> 14) & 0x0000000f0000000f;
        eight = (eight | eight >> 28) & 0xff;
        put(&local, eight, (uint32_t)codec_least(8, count - i));
    }
    if (width == 1) {
        *writer = local;
        return;
    }
    for (size_t i = 0; i < count; i += 8) {
        uint64_t eight;
        memcpy(&eight, symbols + i, 8);
        eight = (eight | eight >> 6) & 0x000f000f000f000f;
        eight = (eight | eight >> 12) & 0x000000ff000000ff;
        eight = (eight | eight >> 24) & 0xffff;
        put(&local, eight, 2 * (uint32_t)codec_least(8, count - i));
    }
    *writer = local;
}

static void put_pairs(struct bit_writer *writer, const uint16_t *remainders, size_t count, struct codec_golomb code) {
    struct bit_writer local = *writer;
    size_t pairs = (count + 1) / 2, i = 0;
    for (; i + 2 <= pairs; i += 2) {
        uint64_t first = remainders[2 * i] * code.divisor + remainders[2 * i + 1];
        uint64_t second = remainders[2 * i + 2] * code.divisor + remainders[2 * i + 3];
        put(&local, first | second << code.pair_bits, 2 * code.pair_bits);
    }
    if (i < pairs) put(&local, remainders[2 * i] * code.divisor + remainders[2 * i + 1], code.pair_bits);
    *writer = local;
}

/// A quotient is that many zeros and a one.
static void put_unary(struct bit_writer *writer, const uint16_t *quotients, size_t count) {
    struct bit_writer local = *writer;
    uint64_t word = 0;
    uint32_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += quotients[i];
        while (used >= 48) {
            put(&local, word, 48);
            word = 0;
            used -= 48;
        }
        word |= 1ull << used;
        used++;
    }
    put(&local, word, used);
    *writer = local;
}

/// Rounds the magnitudes to what a header can say: ratio (6 bits), large (14).
static uint32_t header(float *small, float *large) {
    uint32_t bits = codec_bits(*large), code = (bits + 0xffff + (bits >> 17 & 1)) >> 17;
    if (code > 0x3fbf) code = 0x3fbf;
    *large = codec_float(code << 17);
    float ratio = *small / *large * 64 + 0.5f;
    uint32_t sixty_fourths = ratio >= 64 ? 64 : ratio < 1 ? 1 : (uint32_t)ratio;
    *small = *large * ((float)sixty_fourths * 0x1p-6f);
    return (sixty_fourths - 1) | code << 6;
}

/// The divisor field that spends the fewest bits; of equal ones the largest.
static uint32_t best_field(const struct codec_ops *ops, const uint16_t *gaps, size_t count) {
    uint32_t best = 0;
    size_t fewest = SIZE_MAX;
    for (uint32_t field = CODEC_DIVISORS; field-- > 0;) {
        struct codec_golomb code = codec_golomb_for(field);
        size_t bits = (count + 1) / 2 * code.pair_bits + ops->quotient_sum(gaps, count, code.divisor);
        if (bits < fewest) {
            fewest = bits;
            best = field;
        }
    }
    return best;
}

/// The chosen entries of one group, tile by tile: index in their tile, gap before them, value; then, without those of
/// empty tiles: gap again, value × 4^shift, and what they become. The room behind is for wide stores.
struct group {
    uint16_t index[CODEC_GROUP_ENTRIES + KERNELS_CODEC_TILE], gap[CODEC_GROUP_ENTRIES];
    float value[CODEC_GROUP_ENTRIES + KERNELS_CODEC_TILE], scaled[CODEC_GROUP_ENTRIES];
    uint16_t quotient[CODEC_GROUP_ENTRIES], remainder[CODEC_GROUP_ENTRIES + 16];
    uint8_t symbol[CODEC_GROUP_ENTRIES + 16];
    /// Entries chosen in each tile, and its scale: magnitudes × 4^−shift, or EMPTY.
    size_t in_tile[KERNELS_CODEC_GROUP];
    uint32_t shift[KERNELS_CODEC_GROUP];
};
#define EMPTY 4

/// Gives each tile the scale whose magnitudes are nearest to its own, the largest tile setting the group's; drops tiles
/// with less than 1/128 of that. Answers how many entries remain.
static size_t scale_tiles(const struct codec_ops *ops, struct group *group, size_t tiles) {
    static const float powers[EMPTY] = {1, 4, 16, 64};
    float means[KERNELS_CODEC_GROUP], largest = 0;
    for (size_t tile = 0, i = 0; tile < tiles; i += group->in_tile[tile++]) {
        float mean = ops->magnitude_sum(group->value + i, group->in_tile[tile]) / (float)group->in_tile[tile];
        means[tile] = mean > 0x1.fffffep127f ? 0x1.fffffep127f : mean;
        largest = means[tile] > largest ? means[tile] : largest;
    }
    size_t kept = 0;
    for (size_t tile = 0, i = 0; tile < tiles; i += group->in_tile[tile++]) {
        uint32_t shift = largest < 0x1p-100f ? EMPTY : 0;
        while (shift < EMPTY && means[tile] * (2 * powers[shift]) <= largest) shift++;
        group->shift[tile] = shift;
        if (shift == EMPTY) continue;
        for (size_t j = 0; j < group->in_tile[tile]; j++) group->scaled[kept + j] = group->value[i + j] * powers[shift];
        memmove(group->gap + kept, group->gap + i, 2 * group->in_tile[tile]);
        kept += group->in_tile[tile];
    }
    return kept;
}

/// The magnitudes of a group's entries, and the header's bits that say them.
static uint64_t choose_magnitudes(
    const struct codec_ops *ops, const float *scaled, size_t count, int values, struct codec_magnitudes *found) {
    *found = (struct codec_magnitudes){{0, 0}, {0, 0}};
    if (count == 0) return 0;
    if (values == KERNELS_CODEC_SIGN) {
        float small = 0, large = ops->magnitude_sum(scaled, count) / (float)count;
        uint64_t fields = header(&small, &large) >> 6;
        *found = (struct codec_magnitudes){{large, large}, {large, large}};
        return fields;
    }
    if (values == KERNELS_CODEC_SIGN_MAGNITUDE) {
        float small, large;
        ops->lloyd(scaled, count, &small, &large);
        uint64_t fields = header(&small, &large);
        *found = (struct codec_magnitudes){{small, small}, {large, large}};
        return fields;
    }
    uint64_t fields = 0;
    for (int sign = 0; sign < 2; sign++) {
        float some[CODEC_GROUP_ENTRIES];
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            some[n] = scaled[i];
            n += (codec_bits(scaled[i]) >> 31) == (uint32_t)sign;
        }
        if (n == 0) continue;
        ops->lloyd(some, n, &found->small[sign], &found->large[sign]);
        // All entries of one sign may be zeros, which the other sign's large magnitude must not make malformed.
        if (found->large[sign] < 0x1p-126f) found->large[sign] = 0x1p-126f;
        fields |= (uint64_t)header(&found->small[sign], &found->large[sign]) << (20 * sign);
    }
    return fields;
}

/// Writes a group of tiles and takes what was sent out of the feedback.
static void emit(
    const struct codec_ops *ops, struct bit_writer *writer, struct group *group, size_t tiles, int values,
    float *feedback) {
    size_t count = scale_tiles(ops, group, tiles);
    struct codec_magnitudes magnitudes;
    uint64_t fields = choose_magnitudes(ops, group->scaled, count, values, &magnitudes);
    uint32_t field = count > 0 ? best_field(ops, group->gap, count) : 0;
    put(writer, fields << 4 | field, codec_header_bits(values));
    for (size_t tile = 0; tile < tiles; tile++) {
        if (group->shift[tile] == 0) put(writer, 1, 1);
        else put(writer, (group->shift[tile] - 1) << 1, 3);
    }
    struct codec_golomb code = codec_golomb_for(field);
    float middle[2];
    for (int sign = 0; sign < 2; sign++) middle[sign] = (magnitudes.small[sign] + magnitudes.large[sign]) * 0.5f;
    ops->split(
        group->gap, group->scaled, count, code.divisor, values == KERNELS_CODEC_SIGN ? INFINITY : middle[0],
        group->quotient, group->remainder, group->symbol);
    if (values == KERNELS_CODEC_TWO_BIT) {
        for (size_t i = 0; i < count; i++) {
            if (group->symbol[i] & 1) group->symbol[i] = fabsf(group->scaled[i]) > middle[1] ? 3 : 1;
        }
    }
    put_symbols(writer, group->symbol, count, codec_symbol_bits(values));
    put_pairs(writer, group->remainder, count, code);
    put_unary(writer, group->quotient, count);
    if (!feedback) return;
    for (size_t tile = 0, i = 0, next = 0; tile < tiles; i += group->in_tile[tile++]) {
        if (group->shift[tile] == EMPTY) continue;
        float *kept = feedback + tile * KERNELS_CODEC_TILE, level[4];
        codec_levels(magnitudes, group->shift[tile], level);
        for (size_t j = i; j < i + group->in_tile[tile]; j++, next++)
            kept[group->index[j]] = group->value[j] - level[group->symbol[next]];
    }
}

size_t kernels_codec_sparse_encode(
    const float *values, float *feedback, size_t n, size_t k, int kind, float decay, uint8_t *out) {
    const struct codec_ops *ops = codec_ops();
    struct bit_writer writer = {out, 0, 0};
    struct group group;
    struct codec_guess guess = {0, 0.9f};
    bool refused = false;
    for (size_t start = 0; start < n; start += CODEC_GROUP_VALUES) {
        size_t tiles = kernels_codec_sparse_tiles(codec_least(n - start, CODEC_GROUP_VALUES)), count = 0;
        for (size_t tile = 0; tile < tiles; tile++) {
            size_t first = start + tile * KERNELS_CODEC_TILE, m = codec_least(n - first, KERNELS_CODEC_TILE);
            size_t entries = group.in_tile[tile] = kernels_codec_sparse_tile_entries(m, k);
            float *kept = feedback ? feedback + first : 0;
            if (!ops->choose(
                    values + first, kept, decay, m, entries, &guess, group.index + count, group.value + count)) {
                refused = true;
                if (kept) codec_zero_non_finite(kept, m);
                continue;
            }
            group.gap[count] = group.index[count];
            for (size_t i = count + 1; i < count + entries; i++)
                group.gap[i] = (uint16_t)(group.index[i] - group.index[i - 1] - 1);
            count += entries;
        }
        if (!refused) emit(ops, &writer, &group, tiles, kind, feedback ? feedback + start : 0);
    }
    if (refused) {
        // A header whose first large magnitude is infinite.
        memset(out, 0, 6);
        size_t at = kind == KERNELS_CODEC_SIGN ? 10 : 16;
        out[at / 8] = (uint8_t)(0xff << at % 8);
        out[at / 8 + 1] = (uint8_t)(0xff >> (8 - at % 8));
        return (codec_header_bits(kind) + 7) / 8;
    }
    return (size_t)(writer.out - out) + (writer.count > 0);
}
