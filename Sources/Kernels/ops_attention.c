// Causal attention as matrix products over blocks of 64 query rows against the prefix each block can see. One task owns
// a head (forward) or a group of heads that share keys and values (backward).
#include "ops_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "include/kernels_gemm.h"

#pragma STDC FP_CONTRACT OFF

enum { block = 64 };

typedef struct attention_context {
    kernels_attention shape;
    const float *qkv, *known_probabilities, *dout;
    float *probabilities, *out, *dqkv;
    float scale;
    const ops_table *ops;
} attention_context;

static ptrdiff_t smaller(ptrdiff_t x, ptrdiff_t y) { return x < y ? x : y; }

static float score_scale(ptrdiff_t head_size) {
    return (float)(1.0 / __builtin_elementwise_sqrt((double)head_size));
}

/// One where the whole is too little for waking others.
static int useful_threads(int threads, kernels_attention shape) {
    double rows = (double)(shape.sequences * shape.heads * shape.length);
    return rows * (double)(shape.length * shape.head_size) < 1e6 ? 1 : threads;
}

static void forward_head(void *context, ptrdiff_t index) {
    const attention_context *p = context;
    ptrdiff_t heads = p->shape.heads, kv_heads = p->shape.kv_heads, size = p->shape.head_size, length = p->shape.length;
    ptrdiff_t sequence = index / heads, head = index % heads, kv_head = head / (heads / kv_heads);
    ptrdiff_t stride = (heads + 2 * kv_heads) * size, width = heads * size;
    const float *rows = p->qkv + sequence * length * stride;
    const float *q = rows + head * size, *k = rows + (heads + kv_head) * size, *v = k + kv_heads * size;
    float *probabilities = p->probabilities + index * length * length;
    float *out = p->out + sequence * length * width + head * size;
    softmax_arguments softmax = {.stride = length, .filled = length, .scale = p->scale, .scores = probabilities};
    for (ptrdiff_t t = 0; t < length; t += block) {
        ptrdiff_t queries = smaller(block, length - t), seen = t + queries;
        float *scores = probabilities + t * length;
        kernels_sgemm(queries, seen, size, q + t * stride, stride, 1, k, 1, stride, scores, length, false, 1);
        p->ops->softmax_forward(&softmax, t, seen);
        kernels_sgemm(queries, size, seen, scores, length, 1, v, stride, 1, out + t * width, width, false, 1);
    }
}

void kernels_attention_forward(
    int threads, kernels_attention shape, const float *qkv, float *probabilities, float *out) {
    attention_context context = {
        .shape = shape, .qkv = qkv, .probabilities = probabilities, .out = out, .scale = score_scale(shape.head_size),
        .ops = ops_current()};
    ptrdiff_t heads = shape.sequences * shape.heads;
    kernels_parallel(useful_threads(threads, shape), heads, forward_head, &context);
}

/// One thread's gradient of the scores [length, length], kept between calls.
static float *score_gradient(ptrdiff_t count) {
    static _Thread_local float *buffer;
    static _Thread_local ptrdiff_t capacity;
    if (capacity < count) {
        free(buffer);
        buffer = aligned_alloc(64, ((size_t)count * sizeof(float) + 63) / 64 * 64);
        if (buffer == NULL) {
            size_t bytes = (size_t)count * sizeof(float);
            fprintf(stderr, "out of memory: %zu bytes for the gradient of attention scores\n", bytes);
            abort();
        }
        capacity = count;
    }
    return buffer;
}

static void backward_group(void *context, ptrdiff_t index) {
    const attention_context *p = context;
    ptrdiff_t heads = p->shape.heads, kv_heads = p->shape.kv_heads, size = p->shape.head_size, length = p->shape.length;
    ptrdiff_t sequence = index / kv_heads, kv_head = index % kv_heads, group = heads / kv_heads;
    ptrdiff_t stride = (heads + 2 * kv_heads) * size, width = heads * size;
    ptrdiff_t k_at = sequence * length * stride + (heads + kv_head) * size, v_at = k_at + kv_heads * size;
    const float *k = p->qkv + k_at, *v = p->qkv + v_at;
    float *dk = p->dqkv + k_at, *dv = p->dqkv + v_at;
    float *dscores = score_gradient(length * length);
    // Heads of a group in order: the gradients of their common keys and values are one chain each.
    for (ptrdiff_t member = 0; member < group; member++) {
        ptrdiff_t head = kv_head * group + member, q_at = sequence * length * stride + head * size;
        const float *q = p->qkv + q_at, *dout = p->dout + sequence * length * width + head * size;
        const float *probabilities = p->known_probabilities + (sequence * heads + head) * length * length;
        float *dq = p->dqkv + q_at;
        softmax_arguments softmax = {
            .stride = length, .filled = length, .scale = p->scale, .probabilities = probabilities, .scores = dscores};
        for (ptrdiff_t t = 0; t < length; t += block) {
            ptrdiff_t queries = smaller(block, length - t), seen = t + queries;
            float *rows = dscores + t * length;
            kernels_sgemm(queries, seen, size, dout + t * width, width, 1, v, 1, stride, rows, length, false, 1);
            p->ops->softmax_backward(&softmax, t, seen);
            kernels_sgemm(queries, size, seen, rows, length, 1, k, stride, 1, dq + t * stride, stride, false, 1);
        }
        for (ptrdiff_t t = 0; t < length; t += block) {
            // Keys t …: seen by the queries from t on.
            ptrdiff_t keys = smaller(block, length - t), corner = t * length + t, later = length - t;
            kernels_sgemm(
                keys, size, later, probabilities + corner, 1, length, dout + t * width, width, 1, dv + t * stride,
                stride, member > 0, 1);
            kernels_sgemm(
                keys, size, later, dscores + corner, 1, length, q + t * stride, stride, 1, dk + t * stride,
                stride, member > 0, 1);
        }
    }
}

void kernels_attention_backward(
    int threads, kernels_attention shape, const float *qkv, const float *probabilities, const float *dout,
    float *dqkv) {
    attention_context context = {
        .shape = shape, .qkv = qkv, .known_probabilities = probabilities, .dout = dout, .dqkv = dqkv,
        .scale = score_scale(shape.head_size), .ops = ops_current()};
    ptrdiff_t groups = shape.sequences * shape.kv_heads;
    kernels_parallel(useful_threads(threads, shape), groups, backward_group, &context);
}
