// Chooses each operation's version and cuts its work between threads.
#include "ops_internal.h"

#include <string.h>

#include "include/kernels_gemm.h"

#pragma STDC FP_CONTRACT OFF

const ops_table *ops_current(void) {
    switch (kernels_current_instruction_set()) {
    case KERNELS_AVX512: return ops_table_avx512();
    case KERNELS_AVX2: return ops_table_avx2();
    default: return ops_table_baseline();
    }
}

typedef struct split_context {
    ops_body body;
    const void *arguments;
    ptrdiff_t count, parts;
} split_context;

static void run_part(void *context, ptrdiff_t index) {
    const split_context *split = context;
    ptrdiff_t begin = split->count * index / split->parts, end = split->count * (index + 1) / split->parts;
    if (begin < end) split->body(split->arguments, begin, end);
}

void ops_split(int threads, ptrdiff_t count, double work_per_item, ops_body body, const void *arguments) {
    // Below some tens of microseconds of work, waking a thread costs more than it brings.
    if (threads <= 1 || (double)count * work_per_item < 100000) {
        if (count > 0) body(arguments, 0, count);
        return;
    }
    split_context split = {body, arguments, count, threads};
    kernels_parallel(threads, threads, run_part, &split);
}

void kernels_rmsnorm_forward(
    int threads, ptrdiff_t rows, ptrdiff_t width, float epsilon, const float *x, const float *gain, float *y,
    float *scale) {
    rmsnorm_arguments p = {
        .rows = rows, .width = width, .epsilon = epsilon, .x = x, .gain = gain, .y = y, .scale = scale};
    ops_split(threads, rows, (double)width, ops_current()->rmsnorm_forward, &p);
}

void kernels_rmsnorm_again(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *x, const float *gain, const float *scale, float *y) {
    rmsnorm_arguments p = {.rows = rows, .width = width, .x = x, .gain = gain, .known_scale = scale, .y = y};
    ops_split(threads, rows, (double)width, ops_current()->rmsnorm_again, &p);
}

void kernels_rmsnorm_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *x, const float *gain, const float *scale,
    const float *dy, float *dx, float *dgain) {
    rmsnorm_arguments p = {
        .rows = rows, .width = width, .x = x, .gain = gain, .known_scale = scale, .dy = dy, .dx = dx,
        .dgain = dgain};
    ops_split(threads, rows, 2 * (double)width, ops_current()->rmsnorm_backward_input, &p);
    ops_split(threads, width, (double)rows, ops_current()->rmsnorm_backward_gain, &p);
}

void kernels_head_norm_forward(
    int threads, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, float epsilon,
    const float *gain, float *x, float *raw, ptrdiff_t raw_stride, float *scale, ptrdiff_t scale_stride) {
    head_norm_arguments p = {
        .rows = rows, .heads = heads, .head_size = head_size, .stride = stride, .raw_stride = raw_stride,
        .scale_stride = scale_stride, .epsilon = epsilon, .gain = gain, .x = x, .raw = raw, .scale = scale};
    ops_split(threads, rows, (double)(heads * head_size), ops_current()->head_norm_forward, &p);
}

void kernels_head_norm_backward(
    int threads, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, const float *gain,
    const float *raw, ptrdiff_t raw_stride, const float *scale, ptrdiff_t scale_stride, float *dx, float *dgain) {
    head_norm_arguments p = {
        .rows = rows, .heads = heads, .head_size = head_size, .stride = stride, .raw_stride = raw_stride,
        .scale_stride = scale_stride, .gain = gain, .known_raw = raw, .known_scale = scale, .x = dx, .dgain = dgain};
    ops_split(threads, head_size, (double)(rows * heads), ops_current()->head_norm_backward_gain, &p);
    ops_split(threads, rows, 2 * (double)(heads * head_size), ops_current()->head_norm_backward_input, &p);
}

void kernels_add_bias(int threads, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const float *bias, float *x) {
    bias_arguments p = {.rows = rows, .width = width, .stride = stride, .bias = bias, .x = x};
    ops_split(threads, rows, (double)width, ops_current()->add_bias, &p);
}

void kernels_add_rows(int threads, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const float *x, float *sum) {
    bias_arguments p = {.rows = rows, .width = width, .stride = stride, .known_x = x, .sum = sum};
    ops_split(threads, width, (double)rows, ops_current()->add_rows, &p);
}

void kernels_rope(
    int threads, ptrdiff_t rows, ptrdiff_t length, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, float *x,
    const float *cosines, const float *sines, bool backward) {
    rope_arguments p = {length, heads, head_size, stride, x, cosines, sines, backward};
    ops_split(threads, rows, (double)(heads * head_size), ops_current()->rope, &p);
}

void kernels_swiglu_forward(int threads, ptrdiff_t rows, ptrdiff_t width, const float *gate_up, float *out) {
    swiglu_arguments p = {.width = width, .gate_up = gate_up, .out = out};
    ops_split(threads, rows, 4 * (double)width, ops_current()->swiglu_forward, &p);
}

void kernels_swiglu_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *gate_up, const float *dout, float *dgate_up) {
    swiglu_arguments p = {.width = width, .gate_up = gate_up, .dout = dout, .dgate_up = dgate_up};
    ops_split(threads, rows, 4 * (double)width, ops_current()->swiglu_backward, &p);
}

void kernels_cross_entropy(
    int threads, ptrdiff_t rows, ptrdiff_t classes, float *logits, const int32_t *targets, float gradient_scale,
    float z_loss, float *losses) {
    cross_entropy_arguments p = {classes, logits, targets, gradient_scale, z_loss, losses};
    ops_split(threads, rows, 4 * (double)classes, ops_current()->cross_entropy, &p);
}

void kernels_embedding_forward(ptrdiff_t rows, ptrdiff_t width, const float *table, const int32_t *tokens, float *out) {
    for (ptrdiff_t r = 0; r < rows; r++)
        memcpy(out + r * width, table + tokens[r] * width, (size_t)width * sizeof(float));
}

void kernels_embedding_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const int32_t *tokens, const float *dx, float *dtable) {
    embedding_arguments p = {rows, width, tokens, dx, dtable};
    ops_split(threads, width, (double)rows, ops_current()->embedding_backward, &p);
}

void kernels_adamw(
    int threads, ptrdiff_t n, kernels_adamw_step step, const float *gradient, float *parameters, float *first,
    float *second) {
    adamw_arguments p = {step, gradient, parameters, first, second};
    ops_split(threads, n, 2, ops_current()->adamw, &p);
}

void kernels_widen(int threads, ptrdiff_t n, const uint16_t *x, float *out) {
    narrow_arguments p = {.known_narrow = x, .wide = out};
    ops_split(threads, n, 0.5, ops_current()->widen, &p);
}

void kernels_narrow(int threads, ptrdiff_t n, const float *x, uint16_t *out) {
    narrow_arguments p = {.known_wide = x, .narrow = out};
    ops_split(threads, n, 0.5, ops_current()->narrow, &p);
}

void kernels_adamw_stored(
    int threads, ptrdiff_t n, kernels_adamw_step step, uint64_t key, const float *gradient, kernels_stored parameters,
    kernels_stored first, kernels_stored second) {
    adamw_stored_arguments p = {step, key, gradient, parameters, first, second};
    ops_split(threads, n, 4, ops_current()->adamw_stored, &p);
}

void kernels_momentum_stored(
    int threads, ptrdiff_t n, float scale, float mu, uint64_t key, const float *gradient, kernels_stored momentum,
    float *out) {
    moving_arguments p = {scale, mu, key, gradient, momentum, out};
    ops_split(threads, n, 2, ops_current()->momentum_stored, &p);
}

void kernels_move_stored(
    int threads, ptrdiff_t n, float keep, float rate, uint64_t key, const float *direction, kernels_stored parameters) {
    moving_arguments p = {.scale = rate, .mu = keep, .key = key, .direction = direction, .kept = parameters};
    ops_split(threads, n, 2, ops_current()->move_stored, &p);
}

float kernels_sum_squares(ptrdiff_t n, const float *x) {
    float result = 0;
    vector_arguments p = {.x = x, .out = &result};
    ops_current()->sum_squares(&p, 0, n);
    return result;
}

float kernels_sum(ptrdiff_t n, const float *x) {
    float result = 0;
    vector_arguments p = {.x = x, .out = &result};
    ops_current()->sum(&p, 0, n);
    return result;
}

void kernels_axpy(int threads, ptrdiff_t n, float a, const float *x, float *y) {
    vector_arguments p = {.a = a, .x = x, .out = y};
    ops_split(threads, n, 1, ops_current()->axpy, &p);
}

void kernels_add(int threads, ptrdiff_t n, const float *x, float *y) {
    vector_arguments p = {.x = x, .out = y};
    ops_split(threads, n, 1, ops_current()->add, &p);
}

void kernels_scale(int threads, ptrdiff_t n, float a, float *x) {
    vector_arguments p = {.a = a, .out = x};
    ops_split(threads, n, 1, ops_current()->scale, &p);
}

void kernels_subtract(int threads, ptrdiff_t n, const float *x, const float *y, float *out) {
    vector_arguments p = {.x = x, .y = y, .out = out};
    ops_split(threads, n, 1, ops_current()->subtract, &p);
}

void kernels_divide_by_weights(int threads, ptrdiff_t n, const float *weights, float *sum) {
    vector_arguments p = {.x = weights, .out = sum};
    ops_split(threads, n, 1, ops_current()->divide_by_weights, &p);
}

void kernels_outer_step(
    int threads, ptrdiff_t n, float rate, float mu, const float *delta, float *momentum, float *parameters) {
    vector_arguments p = {.a = rate, .mu = mu, .x = delta, .momentum = momentum, .out = parameters};
    ops_split(threads, n, 2, ops_current()->outer_step, &p);
}

bool kernels_all_finite(ptrdiff_t n, const float *x) {
    float bad = 0;
    vector_arguments p = {.x = x, .out = &bad};
    ops_current()->all_finite(&p, 0, n);
    return bad == 0;
}
