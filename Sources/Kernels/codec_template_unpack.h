// The sparse decoder's half of codec_template.h. Nothing here but the search for ones depends on where the bits lie.

/// Positions of the ones among the `limit` bits from `position` on, until `count` or a few more (at most 64) are found;
/// answers how many. Eight bits at a time, by table.
static size_t find_ones(
    const uint8_t *restrict bytes, size_t position, size_t count, size_t limit, uint16_t *restrict positions) {
    size_t found = 0;
    for (size_t base = 0; base < limit && found < count; base += 48) {
        uint64_t word = codec_next(bytes, position, base, limit, 48);
        for (size_t part = 0; part < 48; part += 8, word >>= 8)
            found = append_ones((uint8_t)word, (uint16_t)(base + part), positions, found);
    }
    return found;
}

#ifndef CODEC_READ
/// Splits pairs of remainders; nonzero if one is not below divisor².
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders) {
    float inverse = 1 / (float)code.divisor;
    uint32_t mask = (1u << code.pair_bits) - 1;
    eight_ints bad = EIGHT(0), most = EIGHT(code.divisor - 1), order = {0, 1, 2, 3, 4, 5, 6, 7};
    for (size_t i = 0; i < pairs; i += 8) {
        eight_ints pair;
        for (size_t j = 0; j < 8; j++)
            pair[j] = (int32_t)((uint32_t)codec_peek(bytes, position + (i + j) * code.pair_bits) & mask);
        // Exact: (pair + ½) ÷ divisor is never nearer to an integer than the error of a float.
        eight_floats exact = __builtin_convertvector(pair, eight_floats) + 0.5f;
        eight_ints first = __builtin_convertvector(exact * inverse, eight_ints);
        eight_ints both = first | (pair - first * (int32_t)code.divisor) << 16;
        bad |= (first > most) & (order < EIGHT(pairs - i));
        memcpy(remainders + 2 * i, &both, 32);
    }
    return (uint32_t)__builtin_reduce_or(bad);
}

/// Entries' indexes in one tile: divisor · zeros up to and including their quotient (`ones` counts them and the ones
/// before) + remainders so far + entries before. Answers the last index. `symbols` is the bit where the tile's symbols
/// start.
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries) {
    eight_ints order = {0, 1, 2, 3, 4, 5, 6, 7}, twice = order * 2, sum = EIGHT(0), index = sum, zero = sum;
    for (size_t i = 0; i < count; i += 8) {
        eight_shorts some;
        memcpy(&some, remainders + i, 16);
        eight_ints more = __builtin_convertvector(some, eight_ints);
        // Sums along the lanes, by doubling.
        more += __builtin_shufflevector(zero, more, 0, 8, 9, 10, 11, 12, 13, 14);
        more += __builtin_shufflevector(zero, more, 0, 1, 8, 9, 10, 11, 12, 13);
        more += __builtin_shufflevector(zero, more, 0, 1, 2, 3, 8, 9, 10, 11);
        sum += more;
        memcpy(&some, ones + i, 16);
        eight_ints zeros = __builtin_convertvector(some, eight_ints) - (int32_t)start - order;
        index = zeros * (int32_t)divisor + sum + order;
        eight_ints symbol = EIGHT((uint16_t)codec_peek(bytes, symbols + 2 * i)) >> twice & 3;
        eight_shorts entry = __builtin_convertvector((index & 4095) | symbol << 12, eight_shorts);
        memcpy(entries + i, &entry, 2 * codec_least(8, count - i));
        sum = __builtin_shufflevector(sum, sum, 7, 7, 7, 7, 7, 7, 7, 7);
        order += 8;
    }
    return (uint32_t)index[(count - 1) % 8];
}
#endif

/// Puts a zero above each of `count` bits from bit `position` on: symbols of one bit become those of two.
static void widen_symbols(const uint8_t *restrict bytes, size_t position, size_t count, uint8_t *restrict wide) {
    for (size_t i = 0; i < count; i += 32) {
        uint64_t word = codec_peek(bytes, position + i) & 0xffffffff;
        word = (word | word << 16) & 0x0000ffff0000ffff;
        word = (word | word << 8) & 0x00ff00ff00ff00ff;
        word = (word | word << 4) & 0x0f0f0f0f0f0f0f0f;
        word = (word | word << 2) & 0x3333333333333333;
        word = (word | word << 1) & 0x5555555555555555;
        memcpy(wide + i / 4, &word, 8);
    }
}

static struct kernels_codec_problem unpack(struct codec_reading *group, uint16_t *entries) {
    uint16_t ones[CODEC_GROUP_ENTRIES + 64], remainders[CODEC_GROUP_ENTRIES + 64];
    uint8_t wide[CODEC_GROUP_ENTRIES / 4 + 16];
    size_t count = group->count, pairs = (count + 1) / 2, symbols_at = group->position;
    size_t pairs_at = symbols_at + group->symbol_bits * count, ones_at = pairs_at + pairs * group->code.pair_bits;
    uint32_t bad = read_pairs(group->bytes, pairs_at, pairs, group->code, remainders);
    if (bad || (count % 2 && remainders[count] != 0)) return codec_problem(KERNELS_CODEC_MALFORMED, 0, 0);
    // The indexes have to pay for every zero.
    size_t limit = codec_least(count + group->values / group->code.divisor, CODEC_GROUP_VALUES);
    if (find_ones(group->bytes, ones_at, count, limit, ones) < count) {
        if (ones_at + limit > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
        return codec_problem(KERNELS_CODEC_INDEX, group->values, group->values);
    }
    group->position = ones_at + (count > 0 ? ones[count - 1] + 1u : 0);
    if (group->position > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
    const uint8_t *symbols = group->bytes;
    if (group->symbol_bits == 1) {
        widen_symbols(symbols, symbols_at, count, wide);
        symbols = wide;
        symbols_at = 0;
    }
    size_t next = 0;
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < group->values; tile++, entries += group->k) {
        size_t m = codec_least(group->values - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        size_t here = group->in_tile[tile];
        if (here == 0) {
            *entries = CODEC_EMPTY;
            continue;
        }
        uint32_t first = next > 0 ? ones[next - 1] + 1u : 0;
        uint32_t index = read_tile(
            ones + next, remainders + next, here, first, group->code.divisor, symbols, symbols_at + 2 * next,
            entries);
        if (index >= m) return codec_problem(KERNELS_CODEC_INDEX, index, m);
        next += here;
    }
    return codec_problem(KERNELS_CODEC_OK, 0, 0);
}

/// A sum and the weights in it, next to each other, so that one addition serves both.
typedef float sum_and_weight __attribute__((vector_size(8)));

#ifndef CODEC_DIVIDE
/// into = sum ÷ weight, or 0 where nothing was added; leaves zeros. `large` results are written past the cache.
static void divide(sum_and_weight *restrict sums, size_t m, float *restrict into, bool large) {
    const eight_floats none = {}, one = none + 1;
    // Such stores need whole vectors: up to the first one, one by one.
    size_t i = 0, head = codec_least(m, (32 - ((uintptr_t)into & 31)) % 32 / 4);
    while (i < m) {
        if (i < head || m - i < 8) {
            float weight = sums[i][1] > 0 ? sums[i][1] : 1;
            into[i] = sums[i][0] / weight;
            i++;
            continue;
        }
        eight_floats low, high;
        memcpy(&low, sums + i, 32);
        memcpy(&high, sums + i + 4, 32);
        eight_floats sum = __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
        eight_ints weight = (eight_ints)__builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
        // Weights are never negative, so their bits order as they do.
        eight_ints empty = weight <= 0;
        eight_floats quotient = sum / (eight_floats)((empty & (eight_ints)one) | (~empty & weight));
        if (large) __builtin_nontemporal_store(quotient, (eight_floats *)(into + i));
        else memcpy(into + i, &quotient, 32);
        i += 8;
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
            const float *level = levels[c] + 4 * tile;
            if (entries[c][first] == CODEC_EMPTY) continue;
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
    // Stores past the cache are not ordered with the others.
    if (n >= 1 << 20) atomic_thread_fence(memory_order_seq_cst);
}
