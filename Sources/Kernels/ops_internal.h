// The arguments of each operation and the table of its versions, one for each instruction set. Not exported.
#pragma once
#include <stddef.h>

#include "include/kernels_ops.h"

/// An operation over items begin ..< end (rows, columns or elements) of its arguments.
typedef void (*ops_body)(const void *arguments, ptrdiff_t begin, ptrdiff_t end);

typedef struct ops_table {
    ops_body rmsnorm_forward, rmsnorm_again, rmsnorm_backward_input, rmsnorm_backward_gain, head_norm_forward,
        head_norm_backward_input, head_norm_backward_gain, add_bias, add_rows, rope, swiglu_forward, swiglu_backward,
        softmax_forward, softmax_backward, cross_entropy, embedding_backward, adamw, adamw_stored, momentum_stored, move_stored, widen, narrow,
        sum_squares, sum, axpy, add, scale,
        subtract, divide_by_weights, outer_step, all_finite, matvec, weighted_rows;
} ops_table;

/// The table of the instruction set in use.
const ops_table *ops_current(void);
const ops_table *ops_table_baseline(void);
const ops_table *ops_table_avx2(void);
const ops_table *ops_table_avx512(void);

/// Runs `body` over `count` items, cut between threads where there is enough to do.
void ops_split(int threads, ptrdiff_t count, double work_per_item, ops_body body, const void *arguments);

typedef struct rmsnorm_arguments {
    ptrdiff_t rows, width;
    float epsilon;
    const float *x, *gain, *dy, *known_scale;
    float *y, *scale, *dx, *dgain;
} rmsnorm_arguments;

typedef struct rope_arguments {
    ptrdiff_t length, heads, head_size, stride;
    float *x;
    const float *cosines, *sines;
    bool backward;
} rope_arguments;

typedef struct swiglu_arguments {
    ptrdiff_t width;
    const float *gate_up, *dout;
    float *out, *dgate_up;
} swiglu_arguments;

typedef struct head_norm_arguments {
    ptrdiff_t rows, heads, head_size, stride, raw_stride, scale_stride;
    float epsilon;
    const float *gain, *known_raw, *known_scale;
    float *x, *raw, *scale, *dgain;
} head_norm_arguments;

typedef struct bias_arguments {
    ptrdiff_t rows, width, stride;
    const float *bias, *known_x;
    float *x, *sum;
} bias_arguments;

/// Rows begin ..< end of a block of scores whose row 0 is position `row` and whose column 0 is key `key`: position p sees keys
/// first_seen (or `key`) … p; the others of `keys` columns are set to zero.
typedef struct softmax_arguments {
    ptrdiff_t stride, row, key, keys;
    const int32_t *first_seen;
    float scale;
    const float *probabilities;
    float *scores;
} softmax_arguments;

typedef struct cross_entropy_arguments {
    ptrdiff_t classes;
    float *logits;
    const int32_t *targets;
    float gradient_scale, z_loss;
    float *losses;
} cross_entropy_arguments;

typedef struct embedding_arguments {
    ptrdiff_t rows, width;
    const int32_t *tokens;
    const float *dx;
    float *dtable;
} embedding_arguments;

typedef struct adamw_arguments {
    kernels_adamw_step step;
    const float *gradient;
    float *parameters, *first, *second;
} adamw_arguments;

typedef struct adamw_stored_arguments {
    kernels_adamw_step step;
    uint64_t key;
    const float *gradient;
    kernels_stored parameters, first, second;
} adamw_stored_arguments;

typedef struct moving_arguments {
    float scale, mu;
    uint64_t key;
    const float *direction;
    kernels_stored kept;
    float *out;
} moving_arguments;

typedef struct narrow_arguments {
    const float *known_wide;
    const uint16_t *known_narrow;
    float *wide;
    uint16_t *narrow;
} narrow_arguments;

typedef struct vector_arguments {
    float a, mu;
    const float *x, *y;
    float *out, *momentum;
} vector_arguments;

/// y[r, o] (+)= weight[o] · x[r]; the weight is `weight`, or `halves` in bfloat16.
typedef struct matvec_arguments {
    ptrdiff_t rows, inputs, outputs;
    const float *weight;
    const uint16_t *halves;
    const float *x;
    float *y;
    bool accumulate;
} matvec_arguments;

/// out[i] = Σ shares[r] · values[r, i], rows in order.
typedef struct weighted_rows_arguments {
    ptrdiff_t rows, width;
    const float *shares, *values;
    float *out;
} weighted_rows_arguments;
