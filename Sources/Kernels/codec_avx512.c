#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(                                                                                           \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)

#define CODEC_TABLE codec_avx512
#define CODEC_GATHER
#include "codec_ops.h"
static size_t gather(
    const float *restrict values, float *restrict feedback, size_t m, uint32_t threshold, uint16_t *restrict index,
    uint32_t *restrict largest);
static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold);
static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept);
#include "codec_template.h"

static size_t gather(
    const float *restrict values, float *restrict feedback, size_t m, uint32_t threshold, uint16_t *restrict index,
    uint32_t *restrict largest) {
    const __m512i all = _mm512_set1_epi32((int)MAGNITUDE), from = _mm512_set1_epi32((int)threshold);
    __m512i most = _mm512_setzero_si512(), most_odd = most;
    __m512i here = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 decay = _mm512_set1_ps(KERNELS_CODEC_DECAY);
    size_t count = 0, i = 0;
    for (; i + 32 <= m; i += 32) {
        __m512 low = _mm512_loadu_ps(values + i), high = _mm512_loadu_ps(values + i + 16);
        if (feedback) {
            low = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(feedback + i), decay), low);
            high = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(feedback + i + 16), decay), high);
            _mm512_storeu_ps(feedback + i, low);
            _mm512_storeu_ps(feedback + i + 16, high);
        }
        __m512i low_bits = _mm512_and_si512(_mm512_castps_si512(low), all);
        __m512i high_bits = _mm512_and_si512(_mm512_castps_si512(high), all);
        most = _mm512_max_epu32(most, low_bits);
        most_odd = _mm512_max_epu32(most_odd, high_bits);
        __mmask16 take_low = _mm512_cmpge_epu32_mask(low_bits, from);
        __mmask16 take_high = _mm512_cmpge_epu32_mask(high_bits, from);
        __m512i next = _mm512_add_epi32(here, _mm512_set1_epi32(16));
        size_t middle = count + (size_t)__builtin_popcount(take_low);
        _mm256_storeu_si256(
            (__m256i *)(index + count), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(take_low, here)));
        _mm256_storeu_si256(
            (__m256i *)(index + middle), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(take_high, next)));
        count = middle + (size_t)__builtin_popcount(take_high);
        here = _mm512_add_epi32(next, _mm512_set1_epi32(16));
    }
    *largest = _mm512_reduce_max_epu32(_mm512_max_epu32(most, most_odd));
    for (; i < m; i++) {
        float value = values[i];
        if (feedback) {
            float kept = feedback[i] * KERNELS_CODEC_DECAY;
            feedback[i] = value = kept + value;
        }
        uint32_t magnitude = codec_bits(value) & MAGNITUDE;
        *largest = magnitude > *largest ? magnitude : *largest;
        if (magnitude >= threshold) index[count++] = (uint16_t)i;
    }
    return count;
}

static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold) {
    __m512i from = _mm512_set1_epi32((int)threshold);
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16)
        count += (size_t)__builtin_popcount(_mm512_cmpge_epu32_mask(_mm512_loadu_si512(magnitudes + i), from));
    return count;
}

static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept) {
    __m512i from = _mm512_set1_epi32((int)threshold);
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = _mm512_cmpge_epu32_mask(_mm512_loadu_si512(magnitudes + i), from);
        __m512i here = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(index + i)));
        _mm256_storeu_si256(
            (__m256i *)(kept + count), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(mask, here)));
        count += (size_t)__builtin_popcount(mask);
    }
}

#pragma clang attribute pop
#endif
