#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)

#define CODEC_TABLE codec_avx2
#define CODEC_GATHER
#include "codec_ops.h"
static size_t gather(
    const float *restrict values, float *restrict feedback, size_t m, uint32_t threshold, uint16_t *restrict index,
    uint32_t *restrict largest);
static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold);
static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept);
#include "codec_template.h"

/// The few of eight values that are worth collecting, by their mask's bits.
static inline __attribute__((always_inline)) size_t gather_eight(
    __m256i bits, size_t start, __m256i below, __m256i *largest, size_t count, uint16_t *restrict index) {
    __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32((int)MAGNITUDE));
    *largest = _mm256_max_epi32(*largest, magnitude);
    uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(magnitude, below)));
    for (; mask; mask &= mask - 1) index[count++] = (uint16_t)(start + (uint32_t)__builtin_ctz(mask));
    return count;
}

static size_t gather(
    const float *restrict values, float *restrict feedback, size_t m, uint32_t threshold, uint16_t *restrict index,
    uint32_t *restrict largest) {
    // Signed comparison is right because magnitudes are below 2³¹; a threshold of 0 takes everything.
    __m256i below = _mm256_set1_epi32((int)threshold - 1), most = _mm256_setzero_si256();
    __m256 decay = _mm256_set1_ps(KERNELS_CODEC_DECAY);
    size_t i = 0, count = 0;
    if (feedback) {
        for (; i + 8 <= m; i += 8) {
            __m256 kept = _mm256_mul_ps(_mm256_loadu_ps(feedback + i), decay);
            __m256 sum = _mm256_add_ps(kept, _mm256_loadu_ps(values + i));
            _mm256_storeu_ps(feedback + i, sum);
            count = gather_eight(_mm256_castps_si256(sum), i, below, &most, count, index);
        }
    } else {
        for (; i + 8 <= m; i += 8)
            count = gather_eight(_mm256_loadu_si256((const __m256i *)(values + i)), i, below, &most, count, index);
    }
    uint32_t lanes[8];
    _mm256_storeu_si256((__m256i *)lanes, most);
    *largest = 0;
    for (int j = 0; j < 8; j++) *largest = lanes[j] > *largest ? lanes[j] : *largest;
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
    __m256i below = _mm256_set1_epi32((int)threshold - 1), first = _mm256_setzero_si256(), second = first;
    for (size_t i = 0; i < n; i += 16) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(magnitudes + i));
        __m256i high = _mm256_loadu_si256((const __m256i *)(magnitudes + i + 8));
        first = _mm256_sub_epi32(first, _mm256_cmpgt_epi32(low, below));
        second = _mm256_sub_epi32(second, _mm256_cmpgt_epi32(high, below));
    }
    first = _mm256_add_epi32(first, second);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return (size_t)(uint32_t)(_mm_cvtsi128_si32(four) + _mm_extract_epi32(four, 1));
}

static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        kept[count] = index[i];
        count += magnitudes[i] >= threshold;
    }
}

#pragma clang attribute pop
#endif
