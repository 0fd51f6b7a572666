// The operations' loops. This file is compiled once for each instruction set (see ops_versions_*.c); the arithmetic of
// each element, and the order of each sum, is the same in all of them.
#include "ops_internal.h"

enum { lanes = 16 };

#define INLINE static inline __attribute__((always_inline))

INLINE float fold_lanes(float *sum) {
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    return sum[0];
}

INLINE float dot(const float *a, const float *b, ptrdiff_t n) {
    float sum[lanes] = {0}, rest = 0;
    ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int j = 0; j < lanes; j++) sum[j] = __builtin_fmaf(a[i + j], b[i + j], sum[j]);
    for (; i < n; i++) rest = __builtin_fmaf(a[i], b[i], rest);
    return fold_lanes(sum) + rest;
}

INLINE float largest(const float *x, ptrdiff_t n) {
    float top[lanes], best = x[0];
    for (int j = 0; j < lanes; j++) top[j] = x[0];
    ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int j = 0; j < lanes; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    for (int j = 0; j < lanes; j++) best = top[j] > best ? top[j] : best;
    return best;
}

/// e^x to about one unit in the last place, x clamped to [−87, 88]: x = z·ln 2 + r with ln 2 in two parts, a polynomial
/// of degree 5 for (e^r − 1 − r)/r² (coefficients of Cephes' expf), and 2^z by its bits.
INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float z = __builtin_floorf(x * 1.44269504f + 0.5f);
    float r = __builtin_fmaf(z, 2.12194440e-4f, __builtin_fmaf(z, -0.693359375f, x));
    float y = 1.9875691500e-4f;
    y = __builtin_fmaf(y, r, 1.3981999507e-3f);
    y = __builtin_fmaf(y, r, 8.3334519073e-3f);
    y = __builtin_fmaf(y, r, 4.1665795894e-2f);
    y = __builtin_fmaf(y, r, 1.6666665459e-1f);
    y = __builtin_fmaf(y, r, 5.0000001201e-1f);
    y = __builtin_fmaf(y, r * r, r) + 1.0f;
    union {
        int32_t bits;
        float value;
    } power = {.bits = ((int32_t)z + 127) << 23};
    return y * power.value;
}

/// x[i] = e^((x[i] − top)·scale); returns their sum.
INLINE float exponentials(float *x, ptrdiff_t n, float top, float scale) {
    float sum[lanes] = {0}, rest = 0;
    ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int j = 0; j < lanes; j++) {
            float e = exponential((x[i + j] - top) * scale);
            x[i + j] = e;
            sum[j] += e;
        }
    for (; i < n; i++) {
        float e = exponential((x[i] - top) * scale);
        x[i] = e;
        rest += e;
    }
    return fold_lanes(sum) + rest;
}

static void rmsnorm_forward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    rmsnorm_arguments p = *(const rmsnorm_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *x = p.x + r * p.width;
        float *y = p.y + r * p.width;
        float mean = dot(x, x, p.width) / (float)p.width;
        float scale = 1.0f / __builtin_elementwise_sqrt(mean + p.epsilon);
        p.scale[r] = scale;
        for (ptrdiff_t i = 0; i < p.width; i++) y[i] = x[i] * scale * p.gain[i];
    }
}

static void rmsnorm_again(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    rmsnorm_arguments p = *(const rmsnorm_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *x = p.x + r * p.width;
        float *y = p.y + r * p.width, scale = p.known_scale[r];
        for (ptrdiff_t i = 0; i < p.width; i++) y[i] = x[i] * scale * p.gain[i];
    }
}

static void rmsnorm_backward_input(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    rmsnorm_arguments p = *(const rmsnorm_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *x = p.x + r * p.width, *dy = p.dy + r * p.width;
        float *dx = p.dx + r * p.width;
        float sum[lanes] = {0}, rest = 0;
        ptrdiff_t i = 0;
        for (; i + lanes <= p.width; i += lanes)
            for (int j = 0; j < lanes; j++) sum[j] = __builtin_fmaf(dy[i + j] * p.gain[i + j], x[i + j], sum[j]);
        for (; i < p.width; i++) rest = __builtin_fmaf(dy[i] * p.gain[i], x[i], rest);
        float scale = p.known_scale[r];
        float pull = (fold_lanes(sum) + rest) * scale * scale * scale / (float)p.width;
        for (i = 0; i < p.width; i++) dx[i] += dy[i] * p.gain[i] * scale - x[i] * pull;
    }
}

/// Columns begin ..< end; rows are added in order.
static void rmsnorm_backward_gain(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    rmsnorm_arguments p = *(const rmsnorm_arguments *)arguments;
    for (ptrdiff_t r = 0; r < p.rows; r++) {
        const float *x = p.x + r * p.width, *dy = p.dy + r * p.width;
        float scale = p.known_scale[r];
        for (ptrdiff_t i = begin; i < end; i++) p.dgain[i] = __builtin_fmaf(dy[i] * x[i], scale, p.dgain[i]);
    }
}

static void head_norm_forward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    head_norm_arguments p = *(const head_norm_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++)
        for (ptrdiff_t h = 0; h < p.heads; h++) {
            float *x = p.x + r * p.stride + h * p.head_size, *raw = p.raw + r * p.raw_stride + h * p.head_size;
            float mean = dot(x, x, p.head_size) / (float)p.head_size;
            float scale = 1.0f / __builtin_elementwise_sqrt(mean + p.epsilon);
            p.scale[r * p.scale_stride + h] = scale;
            for (ptrdiff_t i = 0; i < p.head_size; i++) {
                raw[i] = x[i];
                x[i] = x[i] * scale * p.gain[i];
            }
        }
}

static void head_norm_backward_input(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    head_norm_arguments p = *(const head_norm_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++)
        for (ptrdiff_t h = 0; h < p.heads; h++) {
            const float *raw = p.known_raw + r * p.raw_stride + h * p.head_size;
            float *dx = p.x + r * p.stride + h * p.head_size, scale = p.known_scale[r * p.scale_stride + h];
            float sum[lanes] = {0}, rest = 0;
            ptrdiff_t i = 0;
            for (; i + lanes <= p.head_size; i += lanes)
                for (int j = 0; j < lanes; j++) sum[j] = __builtin_fmaf(dx[i + j] * p.gain[i + j], raw[i + j], sum[j]);
            for (; i < p.head_size; i++) rest = __builtin_fmaf(dx[i] * p.gain[i], raw[i], rest);
            float pull = (fold_lanes(sum) + rest) * scale * scale * scale / (float)p.head_size;
            for (i = 0; i < p.head_size; i++) dx[i] = dx[i] * p.gain[i] * scale - raw[i] * pull;
        }
}

/// Columns begin ..< end of the gain; rows, and heads of a row, are added in order.
static void head_norm_backward_gain(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    head_norm_arguments p = *(const head_norm_arguments *)arguments;
    for (ptrdiff_t r = 0; r < p.rows; r++)
        for (ptrdiff_t h = 0; h < p.heads; h++) {
            const float *raw = p.known_raw + r * p.raw_stride + h * p.head_size;
            const float *dy = p.x + r * p.stride + h * p.head_size;
            float scale = p.known_scale[r * p.scale_stride + h];
            for (ptrdiff_t i = begin; i < end; i++) p.dgain[i] = __builtin_fmaf(dy[i] * raw[i], scale, p.dgain[i]);
        }
}

static void add_bias(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    bias_arguments p = *(const bias_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        float *restrict x = p.x + r * p.stride;
        for (ptrdiff_t i = 0; i < p.width; i++) x[i] += p.bias[i];
    }
}

/// Columns begin ..< end; rows are added in order.
static void add_rows(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    bias_arguments p = *(const bias_arguments *)arguments;
    float *restrict sum = p.sum;
    for (ptrdiff_t r = 0; r < p.rows; r++) {
        const float *restrict x = p.known_x + r * p.stride;
        for (ptrdiff_t i = begin; i < end; i++) sum[i] += x[i];
    }
}

static void rope(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    rope_arguments p = *(const rope_arguments *)arguments;
    ptrdiff_t half = p.head_size / 2;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *cosine = p.cosines + r % p.length * half, *sine = p.sines + r % p.length * half;
        for (ptrdiff_t h = 0; h < p.heads; h++) {
            float *restrict low = p.x + r * p.stride + h * p.head_size, *restrict high = low + half;
            if (p.backward)
                for (ptrdiff_t i = 0; i < half; i++) {
                    float u = low[i], v = high[i];
                    low[i] = u * cosine[i] + v * sine[i];
                    high[i] = v * cosine[i] - u * sine[i];
                }
            else
                for (ptrdiff_t i = 0; i < half; i++) {
                    float u = low[i], v = high[i];
                    low[i] = u * cosine[i] - v * sine[i];
                    high[i] = v * cosine[i] + u * sine[i];
                }
        }
    }
}

static void swiglu_forward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    swiglu_arguments p = *(const swiglu_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *gate = p.gate_up + r * 2 * p.width, *up = gate + p.width;
        float *restrict out = p.out + r * p.width;
        for (ptrdiff_t i = 0; i < p.width; i++) out[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
    }
}

static void swiglu_backward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    swiglu_arguments p = *(const swiglu_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *gate = p.gate_up + r * 2 * p.width, *up = gate + p.width, *dout = p.dout + r * p.width;
        float *restrict dgate = p.dgate_up + r * 2 * p.width, *restrict dup = dgate + p.width;
        for (ptrdiff_t i = 0; i < p.width; i++) {
            float sigmoid = 1.0f / (1.0f + exponential(-gate[i]));
            float silu = gate[i] * sigmoid;
            dup[i] = dout[i] * silu;
            dgate[i] = dout[i] * up[i] * (sigmoid + silu * (1.0f - sigmoid));
        }
    }
}

static void softmax_forward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    softmax_arguments p = *(const softmax_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        float *all = p.scores + r * p.stride;
        ptrdiff_t first = p.first_seen == NULL ? 0 : p.first_seen[r] - p.key, end_seen = p.row + r + 1 - p.key;
        float *row = all + first;
        ptrdiff_t seen = end_seen - first;
        float share = 1.0f / exponentials(row, seen, largest(row, seen), p.scale);
        for (ptrdiff_t i = 0; i < seen; i++) row[i] *= share;
        for (ptrdiff_t i = 0; i < first; i++) all[i] = 0;
        for (ptrdiff_t i = end_seen; i < p.keys; i++) all[i] = 0;
    }
}

static void softmax_backward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    softmax_arguments p = *(const softmax_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        ptrdiff_t first = p.first_seen == NULL ? 0 : p.first_seen[r] - p.key, end_seen = p.row + r + 1 - p.key;
        const float *restrict probability = p.probabilities + r * p.stride + first;
        float *restrict all = p.scores + r * p.stride, *row = all + first;
        ptrdiff_t seen = end_seen - first;
        float mean = dot(probability, row, seen);
        for (ptrdiff_t i = 0; i < seen; i++) row[i] = probability[i] * (row[i] - mean) * p.scale;
        for (ptrdiff_t i = 0; i < first; i++) all[i] = 0;
        for (ptrdiff_t i = end_seen; i < p.keys; i++) all[i] = 0;
    }
}

static void cross_entropy(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    cross_entropy_arguments p = *(const cross_entropy_arguments *)arguments;
    for (ptrdiff_t r = begin; r < end; r++) {
        float *row = p.logits + r * p.classes;
        if (p.targets[r] < 0) {
            for (ptrdiff_t i = 0; i < p.classes; i++) row[i] = 0;
            p.losses[r] = 0;
            continue;
        }
        float top = largest(row, p.classes), aimed = row[p.targets[r]];
        float sum = exponentials(row, p.classes, top, 1.0f);
        float size = (float)kernels_log((double)sum);
        p.losses[r] = size + top - aimed;
        float share = p.gradient_scale * (1.0f + 2.0f * p.z_loss * (size + top)) / sum;
        for (ptrdiff_t i = 0; i < p.classes; i++) row[i] *= share;
        row[p.targets[r]] -= p.gradient_scale;
    }
}

/// Columns begin ..< end; rows are added in order, because tokens repeat.
static void embedding_backward(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    embedding_arguments p = *(const embedding_arguments *)arguments;
    for (ptrdiff_t r = 0; r < p.rows; r++) {
        const float *restrict dx = p.dx + r * p.width;
        float *restrict row = p.dtable + p.tokens[r] * p.width;
        for (ptrdiff_t i = begin; i < end; i++) row[i] += dx[i];
    }
}

INLINE void adamw_step(
    kernels_adamw_step s, ptrdiff_t n, const float *restrict gradient, float *restrict parameters,
    float *restrict first, float *restrict second) {
    float keep = 1.0f - s.learning_rate * s.weight_decay, rest1 = 1.0f - s.beta1, rest2 = 1.0f - s.beta2;
    for (ptrdiff_t i = 0; i < n; i++) {
        float g = gradient[i] * s.gradient_scale;
        float m = s.beta1 * first[i] + rest1 * g;
        float v = s.beta2 * second[i] + rest2 * g * g;
        first[i] = m;
        second[i] = v;
        float size = __builtin_elementwise_sqrt(v * s.correction2) + s.epsilon;
        parameters[i] = parameters[i] * keep - s.learning_rate * (m * s.correction1) / size;
    }
}

static void adamw(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    adamw_arguments p = *(const adamw_arguments *)arguments;
    adamw_step(p.step, end - begin, p.gradient + begin, p.parameters + begin, p.first + begin, p.second + begin);
}

typedef union number_bits {
    float value;
    uint32_t bits;
} number_bits;

INLINE float widened(uint16_t half) {
    number_bits x = {.bits = (uint32_t)half << 16};
    return x.value;
}

/// `bits` plus what decides the direction of rounding, cut; infinities and NaN are cut alone.
INLINE uint16_t narrowed(float value, uint32_t chance) {
    number_bits x = {.value = value};
    uint32_t finite = (x.bits & 0x7f800000u) == 0x7f800000u ? 0 : ~0u;
    // A NaN whose upper half is empty would become an infinity.
    uint32_t quiet = (x.bits & 0x7fffffffu) > 0x7f800000u ? 0x400000u : 0;
    return (uint16_t)(((x.bits | quiet) + (chance & finite)) >> 16);
}

static void widen(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    narrow_arguments p = *(const narrow_arguments *)arguments;
    const uint16_t *restrict x = p.known_narrow;
    float *restrict out = p.wide;
    for (ptrdiff_t i = begin; i < end; i++) out[i] = widened(x[i]);
}

static void narrow(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    narrow_arguments p = *(const narrow_arguments *)arguments;
    const float *restrict x = p.known_wide;
    uint16_t *restrict out = p.narrow;
    for (ptrdiff_t i = begin; i < end; i++) {
        number_bits bits = {.value = x[i]};
        out[i] = narrowed(x[i], 0x7fffu + (bits.bits >> 16 & 1));
    }
}

/// 32 bits for number `index` of a stream: a counter that is mixed, as in Philox and its kin, by Wellons' multipliers.
INLINE uint32_t drawn(uint64_t key, uint32_t index) {
    uint32_t x = index * 0x9e3779b9u + (uint32_t)key;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x += (uint32_t)(key >> 32);
    x *= 0x846ca68bu;
    x ^= x >> 16;
    x *= 0x9e3779b1u;
    return x ^ x >> 15;
}

/// Numbers begin ..< begin + n to `out`, or what is there of them in fp32.
INLINE float *opened(kernels_stored stored, ptrdiff_t begin, ptrdiff_t n, float *out) {
    if (stored.format == KERNELS_FP32) return (float *)stored.values + begin;
    const uint16_t *x = (const uint16_t *)stored.values + begin;
    for (ptrdiff_t i = 0; i < n; i++) out[i] = widened(x[i]);
    return out;
}
INLINE void closed(
    kernels_stored stored, ptrdiff_t begin, ptrdiff_t n, const float *values, uint64_t key, int shift) {
    if (stored.format == KERNELS_FP32) return;
    uint16_t *x = (uint16_t *)stored.values + begin;
    for (ptrdiff_t i = 0; i < n; i++) x[i] = narrowed(values[i], drawn(key, (uint32_t)(begin + i)) >> shift & 0xffffu);
}

/// Weights draw from another stream than moments.
static const uint64_t weight_stream = 0x5851f42d4c957f2dULL;

/// Numbers that are opened at a time: they fit the first-level cache.
enum { opened_numbers = 512 };

static void adamw_stored(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    adamw_stored_arguments p = *(const adamw_stored_arguments *)arguments;
    float a[opened_numbers], b[opened_numbers], c[opened_numbers];
    for (ptrdiff_t at = begin; at < end; at += opened_numbers) {
        ptrdiff_t n = end - at < opened_numbers ? end - at : opened_numbers;
        float *parameters = opened(p.parameters, at, n, a), *first = opened(p.first, at, n, b);
        float *second = opened(p.second, at, n, c);
        adamw_step(p.step, n, p.gradient + at, parameters, first, second);
        // Both moments of a number share one draw, sixteen bits each; the weight has its own.
        closed(p.first, at, n, first, p.key, 0);
        closed(p.second, at, n, second, p.key, 16);
        closed(p.parameters, at, n, parameters, p.key ^ weight_stream, 0);
    }
}

static void momentum_stored(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    moving_arguments p = *(const moving_arguments *)arguments;
    float room[opened_numbers];
    for (ptrdiff_t at = begin; at < end; at += opened_numbers) {
        ptrdiff_t n = end - at < opened_numbers ? end - at : opened_numbers;
        float *momentum = opened(p.kept, at, n, room);
        for (ptrdiff_t i = 0; i < n; i++) {
            float g = p.direction[at + i] * p.scale, m = __builtin_fmaf(p.mu, momentum[i], g);
            momentum[i] = m;
            p.out[at + i] = __builtin_fmaf(p.mu, m, g);
        }
        closed(p.kept, at, n, momentum, p.key, 0);
    }
}

static void move_stored(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    moving_arguments p = *(const moving_arguments *)arguments;
    float room[opened_numbers];
    for (ptrdiff_t at = begin; at < end; at += opened_numbers) {
        ptrdiff_t n = end - at < opened_numbers ? end - at : opened_numbers;
        float *parameters = opened(p.kept, at, n, room);
        for (ptrdiff_t i = 0; i < n; i++)
            parameters[i] = __builtin_fmaf(p.scale, p.direction[at + i], p.mu * parameters[i]);
        closed(p.kept, at, n, parameters, p.key ^ weight_stream, 0);
    }
}

static void sum_squares(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    p.out[0] = dot(p.x + begin, p.x + begin, end - begin);
}

static void sum(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    float lane[lanes] = {0}, rest = 0;
    ptrdiff_t i = begin;
    for (; i + lanes <= end; i += lanes)
        for (int j = 0; j < lanes; j++) lane[j] += p.x[i + j];
    for (; i < end; i++) rest += p.x[i];
    p.out[0] = fold_lanes(lane) + rest;
}

static void axpy(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    const float *restrict x = p.x;
    float *restrict out = p.out;
    for (ptrdiff_t i = begin; i < end; i++) out[i] = __builtin_fmaf(p.a, x[i], out[i]);
}

static void add(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    const float *restrict x = p.x;
    float *restrict out = p.out;
    for (ptrdiff_t i = begin; i < end; i++) out[i] += x[i];
}

static void scale(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    for (ptrdiff_t i = begin; i < end; i++) p.out[i] *= p.a;
}

static void subtract(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    for (ptrdiff_t i = begin; i < end; i++) p.out[i] = p.x[i] - p.y[i];
}

static void divide_by_weights(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    for (ptrdiff_t i = begin; i < end; i++) p.out[i] = p.x[i] > 0 ? p.out[i] / p.x[i] : 0;
}

static void outer_step(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    const float *restrict delta = p.x;
    float *restrict out = p.out, *restrict momentum = p.momentum;
    for (ptrdiff_t i = begin; i < end; i++) {
        momentum[i] = __builtin_fmaf(p.mu, momentum[i], delta[i]);
        out[i] -= p.a * __builtin_fmaf(p.mu, momentum[i], delta[i]);
    }
}

/// out[0] = 0 where every value is finite: an exponent of all ones marks infinity and NaN.
static void all_finite(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    vector_arguments p = *(const vector_arguments *)arguments;
    const uint32_t *bits = (const uint32_t *)(const void *)p.x;
    uint32_t bad = 0;
    for (ptrdiff_t i = begin; i < end; i++) bad |= (uint32_t)((bits[i] & 0x7f800000u) == 0x7f800000u);
    p.out[0] = bad ? 1.0f : 0.0f;
}

INLINE float dot_halves(const uint16_t *a, const float *b, ptrdiff_t n) {
    float sum[lanes] = {0}, rest = 0;
    ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int j = 0; j < lanes; j++) {
            union {
                uint32_t bits;
                float value;
            } wide = {.bits = (uint32_t)a[i + j] << 16};
            sum[j] = __builtin_fmaf(wide.value, b[i + j], sum[j]);
        }
    for (; i < n; i++) {
        union {
            uint32_t bits;
            float value;
        } wide = {.bits = (uint32_t)a[i] << 16};
        rest = __builtin_fmaf(wide.value, b[i], rest);
    }
    return fold_lanes(sum) + rest;
}

/// Outputs begin ..< end.
static void matvec(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    matvec_arguments p = *(const matvec_arguments *)arguments;
    for (ptrdiff_t o = begin; o < end; o++)
        for (ptrdiff_t r = 0; r < p.rows; r++) {
            const float *x = p.x + r * p.inputs;
            float value = p.halves ? dot_halves(p.halves + o * p.inputs, x, p.inputs)
                                   : dot(p.weight + o * p.inputs, x, p.inputs);
            float *y = p.y + r * p.outputs + o;
            *y = p.accumulate ? *y + value : value;
        }
}

/// Columns begin ..< end.
static void weighted_rows(const void *arguments, ptrdiff_t begin, ptrdiff_t end) {
    weighted_rows_arguments p = *(const weighted_rows_arguments *)arguments;
    float *restrict out = p.out;
    for (ptrdiff_t i = begin; i < end; i++) out[i] = 0;
    for (ptrdiff_t r = 0; r < p.rows; r++) {
        const float *restrict row = p.values + r * p.width;
        float share = p.shares[r];
        for (ptrdiff_t i = begin; i < end; i++) out[i] = __builtin_fmaf(share, row[i], out[i]);
    }
}

static const ops_table table = {
    rmsnorm_forward, rmsnorm_again, rmsnorm_backward_input, rmsnorm_backward_gain, head_norm_forward,
    head_norm_backward_input, head_norm_backward_gain, add_bias, add_rows, rope, swiglu_forward, swiglu_backward,
    softmax_forward, softmax_backward, cross_entropy, embedding_backward, adamw, adamw_stored, momentum_stored, move_stored, widen, narrow,
    sum_squares, sum, axpy, add, scale,
    subtract, divide_by_weights, outer_step, all_finite, matvec, weighted_rows,
};
