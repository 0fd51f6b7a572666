// Few rows against weights read once, and attention against kept keys and values.
#include "include/kernels_decode.h"

#include <stdio.h>
#include <stdlib.h>

#include "include/kernels_gemm.h"
#include "ops_internal.h"

#pragma STDC FP_CONTRACT OFF

enum { block = 64 };

void kernels_matvec(
    int threads, ptrdiff_t rows, ptrdiff_t outputs, ptrdiff_t inputs, const float *weight, const float *x, float *y,
    bool accumulate) {
    matvec_arguments p = {
        .rows = rows, .inputs = inputs, .outputs = outputs, .weight = weight, .x = x, .y = y, .accumulate = accumulate};
    ops_split(threads, outputs, (double)(rows * inputs), ops_current()->matvec, &p);
}

void kernels_matvec_bf16(
    int threads, ptrdiff_t rows, ptrdiff_t outputs, ptrdiff_t inputs, const uint16_t *weight, const float *x, float *y,
    bool accumulate) {
    matvec_arguments p = {
        .rows = rows, .inputs = inputs, .outputs = outputs, .halves = weight, .x = x, .y = y, .accumulate = accumulate};
    ops_split(threads, outputs, (double)(rows * inputs), ops_current()->matvec, &p);
}

void kernels_widen_bf16(ptrdiff_t n, const uint16_t *x, float *out) {
    uint32_t *bits = (uint32_t *)(void *)out;
    for (ptrdiff_t i = 0; i < n; i++) bits[i] = (uint32_t)x[i] << 16;
}

typedef struct cached_context {
    kernels_cached_attention shape;
    const float *q, *keys, *values;
    float *out;
    float scale;
    const ops_table *ops;
} cached_context;

/// One thread's scores, kept between calls.
static float *scores_buffer(ptrdiff_t count) {
    static _Thread_local float *buffer;
    static _Thread_local ptrdiff_t capacity;
    if (capacity < count) {
        free(buffer);
        buffer = aligned_alloc(64, ((size_t)count * sizeof(float) + 63) / 64 * 64);
        if (buffer == NULL) {
            fprintf(stderr, "out of memory: %zu bytes for attention scores\n", (size_t)count * sizeof(float));
            abort();
        }
        capacity = count;
    }
    return buffer;
}

static void attend_head(void *context, ptrdiff_t head) {
    const cached_context *p = context;
    kernels_cached_attention s = p->shape;
    ptrdiff_t size = s.head_size, kv_head = head / (s.heads / s.kv_heads), width = s.heads * size;
    const float *q = p->q + head * size;
    const float *keys = p->keys + kv_head * s.capacity * size, *values = p->values + kv_head * s.capacity * size;
    float *out = p->out + head * size;
    if (s.rows == 1) {
        ptrdiff_t seen = s.position + 1;
        float *scores = scores_buffer(seen);
        matvec_arguments product = {
            .rows = 1, .inputs = size, .outputs = seen, .weight = keys, .x = q, .y = scores, .accumulate = false};
        p->ops->matvec(&product, 0, seen);
        softmax_arguments softmax = {.stride = 0, .keys = seen, .scale = p->scale, .scores = scores};
        p->ops->softmax_forward(&softmax, seen - 1, seen);
        weighted_rows_arguments mean = {.rows = seen, .width = size, .shares = scores, .values = values, .out = out};
        p->ops->weighted_rows(&mean, 0, size);
        return;
    }
    for (ptrdiff_t t = 0; t < s.rows; t += block) {
        ptrdiff_t queries = block < s.rows - t ? block : s.rows - t, first = s.position + t, seen = first + queries;
        float *scores = scores_buffer(queries * seen);
        kernels_sgemm(queries, seen, size, q + t * s.q_stride, s.q_stride, 1, keys, 1, size, scores, seen, false, 1);
        for (ptrdiff_t r = 0; r < queries; r++) {
            // Row first + r sees as many and one; a stride of 0 makes it the only row.
            softmax_arguments softmax = {
                .stride = 0, .keys = seen, .scale = p->scale, .scores = scores + r * seen};
            p->ops->softmax_forward(&softmax, first + r, first + r + 1);
        }
        kernels_sgemm(queries, size, seen, scores, seen, 1, values, size, 1, out + t * width, width, false, 1);
    }
}

void kernels_attend_cached(
    int threads, kernels_cached_attention shape, const float *q, const float *keys, const float *values, float *out) {
    cached_context context = {
        .shape = shape, .q = q, .keys = keys, .values = values, .out = out,
        .scale = (float)(1.0 / __builtin_elementwise_sqrt((double)shape.head_size)), .ops = ops_current()};
    double work = (double)(shape.rows * shape.heads) * (double)((shape.position + shape.rows) * shape.head_size);
    kernels_parallel(work < 1e6 ? 1 : threads, shape.heads, attend_head, &context);
}
