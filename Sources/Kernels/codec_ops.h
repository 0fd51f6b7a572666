#ifndef CODEC_OPS_H
#define CODEC_OPS_H

#include "codec_sparse.h"
#include "kernels_codec.h"

/// Where to look for a tile's k-th largest magnitude: affects the time only.
struct codec_guess {
    /// The previous tile's; 0 for none.
    float last;
    /// The share of it from which values are worth a second look.
    float share;
};

/// What one instruction set provides. Semantics are those of the public functions in kernels_codec.h.
struct codec_ops {
    void (*fp32_encode)(const float *, float *, size_t, uint8_t *);
    bool (*fp32_finite)(const uint8_t *, size_t);
    void (*fp32_decode)(const uint8_t *, size_t, float *);
    void (*fp32_accumulate)(const uint8_t *, size_t, float, float *, float *);
    void (*bf16_encode)(const float *, float *, size_t, uint8_t *);
    bool (*bf16_finite)(const uint8_t *, size_t);
    void (*bf16_decode)(const uint8_t *, size_t, float *);
    void (*bf16_accumulate)(const uint8_t *, size_t, float, float *, float *);
    void (*fp16_encode)(const float *, float *, size_t, uint8_t *);
    bool (*fp16_finite)(const uint8_t *, size_t);
    void (*fp16_decode)(const uint8_t *, size_t, float *);
    void (*fp16_accumulate)(const uint8_t *, size_t, float, float *, float *);
    void (*int8_encode)(const float *, float *, size_t, uint8_t *);
    void (*int8_decode)(const uint8_t *, size_t, float *);
    void (*int8_accumulate)(const uint8_t *scales, const uint8_t *q, size_t, float, float *, float *);
    /// into = Σ weight · value ÷ total over the contributors' whole messages.
    void (*int8_mean)(const uint8_t *const *, const float *, size_t contributors, size_t n, float total, float *into);
    void (*int4_encode)(const float *, float *, size_t, uint8_t *);
    void (*int4_decode)(const uint8_t *, size_t, float *);
    void (*int4_accumulate)(const uint8_t *scales, const uint8_t *q, size_t, float, float *, float *);
    void (*int4_mean)(const uint8_t *const *, const float *, size_t contributors, size_t n, float total, float *into);
    /// Chooses the k largest magnitudes of a tile of m values, 1 ≤ k ≤ m ≤ 4096; of equal ones those with smaller
    /// index. With `feedback` it first becomes decay · feedback + values, and is what is chosen from; without it,
    /// `values` are. `indexes` [m + 16] ascending, `chosen` [m + 16] the values there. False if any value is not
    /// finite.
    bool (*choose)(
        const float *values, float *feedback, float decay, size_t m, size_t k, struct codec_guess *guess,
        uint16_t *indexes, float *chosen);
    /// Σ |value|, in 16 partial sums (value i to i mod 16), folded 16 → 8 → 4 → 2 → 1.
    float (*magnitude_sum)(const float *chosen, size_t count);
    /// Lloyd's two magnitudes of `count` chosen values.
    void (*lloyd)(const float *chosen, size_t count, float *small, float *large);
    /// Σ ⌊gap / divisor⌋ of `count` gaps (0…4095).
    size_t (*quotient_sum)(const uint16_t *gaps, size_t count, uint32_t divisor);
    /// What `count` entries (gap, value) become: quotients and remainders by `divisor`, and symbols (bit 0 sign, bit 1
    /// its magnitude is above `middle`). `remainders` and `symbols` are followed by 16 zeros.
    void (*split)(
        const uint16_t *gaps, const float *chosen, size_t count, uint32_t divisor, float middle, uint16_t *quotients,
        uint16_t *remainders, uint8_t *symbols);
    /// Checks and unpacks the entries of one group (its header and tiles' scales are read), each tile's to entries +
    /// k · its number; advances `position`.
    struct kernels_codec_problem (*unpack)(struct codec_reading *group, uint16_t *entries);
    /// kernels_codec_sparse_mean.
    void (*mean)(
        const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
        size_t k, float *into);
};

extern const struct codec_ops codec_naive, codec_baseline;
#if defined(__x86_64__)
extern const struct codec_ops codec_avx2, codec_avx512;
#endif
/// The instruction set in use.
const struct codec_ops *codec_ops(void);

/// Zeroes every entry that is not finite.
void codec_zero_non_finite(float *values, size_t n);

#endif
