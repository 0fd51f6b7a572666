#include "codec_ops.h"

#include <stdatomic.h>

static _Atomic int chosen = -1;

uint64_t codec_ones[256];

__attribute__((constructor)) static void fill_codec_ones(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t shift = 0;
        for (uint64_t bit = 0; bit < 8; bit++) {
            if ((byte >> bit & 1) == 0) continue;
            codec_ones[byte] |= bit << shift;
            shift += 8;
        }
    }
}

static bool available(int set) {
    switch (set) {
    case KERNELS_CODEC_NAIVE:
    case KERNELS_CODEC_BASELINE:
        return true;
#if defined(__x86_64__)
    case KERNELS_CODEC_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
    case KERNELS_CODEC_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2");
#endif
    default:
        return false;
    }
}

bool kernels_codec_set_instruction_set(int set) {
    if (set < KERNELS_CODEC_NAIVE || set > KERNELS_CODEC_AVX512) set = -1;
    if (set >= 0 && !available(set)) return false;
    atomic_store_explicit(&chosen, set, memory_order_relaxed);
    return true;
}

int kernels_codec_instruction_set(void) {
    int set = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (set >= 0) return set;
    set = KERNELS_CODEC_AVX512;
    while (!available(set)) set--;
    atomic_store_explicit(&chosen, set, memory_order_relaxed);
    return set;
}

const struct codec_ops *codec_ops(void) {
    switch (kernels_codec_instruction_set()) {
#if defined(__x86_64__)
    case KERNELS_CODEC_AVX512:
        return &codec_avx512;
    case KERNELS_CODEC_AVX2:
        return &codec_avx2;
#endif
    case KERNELS_CODEC_BASELINE:
        return &codec_baseline;
    default:
        return &codec_naive;
    }
}

void kernels_codec_fp32_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    codec_ops()->fp32_encode(values, feedback, n, out);
}
bool kernels_codec_fp32_finite(const uint8_t *bytes, size_t n) { return codec_ops()->fp32_finite(bytes, n); }
void kernels_codec_fp32_decode(const uint8_t *bytes, size_t n, float *into) {
    codec_ops()->fp32_decode(bytes, n, into);
}
void kernels_codec_fp32_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights) {
    (void)n;
    codec_ops()->fp32_accumulate(bytes + 4 * first, count, weight, sum, weights);
}
void kernels_codec_bf16_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    codec_ops()->bf16_encode(values, feedback, n, out);
}
bool kernels_codec_bf16_finite(const uint8_t *bytes, size_t n) { return codec_ops()->bf16_finite(bytes, n); }
void kernels_codec_bf16_decode(const uint8_t *bytes, size_t n, float *into) {
    codec_ops()->bf16_decode(bytes, n, into);
}
void kernels_codec_bf16_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights) {
    (void)n;
    codec_ops()->bf16_accumulate(bytes + 2 * first, count, weight, sum, weights);
}
void kernels_codec_fp16_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    codec_ops()->fp16_encode(values, feedback, n, out);
}
bool kernels_codec_fp16_finite(const uint8_t *bytes, size_t n) { return codec_ops()->fp16_finite(bytes, n); }
void kernels_codec_fp16_decode(const uint8_t *bytes, size_t n, float *into) {
    codec_ops()->fp16_decode(bytes, n, into);
}
void kernels_codec_fp16_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights) {
    (void)n;
    codec_ops()->fp16_accumulate(bytes + 2 * first, count, weight, sum, weights);
}
void kernels_codec_int8_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    codec_ops()->int8_mean(bytes, weight, contributors, n, total, into);
}
void kernels_codec_int4_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    codec_ops()->int4_mean(bytes, weight, contributors, n, total, into);
}
void kernels_codec_int8_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    codec_ops()->int8_encode(values, feedback, n, out);
}
void kernels_codec_int8_decode(const uint8_t *bytes, size_t n, float *into) {
    codec_ops()->int8_decode(bytes, n, into);
}
void kernels_codec_int8_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights) {
    const uint8_t *scales = bytes + 4 * (first / KERNELS_CODEC_BLOCK);
    const uint8_t *quantised = bytes + 4 * ((n + KERNELS_CODEC_BLOCK - 1) / KERNELS_CODEC_BLOCK) + first;
    codec_ops()->int8_accumulate(scales, quantised, count, weight, sum, weights);
}
void kernels_codec_int4_encode(const float *values, float *feedback, size_t n, uint8_t *out) {
    codec_ops()->int4_encode(values, feedback, n, out);
}
void kernels_codec_int4_decode(const uint8_t *bytes, size_t n, float *into) {
    codec_ops()->int4_decode(bytes, n, into);
}
void kernels_codec_int4_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights) {
    const uint8_t *scales = bytes + 4 * (first / KERNELS_CODEC_BLOCK);
    const uint8_t *quantised = bytes + 4 * ((n + KERNELS_CODEC_BLOCK - 1) / KERNELS_CODEC_BLOCK) + first / 2;
    codec_ops()->int4_accumulate(scales, quantised, count, weight, sum, weights);
}
