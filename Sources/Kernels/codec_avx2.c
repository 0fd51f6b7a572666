#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)

#define CODEC_TABLE codec_avx2
#define CODEC_GATHER
#define CODEC_UNPACK
#include "codec_ops.h"
static size_t gather(
    const float *restrict values, float *restrict feedback, size_t m, uint32_t threshold, uint16_t *restrict index,
    uint32_t *restrict largest);
static inline size_t count_from(const uint32_t *restrict magnitudes, size_t n, uint32_t threshold);
static inline void compact(
    const uint32_t *magnitudes, const uint16_t *index, size_t n, uint32_t threshold, uint16_t *kept);
static size_t find_ones(
    const uint8_t *restrict bytes, size_t position, size_t count, size_t limit, uint16_t *restrict positions);
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders);
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries);
#include "codec_template.h"

/// The positions of each byte's ones, in the low bytes first.
static uint64_t ones_of[256];

__attribute__((constructor)) static void fill_ones_of(void) {
    for (uint32_t byte = 0; byte < 256; byte++)
        for (uint64_t bit = 0, shift = 0; bit < 8; bit++)
            if (byte >> bit & 1) {
                ones_of[byte] |= bit << shift;
                shift += 8;
            }
}

/// Appends base + the position of each one of `mask` (eight bits); writes eight places whatever the count.
static inline __attribute__((always_inline)) size_t append_ones(
    uint32_t mask, __m128i base, uint16_t *restrict to, size_t count) {
    __m128i positions = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(ones_of + mask)));
    _mm_storeu_si128((__m128i *)(to + count), _mm_add_epi16(positions, base));
    return count + (size_t)__builtin_popcount(mask);
}

/// The few of eight values that are worth collecting.
static inline __attribute__((always_inline)) size_t gather_eight(
    __m256i bits, size_t start, __m256i below, __m256i *largest, size_t count, uint16_t *restrict index) {
    __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32((int)MAGNITUDE));
    *largest = _mm256_max_epi32(*largest, magnitude);
    uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(magnitude, below)));
    return append_ones(mask, _mm_set1_epi16((short)start), index, count);
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

/// Eight bits at a time.
static size_t find_ones(
    const uint8_t *restrict bytes, size_t position, size_t count, size_t limit, uint16_t *restrict positions) {
    __m128i here = _mm_setzero_si128();
    size_t found = 0;
    for (size_t base = 0; base < limit && found < count; base += 48) {
        uint64_t word = codec_next(bytes, position, base, limit, 48);
        for (int part = 0; part < 6; part++, word >>= 8) {
            found = append_ones(word & 255, here, positions, found);
            here = _mm_add_epi16(here, _mm_set1_epi16(8));
        }
    }
    return found;
}

static inline __m256i iota(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }

/// Eight pairs at a time.
static uint32_t read_pairs(
    const uint8_t *restrict bytes, size_t position, size_t pairs, struct codec_golomb code,
    uint16_t *restrict remainders) {
    const __m256 inverse = _mm256_set1_ps(1 / (float)code.divisor), half = _mm256_set1_ps(0.5f);
    const __m256i divisor = _mm256_set1_epi32((int)code.divisor), most = _mm256_set1_epi32((int)code.divisor - 1);
    const __m256i mask = _mm256_set1_epi32((1 << code.pair_bits) - 1);
    const __m256i step = _mm256_mullo_epi32(iota(), _mm256_set1_epi32((int)code.pair_bits));
    __m256i bad = _mm256_setzero_si256();
    for (size_t i = 0; i < pairs; i += 8) {
        size_t start = position + i * code.pair_bits;
        __m256i bit = _mm256_add_epi32(step, _mm256_set1_epi32((int)(start & 7)));
        __m256i words = _mm256_i32gather_epi32((const int *)(bytes + (start >> 3)), _mm256_srli_epi32(bit, 3), 1);
        words = _mm256_srlv_epi32(words, _mm256_and_si256(bit, _mm256_set1_epi32(7)));
        __m256i pair = _mm256_and_si256(words, mask);
        __m256 exact = _mm256_add_ps(_mm256_cvtepi32_ps(pair), half);
        __m256i first = _mm256_cvttps_epi32(_mm256_mul_ps(exact, inverse));
        __m256i second = _mm256_sub_epi32(pair, _mm256_mullo_epi32(first, divisor));
        __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(pairs - i)), iota());
        bad = _mm256_or_si256(bad, _mm256_and_si256(there, _mm256_cmpgt_epi32(first, most)));
        __m256i both = _mm256_or_si256(first, _mm256_slli_epi32(second, 16));
        _mm256_storeu_si256((__m256i *)(remainders + 2 * i), both);
    }
    return !_mm256_testz_si256(bad, bad);
}

/// Eight entries at a time; the remainders are summed along the lanes by doubling.
static uint32_t read_tile(
    const uint16_t *restrict ones, const uint16_t *restrict remainders, size_t count, uint32_t start, uint32_t divisor,
    const uint8_t *restrict bytes, size_t symbols, uint16_t *restrict entries) {
    const __m256i many = _mm256_set1_epi32((int)divisor), last = _mm256_set1_epi32(7);
    const __m256i twice = _mm256_slli_epi32(iota(), 1), from = _mm256_set1_epi32((int)start);
    __m256i sum = _mm256_setzero_si256(), order = iota();
    uint32_t lanes[8] = {0};
    for (size_t i = 0; i < count; i += 8) {
        __m256i more = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(remainders + i)));
        more = _mm256_add_epi32(more, _mm256_slli_si256(more, 4));
        more = _mm256_add_epi32(more, _mm256_slli_si256(more, 8));
        // The lower half's sum into every place of the upper half.
        __m256i lower = _mm256_permute2x128_si256(more, more, 0x08);
        more = _mm256_add_epi32(more, _mm256_shuffle_epi32(lower, 0xff));
        sum = _mm256_add_epi32(sum, more);
        __m256i zeros = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(ones + i)));
        zeros = _mm256_sub_epi32(_mm256_sub_epi32(zeros, from), order);
        __m256i index = _mm256_add_epi32(_mm256_add_epi32(_mm256_mullo_epi32(zeros, many), sum), order);
        __m256i symbol = _mm256_set1_epi32((int)(uint32_t)codec_peek(bytes, symbols + 2 * i));
        symbol = _mm256_and_si256(_mm256_srlv_epi32(symbol, twice), _mm256_set1_epi32(3));
        _mm256_storeu_si256((__m256i *)lanes, index);
        // Only the last index is checked by the caller, so a wrapped one may lose its upper bits here.
        index = _mm256_and_si256(index, _mm256_set1_epi32(4095));
        __m256i entry = _mm256_or_si256(index, _mm256_slli_epi32(symbol, 12));
        __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(entry), _mm256_extracti128_si256(entry, 1));
        if (count - i >= 8) _mm_storeu_si128((__m128i *)(entries + i), packed);
        else {
            uint16_t some[8];
            _mm_storeu_si128((__m128i *)some, packed);
            memcpy(entries + i, some, 2 * (count - i));
        }
        sum = _mm256_permutevar8x32_epi32(sum, last);
        order = _mm256_add_epi32(order, _mm256_set1_epi32(8));
    }
    return lanes[(count - 1) % 8];
}

#pragma clang attribute pop
#endif
