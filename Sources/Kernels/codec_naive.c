// The codec kernels as plainly as they can be written: the twin that the fast ones must equal bit for bit.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"

#include <math.h>
#include <string.h>

static float load(const uint8_t *bytes, size_t i) {
    float value;
    memcpy(&value, bytes + 4 * i, 4);
    return value;
}

static void store(uint8_t *out, size_t i, float value) { memcpy(out + 4 * i, &value, 4); }

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static bool is_finite(float value) { return (bits_of(value) & 0x7fffffff) < 0x7f800000; }

void codec_zero_non_finite(float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_finite(values[i])) values[i] = 0;
}

static void accumulate(float value, float weight, float *sum, float *weights) {
    float product = weight * value;
    *sum = *sum + product;
    if (weights) *weights = *weights + weight;
}

// fp32

static void fp32_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        store(out, i, feedback ? values[i] + feedback[i] : values[i]);
        if (feedback) feedback[i] = 0;
    }
}

static bool fp32_finite(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_finite(load(bytes, i))) return false;
    return true;
}

static void fp32_decode(const uint8_t *bytes, size_t n, float *into) {
    for (size_t i = 0; i < n; i++) into[i] = load(bytes, i);
}

static void fp32_accumulate(const uint8_t *bytes, size_t n, float weight, float *sum, float *weights) {
    for (size_t i = 0; i < n; i++) accumulate(load(bytes, i), weight, sum + i, weights ? weights + i : 0);
}

// bf16

static uint16_t bf16_of(float value) {
    uint32_t bits = bits_of(value);
    if (!is_finite(value)) return (uint16_t)(bits >> 16) | 0x40;
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    if ((rounded & 0x7fff) == 0x7f80) rounded--;
    return (uint16_t)rounded;
}

static float bf16_at(const uint8_t *bytes, size_t i) {
    return float_of(((uint32_t)bytes[2 * i] | (uint32_t)bytes[2 * i + 1] << 8) << 16);
}

static void bf16_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        float value = feedback ? feedback[i] + values[i] : values[i];
        uint16_t code = bf16_of(value);
        out[2 * i] = code & 255;
        out[2 * i + 1] = code >> 8;
        if (feedback) feedback[i] = is_finite(value) ? value - bf16_at(out, i) : 0;
    }
}

static bool bf16_finite(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_finite(bf16_at(bytes, i))) return false;
    return true;
}

static void bf16_decode(const uint8_t *bytes, size_t n, float *into) {
    for (size_t i = 0; i < n; i++) into[i] = bf16_at(bytes, i);
}

static void bf16_accumulate(const uint8_t *bytes, size_t n, float weight, float *sum, float *weights) {
    for (size_t i = 0; i < n; i++) accumulate(bf16_at(bytes, i), weight, sum + i, weights ? weights + i : 0);
}

// fp16

/// The nearest of the finite halves, by trying what rounding to 11 bits (fewer below 2⁻¹⁴) gives.
static uint16_t fp16_of(float value) {
    uint16_t sign = (uint16_t)(bits_of(value) >> 16 & 0x8000);
    if (!is_finite(value)) return sign | 0x7e00;
    float magnitude = fabsf(value);
    if (magnitude >= 65520) return sign | 0x7bff;
    int exponent = 0;
    frexpf(magnitude, &exponent);
    if (magnitude < 0x1p-14f) exponent = -13;
    // In units of the last place: exact, and rounded to nearest even by the addition.
    float units = (ldexpf(magnitude, 11 - exponent) + 0x1.8p23f) - 0x1.8p23f;
    uint32_t mantissa = (uint32_t)units;
    // A mantissa of 2048 carries into the exponent by itself; below 1024 the number is subnormal and the exponent 0.
    return sign | (uint16_t)(mantissa + ((uint32_t)(exponent + 13) << 10));
}

static float fp16_value(uint16_t code) {
    int exponent = code >> 10 & 31, mantissa = code & 1023;
    float magnitude = exponent == 0 ? ldexpf((float)mantissa, -24) : ldexpf((float)(1024 + mantissa), exponent - 25);
    if (exponent == 31) magnitude = float_of(0x7f800000 | (uint32_t)mantissa << 13);
    return float_of(bits_of(magnitude) | (uint32_t)(code & 0x8000) << 16);
}

static float fp16_at(const uint8_t *bytes, size_t i) {
    return fp16_value((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
}

static void fp16_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        float value = feedback ? feedback[i] + values[i] : values[i];
        uint16_t code = fp16_of(value);
        out[2 * i] = code & 255;
        out[2 * i + 1] = code >> 8;
        if (feedback) feedback[i] = is_finite(value) ? value - fp16_at(out, i) : 0;
    }
}

static bool fp16_finite(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((bytes[2 * i + 1] & 0x7c) == 0x7c) return false;
    return true;
}

static void fp16_decode(const uint8_t *bytes, size_t n, float *into) {
    for (size_t i = 0; i < n; i++) into[i] = fp16_at(bytes, i);
}

static void fp16_accumulate(const uint8_t *bytes, size_t n, float weight, float *sum, float *weights) {
    for (size_t i = 0; i < n; i++) accumulate(fp16_at(bytes, i), weight, sum + i, weights ? weights + i : 0);
}

// int8 and int4

static size_t blocks(size_t n) { return (n + KERNELS_CODEC_BLOCK - 1) / KERNELS_CODEC_BLOCK; }

/// Quantises one block of m values to −steps…steps; answers the scale. A block that is not finite becomes NaN and
/// zeros; one whose largest magnitude is below 2⁻¹⁰⁰ zeros. Rounds to nearest even.
static float quantise(const float *values, float *feedback, size_t m, float steps, int8_t *q) {
    float largest = 0, sums[KERNELS_CODEC_BLOCK];
    bool all_finite = true;
    for (size_t i = 0; i < m; i++) {
        sums[i] = feedback ? feedback[i] + values[i] : values[i];
        if (!is_finite(sums[i])) all_finite = false;
        if (fabsf(sums[i]) > largest) largest = fabsf(sums[i]);
    }
    float scale = largest < 0x1p-100f ? 0 : largest / steps;
    if (scale > KERNELS_CODEC_SCALE_MAX) scale = KERNELS_CODEC_SCALE_MAX;
    if (!all_finite) scale = float_of(0x7fc00000);
    float inverse = scale > 0 ? 1 / scale : 0;
    for (size_t i = 0; i < m; i++) {
        float scaled = all_finite ? sums[i] * inverse : 0;
        if (scaled > steps) scaled = steps;
        if (scaled < -steps) scaled = -steps;
        q[i] = (int8_t)((scaled + 0x1.8p23f) - 0x1.8p23f);
        if (!feedback) continue;
        float sent = (float)q[i] * scale;
        feedback[i] = all_finite ? sums[i] - sent : is_finite(sums[i]) ? sums[i] : 0;
    }
    return scale;
}

static void int8_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    uint8_t *q = out + 4 * blocks(n);
    for (size_t i = 0; i < n; i += KERNELS_CODEC_BLOCK) {
        size_t m = n - i < KERNELS_CODEC_BLOCK ? n - i : KERNELS_CODEC_BLOCK;
        store(out, i / KERNELS_CODEC_BLOCK, quantise(values + i, feedback ? feedback + i : 0, m, 127, (int8_t *)q + i));
    }
}

static float int8_at(const uint8_t *scales, const uint8_t *q, size_t i) {
    return (float)(int8_t)q[i] * load(scales, i / KERNELS_CODEC_BLOCK);
}

static void int8_decode(const uint8_t *bytes, size_t n, float *into) {
    for (size_t i = 0; i < n; i++) into[i] = int8_at(bytes, bytes + 4 * blocks(n), i);
}

static void int8_accumulate(
    const uint8_t *scales, const uint8_t *q, size_t n, float weight, float *sum, float *weights) {
    for (size_t i = 0; i < n; i++) accumulate(int8_at(scales, q, i), weight, sum + i, weights ? weights + i : 0);
}

static void int8_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t c = 0; c < contributors; c++)
            accumulate(int8_at(bytes[c], bytes[c] + 4 * blocks(n), i), weight[c], &sum, 0);
        into[i] = sum / total;
    }
}

static void int4_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    uint8_t *halves = out + 4 * blocks(n);
    for (size_t i = 0; i < n; i += KERNELS_CODEC_BLOCK) {
        size_t m = n - i < KERNELS_CODEC_BLOCK ? n - i : KERNELS_CODEC_BLOCK;
        int8_t q[KERNELS_CODEC_BLOCK];
        store(out, i / KERNELS_CODEC_BLOCK, quantise(values + i, feedback ? feedback + i : 0, m, 7, q));
        for (size_t j = 0; j < m; j++) {
            uint8_t half = (uint8_t)(q[j] + 8);
            if (j % 2 == 0) halves[(i + j) / 2] = half;
            if (j % 2 == 1) halves[(i + j) / 2] |= half << 4;
        }
    }
}

static int int4_half(const uint8_t *q, size_t i) { return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15; }

static float int4_at(const uint8_t *scales, const uint8_t *q, size_t i) {
    return (float)(int4_half(q, i) - 8) * load(scales, i / KERNELS_CODEC_BLOCK);
}

static void int4_decode(const uint8_t *bytes, size_t n, float *into) {
    for (size_t i = 0; i < n; i++) into[i] = int4_at(bytes, bytes + 4 * blocks(n), i);
}

static void int4_accumulate(
    const uint8_t *scales, const uint8_t *q, size_t n, float weight, float *sum, float *weights) {
    for (size_t i = 0; i < n; i++) accumulate(int4_at(scales, q, i), weight, sum + i, weights ? weights + i : 0);
}

static void int4_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t c = 0; c < contributors; c++)
            accumulate(int4_at(bytes[c], bytes[c] + 4 * blocks(n), i), weight[c], &sum, 0);
        into[i] = sum / total;
    }
}

// sparse

/// The k-th largest magnitude by halving the range of bit patterns (which order as the magnitudes do).
static bool choose(
    const float *values, float *feedback, float decay, size_t m, size_t k, struct codec_guess *guess, uint16_t *indexes,
    float *chosen) {
    (void)guess;
    bool all_finite = true;
    for (size_t i = 0; i < m; i++) {
        if (feedback) {
            float kept = feedback[i] * decay;
            feedback[i] = kept + values[i];
        }
        if (!is_finite(feedback ? feedback[i] : values[i])) all_finite = false;
    }
    if (!all_finite) return false;
    const float *from = feedback ? feedback : values;
    uint32_t low = 0, high = 0x7f800000;  // at least k magnitudes are ≥ low, fewer than k are ≥ high
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        size_t count = 0;
        for (size_t i = 0; i < m; i++) count += (bits_of(from[i]) & 0x7fffffff) >= middle;
        if (count >= k) low = middle;
        else high = middle;
    }
    size_t larger = 0, n = 0;
    for (size_t i = 0; i < m; i++) larger += (bits_of(from[i]) & 0x7fffffff) > low;
    size_t equal = k - larger;
    for (size_t i = 0; i < m; i++) {
        uint32_t magnitude = bits_of(from[i]) & 0x7fffffff;
        if (magnitude < low || (magnitude == low && equal == 0)) continue;
        if (magnitude == low) equal--;
        indexes[n] = (uint16_t)i;
        chosen[n] = from[i];
        n++;
    }
    return true;
}

/// Lloyd's algorithm with two levels, started at the mean, four steps. Sums go to 16 partial sums, value i to i mod 16,
/// folded 16 → 8 → 4 → 2 → 1, so that wide machines can do the same.
static float folded(float *partial) {
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) partial[j] = partial[j] + partial[j + half];
    return partial[0];
}

static float magnitude_sum(const float *chosen, size_t count) {
    float sums[16] = {0};
    for (size_t i = 0; i < count; i++) sums[i % 16] = sums[i % 16] + fabsf(chosen[i]);
    return folded(sums);
}

static void lloyd(const float *chosen, size_t count, float *small, float *large) {
    float total = magnitude_sum(chosen, count), split = total / (float)count;
    *small = *large = split;
    for (int step = 0; step < 4; step++) {
        float above[16] = {0};
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            bool is_large = fabsf(chosen[i]) > split;
            above[i % 16] = above[i % 16] + (is_large ? fabsf(chosen[i]) : 0);
            n += is_large;
        }
        if (n == 0 || n == count) return;
        float sum = folded(above);
        *large = sum / (float)n;
        *small = (total - sum) / (float)(count - n);
        split = (*small + *large) * 0.5f;
    }
}

static size_t quotient_sum(const uint16_t *gaps, size_t count, uint32_t divisor) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += gaps[i] / divisor;
    return sum;
}

static void split(
    const uint16_t *gaps, const float *chosen, size_t count, uint32_t divisor, float middle, uint16_t *quotients,
    uint16_t *remainders, uint8_t *symbols) {
    for (size_t i = 0; i < count; i++) {
        quotients[i] = (uint16_t)(gaps[i] / divisor);
        remainders[i] = (uint16_t)(gaps[i] % divisor);
        symbols[i] = (uint8_t)((bits_of(chosen[i]) >> 31) + 2 * (fabsf(chosen[i]) > middle));
    }
    memset(remainders + count, 0, 32);
    memset(symbols + count, 0, 16);
}

static uint32_t take(struct codec_reading *group, uint32_t count) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++, group->position++)
        bits |= (uint32_t)(group->bytes[group->position / 8] >> (group->position % 8) & 1) << i;
    return bits;
}

static struct kernels_codec_problem unpack(struct codec_reading *group, uint16_t *entries) {
    uint16_t symbols[CODEC_GROUP_ENTRIES], remainders[CODEC_GROUP_ENTRIES + 1];
    uint32_t divisor = group->code.divisor;
    for (size_t i = 0; i < group->count; i++) symbols[i] = (uint16_t)take(group, group->symbol_bits);
    for (size_t i = 0; i < group->count; i += 2) {
        uint32_t pair = take(group, group->code.pair_bits);
        if (pair >= divisor * divisor) return codec_problem(KERNELS_CODEC_MALFORMED, 0, 0);
        remainders[i] = (uint16_t)(pair / divisor);
        remainders[i + 1] = (uint16_t)(pair % divisor);
        if (i + 1 == group->count && remainders[i + 1] != 0) return codec_problem(KERNELS_CODEC_MALFORMED, 0, 0);
    }
    // The indexes have to pay for every zero, so there are not many of them.
    size_t limit = codec_least(group->count + group->values / divisor, CODEC_GROUP_VALUES), start = group->position;
    uint32_t zeros[CODEC_GROUP_ENTRIES], run = 0;
    for (size_t found = 0; found < group->count;) {
        if (group->position == start + limit) {
            if (start + limit > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
            return codec_problem(KERNELS_CODEC_INDEX, group->values, group->values);
        }
        if (take(group, 1) == 1) zeros[found++] = run, run = 0;
        else run++;
    }
    if (group->position > group->end) return codec_problem(KERNELS_CODEC_TRUNCATED, 0, 0);
    size_t entry = 0;
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < group->values; tile++) {
        size_t m = codec_least(group->values - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE), next = 0;
        if (group->in_tile[tile] == 0) entries[tile * group->k] = CODEC_EMPTY;
        for (size_t i = 0; i < group->in_tile[tile]; i++, entry++, next++) {
            next += zeros[entry] * divisor + remainders[entry];
            entries[tile * group->k + i] = (uint16_t)((next & 4095) | symbols[entry] << 12);
        }
        if (next > m) return codec_problem(KERNELS_CODEC_INDEX, next - 1, m);
    }
    return codec_problem(KERNELS_CODEC_OK, 0, 0);
}

static void mean(
    const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
    size_t k, float *into) {
    float weights[KERNELS_CODEC_TILE];
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        float *sum = into + tile * KERNELS_CODEC_TILE;
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        size_t first = tile * k, last = first + kernels_codec_sparse_tile_entries(m, k);
        for (size_t i = 0; i < m; i++) sum[i] = weights[i] = 0;
        for (size_t c = 0; c < contributors; c++)
            for (size_t i = first; i < last && entries[c][first] != CODEC_EMPTY; i++) {
                float level = levels[c][4 * tile + (entries[c][i] >> 12)];
                accumulate(level, weight[c], sum + (entries[c][i] & 4095), weights + (entries[c][i] & 4095));
            }
        for (size_t i = 0; i < m; i++) sum[i] = sum[i] / (weights[i] > 0 ? weights[i] : 1);
    }
}

const struct codec_ops codec_naive = {
    fp32_encode, fp32_finite, fp32_decode, fp32_accumulate, bf16_encode, bf16_finite, bf16_decode, bf16_accumulate,
    fp16_encode, fp16_finite, fp16_decode, fp16_accumulate, int8_encode, int8_decode, int8_accumulate, int8_mean,
    int4_encode, int4_decode, int4_accumulate, int4_mean, choose, magnitude_sum, lloyd, quotient_sum, split, unpack, mean,
};
