// Causal attention as matrix products over blocks of 64 query rows against the keys each block can see. Nothing of size
// length² is kept: backward computes a block's probabilities again, which are the same bits (the recomputation of
// FlashAttention, 2205.14135, without its rescaling: a block's scores [64, length] fit the cache). One task owns a head
// (forward) or a group of heads that share keys and values (backward).
#include "ops_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/kernels_gemm.h"

#pragma STDC FP_CONTRACT OFF

enum { block = 64 };

typedef struct attention_context {
    kernels_attention shape;
    const float *qkv, *dout;
    float *out, *dqkv;
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

/// One thread's scores of a block and their gradient, [block, ≥ length] each, kept between calls.
static float *scores_buffer(ptrdiff_t count) {
    static _Thread_local float *buffer;
    static _Thread_local ptrdiff_t capacity;
    if (capacity < count) {
        free(buffer);
        buffer = aligned_alloc(64, ((size_t)count * sizeof(float) + 63) / 64 * 64);
        if (buffer == NULL) {
            size_t bytes = (size_t)count * sizeof(float);
            fprintf(stderr, "out of memory: %zu bytes for the scores of attention\n", bytes);
            abort();
        }
        capacity = count;
    }
    return buffer;
}

/// A block of query rows of one head, and the keys that any of them sees.
typedef struct query_block {
    /// First row and count, within the sequence.
    ptrdiff_t row, rows;
    /// First key and count.
    ptrdiff_t key, keys;
    /// Of the scores: not a power of two, so that rows do not share cache sets.
    ptrdiff_t stride;
    const int32_t *first_seen;
} query_block;

static query_block block_at(const kernels_attention *shape, ptrdiff_t sequence, ptrdiff_t row) {
    query_block b = {.row = row, .rows = smaller(block, shape->length - row)};
    if (shape->first_seen != NULL) {
        b.first_seen = shape->first_seen + sequence * shape->length + row;
        b.key = b.first_seen[0];
    }
    b.keys = row + b.rows - b.key;
    b.stride = (b.keys + 31) / 16 * 16;
    return b;
}

/// scores = softmax(q · kᵀ · scale) of a block, zero where a key is not seen.
static void probabilities(
    const attention_context *p, const query_block *b, const float *q, const float *k, ptrdiff_t stride, float *scores) {
    ptrdiff_t size = p->shape.head_size;
    kernels_sgemm(
        b->rows, b->keys, size, q + b->row * stride, stride, 1, k + b->key * stride, 1, stride, scores, b->stride, false,
        1);
    softmax_arguments softmax = {
        .stride = b->stride, .row = b->row, .key = b->key, .keys = b->keys, .first_seen = b->first_seen,
        .scale = p->scale, .scores = scores};
    p->ops->softmax_forward(&softmax, 0, b->rows);
}

static void forward_head(void *context, ptrdiff_t index) {
    const attention_context *p = context;
    ptrdiff_t heads = p->shape.heads, kv_heads = p->shape.kv_heads, size = p->shape.head_size, length = p->shape.length;
    ptrdiff_t sequence = index / heads, head = index % heads, kv_head = head / (heads / kv_heads);
    ptrdiff_t stride = (heads + 2 * kv_heads) * size, width = heads * size;
    const float *rows = p->qkv + sequence * length * stride;
    const float *q = rows + head * size, *k = rows + (heads + kv_head) * size, *v = k + kv_heads * size;
    float *out = p->out + sequence * length * width + head * size;
    float *scores = scores_buffer(block * (length + 31));
    for (ptrdiff_t t = 0; t < length; t += block) {
        query_block b = block_at(&p->shape, sequence, t);
        probabilities(p, &b, q, k, stride, scores);
        kernels_sgemm(
            b.rows, size, b.keys, scores, b.stride, 1, v + b.key * stride, stride, 1, out + t * width, width, false, 1);
    }
}

void kernels_attention_forward(int threads, kernels_attention shape, const float *qkv, float *out) {
    attention_context context = {
        .shape = shape, .qkv = qkv, .out = out, .scale = score_scale(shape.head_size), .ops = ops_current()};
    ptrdiff_t heads = shape.sequences * shape.heads;
    kernels_parallel(useful_threads(threads, shape), heads, forward_head, &context);
}

static void backward_group(void *context, ptrdiff_t index) {
    const attention_context *p = context;
    ptrdiff_t heads = p->shape.heads, kv_heads = p->shape.kv_heads, size = p->shape.head_size, length = p->shape.length;
    ptrdiff_t sequence = index / kv_heads, kv_head = index % kv_heads, group = heads / kv_heads;
    ptrdiff_t stride = (heads + 2 * kv_heads) * size, width = heads * size;
    ptrdiff_t k_at = sequence * length * stride + (heads + kv_head) * size, v_at = k_at + kv_heads * size;
    const float *k = p->qkv + k_at, *v = p->qkv + v_at;
    float *dk = p->dqkv + k_at, *dv = p->dqkv + v_at;
    float *known = scores_buffer(2 * block * (length + 31)), *dscores = known + block * (length + 31);
    for (ptrdiff_t t = 0; t < length; t++) {
        memset(dk + t * stride, 0, (size_t)size * sizeof(float));
        memset(dv + t * stride, 0, (size_t)size * sizeof(float));
    }
    // Heads of a group in order, rows in order: the gradients of their common keys and values are one chain each.
    for (ptrdiff_t member = 0; member < group; member++) {
        ptrdiff_t head = kv_head * group + member, q_at = sequence * length * stride + head * size;
        const float *q = p->qkv + q_at, *dout = p->dout + sequence * length * width + head * size;
        float *dq = p->dqkv + q_at;
        for (ptrdiff_t t = 0; t < length; t += block) {
            query_block b = block_at(&p->shape, sequence, t);
            ptrdiff_t seen = b.key * stride;
            probabilities(p, &b, q, k, stride, known);
            kernels_sgemm(
                b.rows, b.keys, size, dout + t * width, width, 1, v + seen, 1, stride, dscores, b.stride, false, 1);
            kernels_sgemm(
                b.keys, size, b.rows, known, 1, b.stride, dout + t * width, width, 1, dv + seen, stride, true, 1);
            softmax_arguments softmax = {
                .stride = b.stride, .row = b.row, .key = b.key, .keys = b.keys, .first_seen = b.first_seen,
                .scale = p->scale, .probabilities = known, .scores = dscores};
            p->ops->softmax_backward(&softmax, 0, b.rows);
            kernels_sgemm(
                b.rows, size, b.keys, dscores, b.stride, 1, k + seen, stride, 1, dq + t * stride, stride, false, 1);
            kernels_sgemm(
                b.keys, size, b.rows, dscores, 1, b.stride, q + t * stride, stride, 1, dk + seen, stride, true, 1);
        }
    }
}

void kernels_attention_backward(
    int threads, kernels_attention shape, const float *qkv, const float *dout, float *dqkv) {
    attention_context context = {
        .shape = shape, .qkv = qkv, .dout = dout, .dqkv = dqkv, .scale = score_scale(shape.head_size),
        .ops = ops_current()};
    ptrdiff_t groups = shape.sequences * shape.kv_heads;
    kernels_parallel(useful_threads(threads, shape), groups, backward_group, &context);
}
