#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)

#define CODEC_TABLE codec_avx512
#define CODEC_GATHER
#define CODEC_READ
#define CODEC_DIVIDE
#include "codec_ops.h"
static size_t gather(
    const float *restrict values, float *restrict feedback, float decay, size_t m, uint32_t threshold,
    uint16_t *restrict index, uint32_t *restrict largest);
static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold);
static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept);
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders);
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries);
typedef float sum_and_weight __attribute__((vector_size(8)));
static void divide(sum_and_weight *restrict sums, size_t m, float *restrict into, bool large);
#include "codec_template.h"

static size_t gather(
    const float *restrict values, float *restrict feedback, float decay, size_t m, uint32_t threshold,
    uint16_t *restrict index, uint32_t *restrict largest) {
    const __m512i all = _mm512_set1_epi32((int)MAGNITUDE), from = _mm512_set1_epi32((int)threshold);
    __m512i most = _mm512_setzero_si512(), most_odd = most;
    __m512i here = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 decays = _mm512_set1_ps(decay);
    size_t count = 0, i = 0;
    for (; i + 32 <= m; i += 32) {
        __m512 low = _mm512_loadu_ps(values + i), high = _mm512_loadu_ps(values + i + 16);
        if (feedback) {
            low = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(feedback + i), decays), low);
            high = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(feedback + i + 16), decays), high);
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
            float kept = feedback[i] * decay;
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

/// 0, 1 … 15.
static inline __m512i iota(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// Sixteen pairs at a time.
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders) {
    const __m512 inverse = _mm512_set1_ps(1 / (float)code.divisor), half = _mm512_set1_ps(0.5f);
    const __m512i divisor = _mm512_set1_epi32((int)code.divisor), seven = _mm512_set1_epi32(7);
    const __m512i mask = _mm512_set1_epi32((1 << code.pair_bits) - 1);
    const __m512i step = _mm512_mullo_epi32(iota(), _mm512_set1_epi32((int)code.pair_bits));
    __mmask16 bad = 0;
    for (size_t i = 0; i < pairs; i += 16) {
        size_t start = position + i * code.pair_bits;
        __m512i bit = _mm512_add_epi32(step, _mm512_set1_epi32((int)(start & 7)));
        __m512i words = _mm512_i32gather_epi32(_mm512_srli_epi32(bit, 3), bytes + (start >> 3), 1);
        __m512i pair = _mm512_and_si512(_mm512_srlv_epi32(words, _mm512_and_si512(bit, seven)), mask);
        __m512 exact = _mm512_add_ps(_mm512_cvtepi32_ps(pair), half);
        __m512i first = _mm512_cvttps_epi32(_mm512_mul_ps(exact, inverse));
        __m512i second = _mm512_sub_epi32(pair, _mm512_mullo_epi32(first, divisor));
        __mmask16 lanes = pairs - i >= 16 ? 0xffff : (__mmask16)((1u << (pairs - i)) - 1);
        bad |= _mm512_mask_cmpge_epu32_mask(lanes, first, divisor);
        _mm512_storeu_si512(remainders + 2 * i, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
    }
    return bad;
}

/// Sixteen entries at a time; the remainders are summed along the lanes by doubling.
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries) {
    const __m512i zero = _mm512_setzero_si512(), many = _mm512_set1_epi32((int)divisor);
    const __m512i twice = _mm512_slli_epi32(iota(), 1), last = _mm512_set1_epi32(15);
    __m512i sum = zero, order = iota(), greatest = zero, from = _mm512_set1_epi32((int)start);
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 lanes = count - i >= 16 ? 0xffff : (__mmask16)((1u << (count - i)) - 1);
        __m512i more = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(remainders + i)));
        more = _mm512_add_epi32(more, _mm512_alignr_epi32(more, zero, 15));
        more = _mm512_add_epi32(more, _mm512_alignr_epi32(more, zero, 14));
        more = _mm512_add_epi32(more, _mm512_alignr_epi32(more, zero, 12));
        more = _mm512_add_epi32(more, _mm512_alignr_epi32(more, zero, 8));
        sum = _mm512_add_epi32(sum, more);
        __m512i zeros = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(ones + i)));
        zeros = _mm512_sub_epi32(_mm512_sub_epi32(zeros, from), order);
        __m512i index = _mm512_add_epi32(_mm512_add_epi32(_mm512_mullo_epi32(zeros, many), sum), order);
        greatest = _mm512_mask_max_epu32(greatest, lanes, greatest, index);
        uint32_t word = (uint32_t)codec_peek(bytes, symbols + 2 * i);
        __m512i symbol = _mm512_srlv_epi32(_mm512_set1_epi32((int)word), twice);
        symbol = _mm512_slli_epi32(_mm512_and_si512(symbol, _mm512_set1_epi32(3)), 12);
        _mm256_mask_storeu_epi16(entries + i, lanes, _mm512_cvtepi32_epi16(_mm512_or_si512(index, symbol)));
        sum = _mm512_permutexvar_epi32(last, sum);
        order = _mm512_add_epi32(order, _mm512_set1_epi32(16));
    }
    return _mm512_reduce_max_epu32(greatest);
}

/// Streaming stores need whole cache lines: up to the first one, one by one.
static void divide(sum_and_weight *restrict sums, size_t m, float *restrict into, bool large) {
    const __m512i even = _mm512_slli_epi32(iota(), 1), odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
    size_t i = 0, head = codec_least(m, (64 - ((uintptr_t)into & 63)) % 64 / 4);
    for (; i < m; i++) {
        if (i >= head && m - i >= 16) {
            __m512 low = _mm512_loadu_ps(sums + i), high = _mm512_loadu_ps(sums + i + 8);
            _mm512_storeu_ps(sums + i, zero);
            _mm512_storeu_ps(sums + i + 8, zero);
            __m512 sum = _mm512_permutex2var_ps(low, even, high), weight = _mm512_permutex2var_ps(low, odd, high);
            weight = _mm512_mask_mov_ps(one, _mm512_cmp_ps_mask(weight, zero, _CMP_GT_OQ), weight);
            __m512 quotient = _mm512_div_ps(sum, weight);
            if (large) _mm512_stream_ps(into + i, quotient);
            else _mm512_storeu_ps(into + i, quotient);
            i += 15;
            continue;
        }
        float weight = sums[i][1];
        into[i] = sums[i][0] / (weight > 0 ? weight : 1);
        sums[i] = (sum_and_weight){0, 0};
    }
}

#pragma clang attribute pop
#endif
