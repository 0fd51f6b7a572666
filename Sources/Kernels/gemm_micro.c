// The innermost loops of the matrix product, one for each instruction set. Lanes are different columns of c, so the
// order of each element's sum is the order of k, and padding a tile with zeros changes nothing.
#include "gemm_internal.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

static void micro_kernel_scalar(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate) {
    enum { rows = 4, columns = 8 };
    float sum[rows][columns];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sum[i][j] = accumulate ? c[i * c_row + j] : 0;
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, b += columns)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) c[i * c_row + j] = sum[i][j];
}

static const gemm_plan scalar_plan = {4, 8, 256, 128, 768, micro_kernel_scalar, NULL, NULL, NULL};

#if defined(__x86_64__)
#include <immintrin.h>

#define UNROLL _Pragma("clang loop unroll(full)")

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx2,fma")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512vl,avx2,fma")))

enum { avx512_rows = 14, avx512_columns = 32 };

/// 14 rows of two 16-lane registers: 28 of the 32 registers hold sums.
AVX512 static void micro_kernel_avx512(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate) {
    enum { rows = avx512_rows, columns = avx512_columns, ahead = 8 * columns };
    __m512 left[rows], right[rows];
    if (accumulate) {
        UNROLL for (int i = 0; i < rows; i++) {
            left[i] = _mm512_loadu_ps(c + i * c_row);
            right[i] = _mm512_loadu_ps(c + i * c_row + 16);
        }
    } else {
        UNROLL for (int i = 0; i < rows; i++) left[i] = right[i] = _mm512_setzero_ps();
    }
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, b += columns) {
        __m512 b_left = _mm512_loadu_ps(b), b_right = _mm512_loadu_ps(b + 16);
        _mm_prefetch((const char *)(b + ahead), _MM_HINT_T0);
        _mm_prefetch((const char *)(b + ahead + 16), _MM_HINT_T0);
        UNROLL for (int i = 0; i < rows; i++) {
            __m512 value = _mm512_set1_ps(a[i]);
            left[i] = _mm512_fmadd_ps(value, b_left, left[i]);
            right[i] = _mm512_fmadd_ps(value, b_right, right[i]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(c + i * c_row, left[i]);
        _mm512_storeu_ps(c + i * c_row + 16, right[i]);
    }
}

/// A tile of `rows` (known when compiled) rows and one or two registers of columns, the last one masked.
AVX512_INLINE void edge_avx512(
    int rows, bool is_wide, __mmask16 mask, ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row,
    bool accumulate) {
    __m512 left[avx512_rows], right[avx512_rows];
    __mmask16 first = is_wide ? 0xffff : mask;
    UNROLL for (int i = 0; i < rows; i++) {
        left[i] = accumulate ? _mm512_maskz_loadu_ps(first, c + i * c_row) : _mm512_setzero_ps();
        if (is_wide) right[i] = accumulate ? _mm512_maskz_loadu_ps(mask, c + i * c_row + 16) : _mm512_setzero_ps();
    }
    for (ptrdiff_t k = 0; k < depth; k++, a += avx512_rows, b += avx512_columns) {
        __m512 b_left = _mm512_loadu_ps(b), b_right = _mm512_loadu_ps(b + 16);
        UNROLL for (int i = 0; i < rows; i++) {
            __m512 value = _mm512_set1_ps(a[i]);
            left[i] = _mm512_fmadd_ps(value, b_left, left[i]);
            if (is_wide) right[i] = _mm512_fmadd_ps(value, b_right, right[i]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        _mm512_mask_storeu_ps(c + i * c_row, first, left[i]);
        if (is_wide) _mm512_mask_storeu_ps(c + i * c_row + 16, mask, right[i]);
    }
}

AVX512 static void edge_kernel_avx512(
    ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row,
    bool accumulate) {
    bool is_wide = columns > 16;
    __mmask16 mask = (__mmask16)((1u << (is_wide ? columns - 16 : columns)) - 1);
#define ROWS(n)                                                                            \
    case n:                                                                                \
        if (is_wide) edge_avx512(n, true, mask, depth, a, b, c, c_row, accumulate);        \
        else edge_avx512(n, false, mask, depth, a, b, c, c_row, accumulate);               \
        break;
    switch (rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13)
        ROWS(14)
    default: break;
    }
#undef ROWS
}

AVX512_INLINE __mmask16 first_lanes(ptrdiff_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

AVX512 static void pack_across_avx512(
    ptrdiff_t count, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out) {
    ptrdiff_t whole = count / width;
    __mmask16 narrow = first_lanes(width);
    for (ptrdiff_t k = 0; k < depth; k++) {
        const float *x = source + k * stride;
        float *y = out + k * width;
        if (width > 16) {
            for (ptrdiff_t panel = 0; panel < whole; panel++, x += 32, y += 32 * depth) {
                _mm512_storeu_ps(y, _mm512_loadu_ps(x));
                _mm512_storeu_ps(y + 16, _mm512_loadu_ps(x + 16));
            }
        } else {
            for (ptrdiff_t panel = 0; panel < whole; panel++, x += width, y += width * depth)
                _mm512_mask_storeu_ps(y, narrow, _mm512_maskz_loadu_ps(narrow, x));
        }
        ptrdiff_t rest = count - whole * width;
        for (ptrdiff_t at = 0; rest > 0 && at < width; at += 16)
            _mm512_mask_storeu_ps(
                y + at, first_lanes(width - at), _mm512_maskz_loadu_ps(first_lanes(rest - at), x + at));
    }
}

/// Sixteen vectors of sixteen values, rows become columns.
AVX512_INLINE void transpose_avx512(__m512 x[16]) {
    __m512 t[16], u[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd);
        t[i + 12] = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        x[i + 4] = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        x[i + 12] = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
    }
}

AVX512 static void pack_along_avx512(
    ptrdiff_t present, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out) {
    for (ptrdiff_t at = 0; at < width; at += 16) {
        __mmask16 to = first_lanes(width - at);
        for (ptrdiff_t k = 0; k < depth; k += 16) {
            __mmask16 from = first_lanes(depth - k);
            __m512 x[16];
            UNROLL for (int i = 0; i < 16; i++)
                x[i] = _mm512_maskz_loadu_ps(at + i < present ? from : 0, source + (at + i) * stride + k);
            transpose_avx512(x);
            float *y = out + k * width + at;
            if (depth - k >= 16) {
                UNROLL for (int i = 0; i < 16; i++) _mm512_mask_storeu_ps(y + i * width, to, x[i]);
            } else {
                UNROLL for (int i = 0; i < 16; i++)
                    if (i < depth - k) _mm512_mask_storeu_ps(y + i * width, to, x[i]);
            }
        }
    }
}

/// 6 rows of two 8-lane registers: 12 of the 16 registers hold sums.
__attribute__((target("avx2,fma"))) static void micro_kernel_avx2(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate) {
    enum { rows = 6, columns = 16 };
    __m256 left[rows], right[rows];
    if (accumulate) {
        UNROLL for (int i = 0; i < rows; i++) {
            left[i] = _mm256_loadu_ps(c + i * c_row);
            right[i] = _mm256_loadu_ps(c + i * c_row + 8);
        }
    } else {
        UNROLL for (int i = 0; i < rows; i++) left[i] = right[i] = _mm256_setzero_ps();
    }
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, b += columns) {
        __m256 b_left = _mm256_loadu_ps(b), b_right = _mm256_loadu_ps(b + 8);
        UNROLL for (int i = 0; i < rows; i++) {
            __m256 value = _mm256_broadcast_ss(a + i);
            left[i] = _mm256_fmadd_ps(value, b_left, left[i]);
            right[i] = _mm256_fmadd_ps(value, b_right, right[i]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        _mm256_storeu_ps(c + i * c_row, left[i]);
        _mm256_storeu_ps(c + i * c_row + 8, right[i]);
    }
}

/// The first `count` of eight values.
AVX2_INLINE void store_first(float *to, __m256 value, ptrdiff_t count) {
    if (count >= 8) {
        _mm256_storeu_ps(to, value);
    } else if (count == 6) {
        _mm_storeu_ps(to, _mm256_castps256_ps128(value));
        _mm_storel_pi((__m64 *)(void *)(to + 4), _mm256_extractf128_ps(value, 1));
    } else {
        float all[8];
        _mm256_storeu_ps(all, value);
        for (ptrdiff_t i = 0; i < count; i++) to[i] = all[i];
    }
}

/// The first `count` of eight values, zeros after them; nothing beyond is read.
AVX2_INLINE __m256 load_first(const float *from, ptrdiff_t count) {
    if (count >= 8) return _mm256_loadu_ps(from);
    float all[8] = {0};
    for (ptrdiff_t i = 0; i < count; i++) all[i] = from[i];
    return _mm256_loadu_ps(all);
}

AVX2 static void pack_across_avx2(
    ptrdiff_t count, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out) {
    for (ptrdiff_t k = 0; k < depth; k++) {
        const float *x = source + k * stride;
        float *y = out + k * width;
        ptrdiff_t rest = count;
        for (; rest >= width; rest -= width, x += width, y += width * depth) {
            if (width == 16) {
                _mm256_storeu_ps(y, _mm256_loadu_ps(x));
                _mm256_storeu_ps(y + 8, _mm256_loadu_ps(x + 8));
            } else {
                for (ptrdiff_t i = 0; i < width; i++) y[i] = x[i];
            }
        }
        for (ptrdiff_t i = 0; rest > 0 && i < width; i++) y[i] = i < rest ? x[i] : 0;
    }
}

/// Eight vectors of eight values, rows become columns.
AVX2_INLINE void transpose_avx2(__m256 x[8]) {
    __m256 t[8], u[8];
    UNROLL for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    UNROLL for (int half = 0; half < 8; half += 4) {
        u[half] = _mm256_shuffle_ps(t[half], t[half + 2], 0x44);
        u[half + 1] = _mm256_shuffle_ps(t[half], t[half + 2], 0xEE);
        u[half + 2] = _mm256_shuffle_ps(t[half + 1], t[half + 3], 0x44);
        u[half + 3] = _mm256_shuffle_ps(t[half + 1], t[half + 3], 0xEE);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

AVX2 static void pack_along_avx2(
    ptrdiff_t present, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out) {
    for (ptrdiff_t at = 0; at < width; at += 8)
        for (ptrdiff_t k = 0; k < depth; k += 8) {
            __m256 x[8];
            UNROLL for (int i = 0; i < 8; i++)
                x[i] = at + i < present ? load_first(source + (at + i) * stride + k, depth - k) : _mm256_setzero_ps();
            transpose_avx2(x);
            ptrdiff_t steps = depth - k < 8 ? depth - k : 8;
            for (ptrdiff_t i = 0; i < steps; i++) store_first(out + (k + i) * width + at, x[i], width - at);
        }
}

static const gemm_plan avx2_plan = {
    6, 16, 256, 192, 1536, micro_kernel_avx2, NULL, pack_along_avx2, pack_across_avx2};
static const gemm_plan avx512_plan = {
    avx512_rows, avx512_columns, 384, 280, 2048, micro_kernel_avx512, edge_kernel_avx512, pack_along_avx512,
    pack_across_avx512};
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

/// 8 rows of two 4-lane registers.
static void micro_kernel_neon(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate) {
    enum { rows = 8, columns = 8 };
    float32x4_t left[rows], right[rows];
    for (int i = 0; i < rows; i++) {
        left[i] = accumulate ? vld1q_f32(c + i * c_row) : vdupq_n_f32(0);
        right[i] = accumulate ? vld1q_f32(c + i * c_row + 4) : vdupq_n_f32(0);
    }
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, b += columns) {
        float32x4_t b_left = vld1q_f32(b), b_right = vld1q_f32(b + 4);
        _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) {
            left[i] = vfmaq_n_f32(left[i], b_left, a[i]);
            right[i] = vfmaq_n_f32(right[i], b_right, a[i]);
        }
    }
    for (int i = 0; i < rows; i++) {
        vst1q_f32(c + i * c_row, left[i]);
        vst1q_f32(c + i * c_row + 4, right[i]);
    }
}

static const gemm_plan neon_plan = {8, 8, 256, 128, 1024, micro_kernel_neon, NULL, NULL, NULL};
#endif

const gemm_plan *gemm_plan_for(kernels_instruction_set set) {
    switch (set) {
#if defined(__x86_64__)
    case KERNELS_AVX512: return &avx512_plan;
    case KERNELS_AVX2: return &avx2_plan;
#endif
#if defined(__aarch64__)
    case KERNELS_NEON: return &neon_plan;
#endif
    default: return &scalar_plan;
    }
}
