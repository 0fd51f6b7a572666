// The sparse decoder's half of codec_template.h. Nothing here but the search for ones depends on where the bits lie.

#ifndef CODEC_UNPACK
/// Positions of the ones among the `limit` bits from `position` on, until `count` or a few more (at most 64) are found;
/// answers how many.
static size_t find_ones(
    const uint8_t *restrict bytes, size_t position, size_t count, size_t limit, uint16_t *restrict positions) {
    size_t found = 0;
    for (size_t base = 0; base < limit && found < count; base += 56) {
        uint64_t word = codec_next(bytes, position, base, limit, 56);
        for (; word; word &= word - 1) positions[found++] = (uint16_t)(base + (size_t)__builtin_ctzll(word));
    }
    return found;
}

/// Splits pairs of remainders; nonzero if one is not below divisor².
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders) {
    float inverse = 1 / (float)code.divisor;
    uint32_t mask = (1u << code.pair_bits) - 1, bad = 0;
    for (size_t i = 0; i < pairs; i++) {
        uint32_t pair = (uint32_t)codec_peek(bytes, position + i * code.pair_bits) & mask;
        // Exact: (pair + ½) ÷ divisor is never nearer to an integer than the error of a float.
        uint32_t first = (uint32_t)(int32_t)(((float)(int32_t)pair + 0.5f) * inverse);
        bad |= first >= code.divisor;
        remainders[2 * i] = (uint16_t)first;
        remainders[2 * i + 1] = (uint16_t)(pair - first * code.divisor);
    }
    return bad;
}

/// Entries' indexes in one tile: divisor · zeros up to and including their quotient (`ones` counts them and the ones
/// before) + remainders so far + entries before. Answers the last index. `symbols` is the bit where the tile's symbols
/// start.
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries) {
    uint32_t sum = 0, index = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t symbol = (uint32_t)bytes[(symbols + 2 * i) >> 3] | (uint32_t)bytes[((symbols + 2 * i) >> 3) + 1] << 8;
        symbol = symbol >> ((symbols + 2 * i) & 7) & 3;
        sum += remainders[i];
        index = divisor * (ones[i] - start - (uint32_t)i) + sum + (uint32_t)i;
        entries[i] = (uint16_t)(index | symbol << 12);
    }
    return index;
}
#endif

static struct kernels_codec_problem unpack(struct codec_reading *group, uint16_t *entries) {
    uint16_t ones[CODEC_GROUP_ENTRIES + 64], remainders[CODEC_GROUP_ENTRIES + 64];
    size_t count = group->count, pairs = (count + 1) / 2, symbols_at = group->position;
    size_t pairs_at = symbols_at + 2 * count, ones_at = pairs_at + pairs * group->code.pair_bits;
    uint32_t bad = read_pairs(group->bytes, pairs_at, pairs, group->code, remainders);
    if (bad || (count % 2 && remainders[count] != 0)) return codec_problem(KERNELS_CODEC_MALFORMED, 0, 0);
    // The indexes have to pay for every zero.
    size_t limit = codec_least(count + group->values / group->code.divisor, CODEC_GROUP_VALUES);
    if (find_ones(group->bytes, ones_at, count, limit, ones) < count) {
        if (ones_at + limit > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
        return codec_problem(KERNELS_CODEC_INDEX, group->values, group->values);
    }
    group->position = ones_at + ones[count - 1] + 1;
    if (group->position > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
    size_t next = 0;
    for (size_t start = 0; start < group->values; start += KERNELS_CODEC_TILE) {
        size_t m = codec_least(group->values - start, KERNELS_CODEC_TILE);
        size_t tile = kernels_codec_sparse_tile_entries(m, group->k);
        uint32_t first = next > 0 ? ones[next - 1] + 1u : 0;
        uint32_t index = read_tile(
            ones + next, remainders + next, tile, first, group->code.divisor, group->bytes, symbols_at + 2 * next,
            entries + next);
        if (index >= m) return codec_problem(KERNELS_CODEC_INDEX, index, m);
        next += tile;
    }
    return codec_problem(KERNELS_CODEC_OK, 0, 0);
}

/// A sum and the weights in it, next to each other, so that one addition serves both.
typedef float sum_and_weight __attribute__((vector_size(8)));

#ifndef CODEC_DIVIDE
/// into = sum ÷ weight, or 0 where nothing was added; leaves zeros. `large` results are not wanted in the cache.
static void divide(sum_and_weight *restrict sums, size_t m, float *restrict into, bool large) {
    (void)large;
    const float *flat = (const float *)sums;
    for (size_t i = 0; i < m; i++) {
        float weight = flat[2 * i + 1] > 0 ? flat[2 * i + 1] : 1;
        into[i] = flat[2 * i] / weight;
    }
    memset(sums, 0, m * sizeof *sums);
}
#endif

static void mean(
    const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
    size_t k, float *into) {
    _Alignas(64) sum_and_weight sums[KERNELS_CODEC_TILE];
    memset(sums, 0, sizeof sums);
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        size_t first = tile * k, last = first + kernels_codec_sparse_tile_entries(m, k);
        for (size_t c = 0; c < contributors; c++) {
            const float *level = levels[c] + tile / KERNELS_CODEC_GROUP * 4;
            sum_and_weight more[4];
            for (size_t i = 0; i < 4; i++) more[i] = (sum_and_weight){weight[c] * level[i], weight[c]};
            const uint16_t *all = entries[c];
            for (size_t i = first; i < last; i++) {
                size_t index = all[i] & 4095;
                sums[index] = sums[index] + more[all[i] >> 12];
            }
        }
        divide(sums, m, into + tile * KERNELS_CODEC_TILE, n >= 1 << 20);
    }
}
