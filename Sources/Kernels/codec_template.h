// The codec kernels in portable C that a compiler can vectorise, included once for each instruction set with
// CODEC_TABLE naming the result, and CODEC_GATHER, CODEC_READ, CODEC_DIVIDE defined where the instruction set has its
// own of those. Every float is the result of the same operations in the same order as in codec_naive.c, so the lanes'
// width cannot be seen in the bits.
#pragma STDC FP_CONTRACT OFF
#include "codec_ops.h"
#include "codec_sparse.h"

#include <stdatomic.h>

#define BLOCK KERNELS_CODEC_BLOCK
#define MAGNITUDE 0x7fffffffu
#define INFINITE 0x7f800000u
/// Added to a float of magnitude below 2²² it leaves the nearest integer (ties to even) in the low mantissa bits.
#define ROUNDER 0x1.8p23f

static inline float load(const uint8_t *bytes, size_t i) {
    float value;
    memcpy(&value, bytes + 4 * i, 4);
    return value;
}

static inline void store(uint8_t *out, size_t i, float value) { memcpy(out + 4 * i, &value, 4); }

static inline size_t scale_bytes(size_t n) { return 4 * ((n + BLOCK - 1) / BLOCK); }

// Sums. All codecs share the loop; `AT(i)` is the decoded value.
#define ACCUMULATE(AT)                                                                                                 \
    if (weights == 0) {                                                                                                \
        for (size_t i = 0; i < n; i++) {                                                                               \
            float product = weight * (AT(i));                                                                          \
            sum[i] = sum[i] + product;                                                                                 \
        }                                                                                                              \
        return;                                                                                                        \
    }                                                                                                                  \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        float product = weight * (AT(i));                                                                              \
        sum[i] = sum[i] + product;                                                                                     \
        weights[i] = weights[i] + weight;                                                                              \
    }

// fp32

static void fp32_encode(const float *restrict values, float *restrict feedback, size_t n, uint8_t *restrict out) {
    if (feedback == 0) {
        memcpy(out, values, 4 * n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        store(out, i, values[i] + feedback[i]);
        feedback[i] = 0;
    }
}

static bool fp32_finite(const uint8_t *bytes, size_t n) {
    for (size_t start = 0; start < n; start += 4096) {
        size_t end = codec_least(n, start + 4096);
        uint32_t bad = 0;
        for (size_t i = start; i < end; i++) bad |= (codec_bits(load(bytes, i)) & MAGNITUDE) >= INFINITE;
        if (bad) return false;
    }
    return true;
}

static void fp32_decode(const uint8_t *restrict bytes, size_t n, float *restrict into) { memcpy(into, bytes, 4 * n); }

static void fp32_accumulate(
    const uint8_t *restrict bytes, size_t n, float weight, float *restrict sum, float *restrict weights) {
#define FP32_AT(i) load(bytes, i)
    ACCUMULATE(FP32_AT)
}

// bf16

static inline uint16_t bf16_of(float value) {
    uint32_t bits = codec_bits(value), magnitude = bits & MAGNITUDE;
    uint32_t rounded = (magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16;
    rounded = rounded > 0x7f7f ? 0x7f7f : rounded;
    rounded = magnitude >= INFINITE ? (magnitude >> 16 | 0x40) : rounded;
    return (uint16_t)(rounded | (bits >> 16 & 0x8000));
}

static inline float bf16_value(uint16_t code) { return codec_float((uint32_t)code << 16); }

static inline float bf16_at(const uint8_t *bytes, size_t i) {
    uint16_t code;
    memcpy(&code, bytes + 2 * i, 2);
    return bf16_value(code);
}

static void bf16_encode(const float *restrict values, float *restrict feedback, size_t n, uint8_t *restrict out) {
    if (feedback == 0) {
        for (size_t i = 0; i < n; i++) {
            uint16_t code = bf16_of(values[i]);
            memcpy(out + 2 * i, &code, 2);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float value = feedback[i] + values[i];
        uint16_t code = bf16_of(value);
        memcpy(out + 2 * i, &code, 2);
        float rest = value - bf16_value(code);
        feedback[i] = (codec_bits(value) & MAGNITUDE) >= INFINITE ? 0 : rest;
    }
}

static bool bf16_finite(const uint8_t *bytes, size_t n) {
    for (size_t start = 0; start < n; start += 4096) {
        size_t end = codec_least(n, start + 4096);
        uint16_t bad = 0;
        for (size_t i = start; i < end; i++) {
            uint16_t code;
            memcpy(&code, bytes + 2 * i, 2);
            bad |= (code & 0x7f80) == 0x7f80;
        }
        if (bad) return false;
    }
    return true;
}

static void bf16_decode(const uint8_t *restrict bytes, size_t n, float *restrict into) {
    for (size_t i = 0; i < n; i++) into[i] = bf16_at(bytes, i);
}

static void bf16_accumulate(
    const uint8_t *restrict bytes, size_t n, float weight, float *restrict sum, float *restrict weights) {
#define BF16_AT(i) bf16_at(bytes, i)
    ACCUMULATE(BF16_AT)
}

// fp16

static inline uint16_t fp16_of(float value) {
    uint32_t bits = codec_bits(value), magnitude = bits & MAGNITUDE;
    // Normal: the exponent moves by 112, the mantissa loses 13 bits, to nearest even.
    uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    normal = normal > 0x7bff ? 0x7bff : normal;
    // Below 2⁻¹⁴: added to ½ the number is rounded to its last place, 2⁻²⁴, by the addition.
    uint32_t subnormal = codec_bits(codec_float(magnitude) + 0.5f) - codec_bits(0.5f);
    uint32_t code = magnitude < (113u << 23) ? subnormal : normal;
    code = magnitude >= INFINITE ? 0x7e00 : code;
    return (uint16_t)(code | (bits >> 16 & 0x8000));
}

static inline float fp16_value(uint16_t code) {
    uint32_t shifted = (uint32_t)(code & 0x7fff) << 13;
    uint32_t exponent = shifted & 0x0f800000;
    float subnormal = codec_float(shifted + (113u << 23)) - 0x1p-14f;
    uint32_t normal = shifted + (exponent == 0x0f800000 ? 224u << 23 : 112u << 23);
    uint32_t bits = exponent == 0 ? codec_bits(subnormal) : normal;
    return codec_float(bits | (uint32_t)(code & 0x8000) << 16);
}

static inline float fp16_at(const uint8_t *bytes, size_t i) {
    uint16_t code;
    memcpy(&code, bytes + 2 * i, 2);
    return fp16_value(code);
}

static void fp16_encode(const float *restrict values, float *restrict feedback, size_t n, uint8_t *restrict out) {
    if (feedback == 0) {
        for (size_t i = 0; i < n; i++) {
            uint16_t code = fp16_of(values[i]);
            memcpy(out + 2 * i, &code, 2);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float value = feedback[i] + values[i];
        uint16_t code = fp16_of(value);
        memcpy(out + 2 * i, &code, 2);
        float rest = value - fp16_value(code);
        feedback[i] = (codec_bits(value) & MAGNITUDE) >= INFINITE ? 0 : rest;
    }
}

static bool fp16_finite(const uint8_t *bytes, size_t n) {
    for (size_t start = 0; start < n; start += 4096) {
        size_t end = codec_least(n, start + 4096);
        uint16_t bad = 0;
        for (size_t i = start; i < end; i++) {
            uint16_t code;
            memcpy(&code, bytes + 2 * i, 2);
            bad |= (code & 0x7c00) == 0x7c00;
        }
        if (bad) return false;
    }
    return true;
}

static void fp16_decode(const uint8_t *restrict bytes, size_t n, float *restrict into) {
    for (size_t i = 0; i < n; i++) into[i] = fp16_at(bytes, i);
}

static void fp16_accumulate(
    const uint8_t *restrict bytes, size_t n, float weight, float *restrict sum, float *restrict weights) {
#define FP16_AT(i) fp16_at(bytes, i)
    ACCUMULATE(FP16_AT)
}

// int8 and int4

/// `steps` is a constant at every call, and m is for all blocks but the last.
static inline __attribute__((always_inline)) float quantise(
    const float *restrict values, float *restrict feedback, size_t m, float steps, uint8_t *restrict q) {
    uint32_t largest = 0;
    if (feedback) {
        for (size_t i = 0; i < m; i++) {
            feedback[i] = feedback[i] + values[i];
            uint32_t magnitude = codec_bits(feedback[i]) & MAGNITUDE;
            largest = magnitude > largest ? magnitude : largest;
        }
    } else {
        for (size_t i = 0; i < m; i++) {
            uint32_t magnitude = codec_bits(values[i]) & MAGNITUDE;
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    if (largest >= INFINITE) {
        memset(q, 0, m);
        if (feedback) codec_zero_non_finite(feedback, m);
        return codec_float(0x7fc00000);
    }
    float scale = codec_float(largest) < 0x1p-100f ? 0 : codec_float(largest) / steps;
    scale = scale > KERNELS_CODEC_SCALE_MAX ? KERNELS_CODEC_SCALE_MAX : scale;
    float inverse = scale > 0 ? 1 / scale : 0;
    const float *from = feedback ? feedback : values;
    for (size_t i = 0; i < m; i++) {
        float scaled = from[i] * inverse;
        scaled = scaled > steps ? steps : scaled;
        scaled = scaled < -steps ? -steps : scaled;
        q[i] = (uint8_t)codec_bits(scaled + ROUNDER);
    }
    if (feedback) {
        for (size_t i = 0; i < m; i++) {
            float sent = (float)(int8_t)q[i] * scale;
            feedback[i] = feedback[i] - sent;
        }
    }
    return scale;
}

static void int8_encode(const float *restrict values, float *restrict feedback, size_t n, uint8_t *restrict out) {
    uint8_t *q = out + scale_bytes(n);
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        store(out, i / BLOCK, quantise(values + i, feedback ? feedback + i : 0, BLOCK, 127, q + i));
    if (i < n) store(out, i / BLOCK, quantise(values + i, feedback ? feedback + i : 0, n - i, 127, q + i));
}

#define INT8_AT(i) ((float)(int8_t)q[i] * scale)

static void int8_decode(const uint8_t *restrict bytes, size_t count, float *restrict into) {
    for (size_t start = 0; start < count; start += BLOCK, into += BLOCK) {
        const uint8_t *q = bytes + scale_bytes(count) + start;
        size_t n = codec_least(count - start, BLOCK);
        float scale = load(bytes, start / BLOCK);
        for (size_t i = 0; i < n; i++) into[i] = INT8_AT(i);
    }
}

static inline void int8_block(
    const uint8_t *restrict q, size_t n, float scale, float weight, float *restrict sum, float *restrict weights) {
    ACCUMULATE(INT8_AT)
}

static void int8_accumulate(
    const uint8_t *restrict scales, const uint8_t *restrict q, size_t n, float weight, float *restrict sum,
    float *restrict weights) {
    for (size_t start = 0; start < n; start += BLOCK)
        int8_block(
            q + start, codec_least(n - start, BLOCK), load(scales, start / BLOCK), weight, sum + start,
            weights ? weights + start : 0);
}

/// Packs m values of a block; `q` has room for one more.
static inline void pack_halves(uint8_t *restrict q, size_t m, uint8_t *restrict out) {
    if (m % 2) q[m] = 0xf8;  // becomes 0
    for (size_t i = 0; i < (m + 1) / 2; i++) {
        uint16_t pair;
        memcpy(&pair, q + 2 * i, 2);
        pair = (uint16_t)((pair & 0x0f0f) ^ 0x0808);
        out[i] = (uint8_t)(pair | pair >> 4);
    }
}

/// Unpacks m values of a block, as q; `q` has room for one more.
static inline void unpack_halves(const uint8_t *restrict halves, size_t m, int8_t *restrict q) {
    for (size_t i = 0; i < (m + 1) / 2; i++) {
        q[2 * i] = (int8_t)((halves[i] & 15) - 8);
        q[2 * i + 1] = (int8_t)((halves[i] >> 4) - 8);
    }
}

static void int4_encode(const float *restrict values, float *restrict feedback, size_t n, uint8_t *restrict out) {
    uint8_t *halves = out + scale_bytes(n), q[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        store(out, i / BLOCK, quantise(values + i, feedback ? feedback + i : 0, BLOCK, 7, q));
        pack_halves(q, BLOCK, halves + i / 2);
    }
    if (i < n) {
        store(out, i / BLOCK, quantise(values + i, feedback ? feedback + i : 0, n - i, 7, q));
        pack_halves(q, n - i, halves + i / 2);
    }
}

static void int4_decode(const uint8_t *restrict bytes, size_t count, float *restrict into) {
    for (size_t start = 0; start < count; start += BLOCK, into += BLOCK) {
        int8_t q[BLOCK];
        size_t n = codec_least(count - start, BLOCK);
        float scale = load(bytes, start / BLOCK);
        unpack_halves(bytes + scale_bytes(count) + start / 2, n, q);
        for (size_t i = 0; i < n; i++) into[i] = INT8_AT(i);
    }
}

static void int4_accumulate(
    const uint8_t *restrict scales, const uint8_t *restrict halves, size_t n, float weight, float *restrict sum,
    float *restrict weights) {
    for (size_t start = 0; start < n; start += BLOCK) {
        int8_t q[BLOCK];
        size_t m = codec_least(n - start, BLOCK);
        unpack_halves(halves + start / 2, m, q);
        int8_block(
            (const uint8_t *)q, m, load(scales, start / BLOCK), weight, sum + start, weights ? weights + start : 0);
    }
}

#include "codec_template_mean.h"
#include "codec_template_sparse.h"
#include "codec_template_unpack.h"

const struct codec_ops CODEC_TABLE = {
    fp32_encode, fp32_finite, fp32_decode, fp32_accumulate, bf16_encode, bf16_finite, bf16_decode, bf16_accumulate,
    fp16_encode, fp16_finite, fp16_decode, fp16_accumulate, int8_encode, int8_decode, int8_accumulate, int8_mean,
    int4_encode, int4_decode, int4_accumulate, int4_mean, choose, magnitude_sum, lloyd, quotient_sum, split, unpack, mean,
};
