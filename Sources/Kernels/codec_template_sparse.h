// The sparse half of codec_template.h. Vectors of eight are the compiler's: it makes of them what the instruction set
// has.

typedef float eight_floats __attribute__((vector_size(32)));
typedef int32_t eight_ints __attribute__((vector_size(32)));
typedef uint8_t eight_bytes __attribute__((vector_size(8)));
typedef uint16_t eight_shorts __attribute__((vector_size(16)));
typedef bool eight_bools __attribute__((ext_vector_type(8)));

#define EIGHT(value) ((eight_ints){} + (int32_t)(value))
#define INLINE static inline __attribute__((always_inline))

/// Appends base + the position of each one of `mask` (eight bits); writes eight places whatever the count.
INLINE size_t append_ones(uint8_t mask, uint16_t base, uint16_t *restrict to, size_t count) {
    eight_bytes positions;
    memcpy(&positions, codec_ones + mask, 8);
    eight_shorts all = __builtin_convertvector(positions, eight_shorts) + base;
    memcpy(to + count, &all, 16);
    return count + (size_t)__builtin_popcount(mask);
}

#ifndef CODEC_GATHER
/// Collects the indexes of values whose magnitude's bits are at least `threshold` (`index` [m + 16]), and answers how
/// many; `largest` becomes the largest magnitude's bits. With `feedback`, decays it and adds the values first, and
/// collects from it.
static size_t gather(
    const float *restrict values, float *restrict feedback, float decay, size_t m, uint32_t threshold,
    uint16_t *restrict index, uint32_t *restrict largest) {
    // Signed comparison is right because magnitudes are below 2³¹; a threshold of 0 takes everything.
    eight_ints below = EIGHT(threshold - 1), most = EIGHT(0);
    size_t i = 0, count = 0;
    for (; i + 8 <= m; i += 8) {
        eight_floats sum;
        memcpy(&sum, values + i, 32);
        if (feedback) {
            eight_floats kept;
            memcpy(&kept, feedback + i, 32);
            kept = kept * decay;
            sum = kept + sum;
            memcpy(feedback + i, &sum, 32);
            // The next tile, for which there would be nobody to ask while this one is being sorted out.
            __builtin_prefetch((const void *)((uintptr_t)(values + i) + 4 * KERNELS_CODEC_TILE), 0, 2);
            __builtin_prefetch((const void *)((uintptr_t)(feedback + i) + 4 * KERNELS_CODEC_TILE), 1, 2);
        }
        eight_ints magnitudes = (eight_ints)sum & (int32_t)MAGNITUDE;
        most = __builtin_elementwise_max(most, magnitudes);
        eight_bools above = __builtin_convertvector(magnitudes > below, eight_bools);
        uint8_t mask;
        memcpy(&mask, &above, 1);
        count = append_ones(mask, (uint16_t)i, index, count);
    }
    *largest = (uint32_t)__builtin_reduce_max(most);
    for (; i < m; i++) {
        float value = values[i];
        if (feedback) {
            float kept = feedback[i] * decay;
            feedback[i] = value = kept + value;
        }
        uint32_t magnitude = codec_bits(value) & MAGNITUDE;
        *largest = magnitude > *largest ? magnitude : *largest;
        if (magnitude >= threshold) index[count++] = (uint16_t)i;
    }
    return count;
}

/// How many of n magnitudes are at least `threshold` > 0; `magnitudes` has 16 zeros behind them.
static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold) {
    eight_ints below = EIGHT(threshold - 1), low = EIGHT(0), high = low;
    for (size_t i = 0; i < n; i += 16) {
        eight_ints first, second;
        memcpy(&first, magnitudes + i, 32);
        memcpy(&second, magnitudes + i + 8, 32);
        low -= first > below;
        high -= second > below;
    }
    return (size_t)(uint32_t)__builtin_reduce_add(low + high);
}

/// Keeps the indexes of the n magnitudes that are at least `threshold`; `kept` may be `index`.
static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        kept[count] = index[i];
        count += magnitudes[i] >= threshold;
    }
}
#endif

/// A magnitude that exactly k of n reach, or else (when equal magnitudes do not allow that) the k-th largest. At least
/// k are ≥ low; fewer than k are ≥ high.
static inline uint32_t kth(const uint32_t *magnitudes, size_t n, size_t k, uint32_t low, uint32_t high) {
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        size_t count = count_from(magnitudes, n, middle);
        if (count == k) return middle;
        if (count > k) low = middle;
        else high = middle;
    }
    return low;
}

/// A threshold that at least k values reach, and not many more: the k-th largest of the maxima of groups (the values
/// whose index is equal modulo the number of groups), of which there are 4k where there is room for so many.
static uint32_t sure_threshold(const float *values, size_t m, size_t k) {
    uint32_t maxima[KERNELS_CODEC_TILE + 16] = {0};
    size_t groups = 16;
    while (groups < 4 * k) groups *= 2;
    if (groups > m) groups = m;
    for (size_t start = 0; start < m; start += groups) {
        size_t end = codec_least(groups, m - start);
        for (size_t i = 0; i < end; i++) {
            uint32_t magnitude = codec_bits(values[start + i]) & MAGNITUDE;
            maxima[i] = magnitude > maxima[i] ? magnitude : maxima[i];
        }
    }
    uint32_t largest = 0;
    for (size_t i = 0; i < groups; i++) largest = maxima[i] > largest ? maxima[i] : largest;
    return kth(maxima, groups, k, 0, largest + 1);
}

/// Of n candidates in ascending order, the k largest; of equal ones those that come first. `last` is the k-th largest.
static void keep_first(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, size_t k, uint32_t last, uint16_t *kept) {
    size_t equal = k - count_from(magnitudes, n, last + 1), count = 0;
    for (size_t i = 0; i < n; i++) {
        if (magnitudes[i] < last || (magnitudes[i] == last && equal == 0)) continue;
        equal -= magnitudes[i] == last;
        kept[count++] = index[i];
    }
}

static bool choose(
    const float *values, float *feedback, float decay, size_t m, size_t k, struct codec_guess *guess, uint16_t *indexes,
    float *chosen) {
    uint32_t magnitudes[KERNELS_CODEC_TILE + 16], largest, threshold = codec_bits(guess->last * guess->share);
    uint16_t index[KERNELS_CODEC_TILE + 16];
    // Without a guess this pass adds, and looks for the largest only.
    size_t count = gather(values, feedback, decay, m, threshold ? threshold : INFINITE, index, &largest);
    if (largest >= INFINITE) return false;
    const float *from = feedback ? feedback : values;
    // The share of the last k-th magnitude that is looked from creeps towards 1 while candidates abound.
    if (count < k) {
        if (threshold) guess->share *= 0.95f;
        threshold = sure_threshold(from, m, k);
        uint32_t again;
        count = gather(from, 0, 0, m, threshold, index, &again);
    } else if (count > 2 * k) {
        guess->share += (1 - guess->share) * 0.125f;
    }
    for (size_t i = 0; i < count; i++) magnitudes[i] = codec_bits(from[index[i]]) & MAGNITUDE;
    memset(magnitudes + count, 0, 64);
    uint32_t last = count == k ? threshold : kth(magnitudes, count, k, threshold, largest + 1);
    if (count == k || (last > 0 && count_from(magnitudes, count, last) == k))
        compact(magnitudes, index, count, last, indexes);
    else keep_first(magnitudes, index, count, k, last, indexes);
    for (size_t i = 0; i < k; i++) chosen[i] = from[indexes[i]];
    guess->last = codec_float(last);
    return true;
}

static inline float folded(const float *lanes) {
    float partial[16];
    memcpy(partial, lanes, sizeof partial);
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) partial[j] = partial[j] + partial[j + half];
    return partial[0];
}

static float magnitude_sum(const float *chosen, size_t count) {
    float sums[16] = {0};
    size_t whole = count & ~(size_t)15;
    for (size_t i = 0; i < whole; i += 16)
        for (size_t j = 0; j < 16; j++) sums[j] = sums[j] + codec_float(codec_bits(chosen[i + j]) & MAGNITUDE);
    for (size_t i = whole; i < count; i++)
        sums[i - whole] = sums[i - whole] + codec_float(codec_bits(chosen[i]) & MAGNITUDE);
    return folded(sums);
}

static void lloyd(const float *chosen, size_t count, float *small, float *large) {
    size_t whole = count & ~(size_t)15;
    float total = magnitude_sum(chosen, count), split = total / (float)count;
    *small = *large = split;
    for (int step = 0; step < 4; step++) {
        float above[16] = {0};
        uint32_t counts[16] = {0};
        for (size_t i = 0; i < whole; i += 16) {
            for (size_t j = 0; j < 16; j++) {
                float magnitude = codec_float(codec_bits(chosen[i + j]) & MAGNITUDE);
                above[j] = above[j] + (magnitude > split ? magnitude : 0);
                counts[j] += magnitude > split;
            }
        }
        for (size_t i = whole; i < count; i++) {
            float magnitude = codec_float(codec_bits(chosen[i]) & MAGNITUDE);
            above[i - whole] = above[i - whole] + (magnitude > split ? magnitude : 0);
            counts[i - whole] += magnitude > split;
        }
        size_t n = 0;
        for (int j = 0; j < 16; j++) n += counts[j];
        if (n == 0 || n == count) return;
        float sum = folded(above);
        *large = sum / (float)n;
        *small = (total - sum) / (float)(count - n);
        split = (*small + *large) * 0.5f;
    }
}

static size_t quotient_sum(const uint16_t *gaps, size_t count, uint32_t divisor) {
    struct codec_division division = codec_division_by(divisor);
    size_t sum = 0;
    for (size_t start = 0; start < count; start += 16 * 16) {
        // At most 16 quotients of at most 4095 in each 16-bit lane.
        size_t end = codec_least(count, start + 16 * 16);
        uint16_t lanes[16] = {0};
        size_t i = start;
        for (; i + 16 <= end; i += 16)
            for (size_t j = 0; j < 16; j++) lanes[j] = (uint16_t)(lanes[j] + codec_quotient(gaps[i + j], division));
        for (; i < end; i++) sum += codec_quotient(gaps[i], division);
        for (size_t j = 0; j < 16; j++) sum += lanes[j];
    }
    return sum;
}

static void split(
    const uint16_t *restrict gaps, const float *restrict chosen, size_t count, uint32_t divisor, float middle,
    uint16_t *restrict quotients, uint16_t *restrict remainders, uint8_t *restrict symbols) {
    struct codec_division division = codec_division_by(divisor);
    for (size_t i = 0; i < count; i++) {
        quotients[i] = codec_quotient(gaps[i], division);
        remainders[i] = (uint16_t)(gaps[i] - quotients[i] * divisor);
    }
    memset(remainders + count, 0, 32);
    for (size_t i = 0; i < count; i++) {
        uint32_t value = codec_bits(chosen[i]), is_large = codec_float(value & MAGNITUDE) > middle;
        symbols[i] = (uint8_t)(value >> 31 | is_large << 1);
    }
    memset(symbols + count, 0, 16);
}
