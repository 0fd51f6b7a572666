// What generating needs besides training's operations: few rows at a time, against keys and values that are kept. Fixed
// order on every machine, by the rules of kernels_ops.h.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// y[rows, outputs] (+)= x[rows, inputs] · weight[outputs, inputs]ᵀ, each element one sum over 16 lanes. For few rows: the
/// weights are read once, where they lie.
void kernels_matvec(
    int threads, ptrdiff_t rows, ptrdiff_t outputs, ptrdiff_t inputs, const float *weight, const float *x, float *y,
    bool accumulate);
/// Likewise with weights in bfloat16.
void kernels_matvec_bf16(
    int threads, ptrdiff_t rows, ptrdiff_t outputs, ptrdiff_t inputs, const uint16_t *weight, const float *x, float *y,
    bool accumulate);
/// Values of bfloat16.
void kernels_widen_bf16(ptrdiff_t n, const uint16_t *x, float *out);

/// Attention of new rows against all that came before. Row r is at `position` + r and sees `position` + r + 1 keys.
typedef struct kernels_cached_attention {
    ptrdiff_t rows, position, heads, kv_heads, head_size;
    /// Keys and values: [kv_heads, capacity, head_size].
    ptrdiff_t capacity;
    /// Between the rows of q.
    ptrdiff_t q_stride;
} kernels_cached_attention;
/// out: [rows, heads·head_size].
void kernels_attend_cached(
    int threads, kernels_cached_attention shape, const float *q, const float *keys, const float *values, float *out);
