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

static const gemm_plan scalar_plan = {4, 8, 256, 128, 768, micro_kernel_scalar, NULL};

#if defined(__x86_64__)
#include <immintrin.h>

#define UNROLL _Pragma("clang loop unroll(full)")

/// 14 rows of two 16-lane registers: 28 of the 32 registers hold sums.
__attribute__((target("avx512f,avx512vl,avx2,fma"))) static void micro_kernel_avx512(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate) {
    enum { rows = 14, columns = 32, ahead = 8 * columns };
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

/// Transposes eight source rows at a time through registers, 8×8; `rows` is a multiple of 8.
__attribute__((target("avx2"))) static void pack_transposed_avx2(
    ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t rows, float *out) {
    for (ptrdiff_t row = 0; row < rows; row += 8) {
        ptrdiff_t k = 0;
        for (; k + 8 <= depth; k += 8) {
            const float *from = source + row * stride + k;
            __m256 r[8], t[8], u[8];
            UNROLL for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * stride);
            UNROLL for (int i = 0; i < 4; i++) {
                t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            UNROLL for (int half = 0; half < 8; half += 4) {
                u[half] = _mm256_shuffle_ps(t[half], t[half + 2], 0x44);
                u[half + 1] = _mm256_shuffle_ps(t[half], t[half + 2], 0xEE);
                u[half + 2] = _mm256_shuffle_ps(t[half + 1], t[half + 3], 0x44);
                u[half + 3] = _mm256_shuffle_ps(t[half + 1], t[half + 3], 0xEE);
            }
            float *to = out + k * rows + row;
            UNROLL for (int i = 0; i < 4; i++) {
                _mm256_storeu_ps(to + i * rows, _mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
                _mm256_storeu_ps(to + (i + 4) * rows, _mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
            }
        }
        for (; k < depth; k++)
            for (int i = 0; i < 8; i++) out[k * rows + row + i] = source[(row + i) * stride + k];
    }
}

static const gemm_plan avx2_plan = {6, 16, 256, 192, 1536, micro_kernel_avx2, pack_transposed_avx2};
static const gemm_plan avx512_plan = {14, 32, 384, 280, 2048, micro_kernel_avx512, pack_transposed_avx2};
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

static const gemm_plan neon_plan = {8, 8, 256, 128, 1024, micro_kernel_neon, NULL};
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
