// Low-rank codec (PowerSGD, Vogels et al. 2019, arXiv 1905.13727, algorithm 1): one step of subspace iteration. Every sum
// is element by element in the order written or goes to sixteen partial sums, so it is the same on every machine and
// for every width of vectors.
#pragma STDC FP_CONTRACT OFF
#include "codec_sparse.h"

#include <math.h>

static float folded(float *partial) {
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) partial[j] = partial[j] + partial[j + half];
    return partial[0];
}

/// Σ a · b: product i to partial sum i mod 16, folded 16 → 8 → 4 → 2 → 1.
static float dot(const float *restrict a, const float *restrict b, size_t n) {
    float partial[16] = {0};
    size_t whole = n & ~(size_t)15;
    for (size_t i = 0; i < whole; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            float product = a[i + j] * b[i + j];
            partial[j] = partial[j] + product;
        }
    }
    for (size_t i = whole; i < n; i++) {
        float product = a[i] * b[i];
        partial[i - whole] = partial[i - whole] + product;
    }
    return folded(partial);
}

/// into += factor · values.
static void add_scaled(float *restrict into, const float *restrict values, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float product = factor * values[i];
        into[i] = into[i] + product;
    }
}

void kernels_codec_lowrank_orthonormalise(float *vectors, size_t rank, size_t n) {
    for (size_t t = 0; t < rank; t++) {
        float *vector = vectors + t * n;
        float before = sqrtf(dot(vector, vector, n));
        // Twice is enough (Giraud et al. 2005): what rounding leaves of the earlier ones the first time goes the second.
        for (int pass = 0; pass < 2; pass++) {
            for (size_t s = 0; s < t; s++)
                add_scaled(vector, vectors + s * n, -dot(vector, vectors + s * n, n), n);
        }
        float norm = sqrtf(dot(vector, vector, n));
        // What lies in the span of the earlier ones is noise, and is dropped.
        float inverse = norm > 0x1p-100f && norm > before * 0x1p-20f ? 1 / norm : 0;
        for (size_t i = 0; i < n; i++) vector[i] = vector[i] * inverse;
    }
}

void kernels_codec_lowrank_project(
    const float *matrix, size_t rows, size_t columns, const float *right, size_t rank, float *left) {
    for (size_t i = 0; i < rows; i++)
        for (size_t t = 0; t < rank; t++) left[t * rows + i] = dot(matrix + i * columns, right + t * columns, columns);
}

void kernels_codec_lowrank_project_back(
    const float *matrix, size_t rows, size_t columns, const float *left, size_t rank, float *right) {
    memset(right, 0, 4 * rank * columns);
    for (size_t i = 0; i < rows; i++)
        for (size_t t = 0; t < rank; t++)
            add_scaled(right + t * columns, matrix + i * columns, left[t * rows + i], columns);
}

void kernels_codec_lowrank_expand(
    const float *left, const float *right, size_t rows, size_t columns, size_t rank, float *into) {
    memset(into, 0, 4 * rows * columns);
    for (size_t i = 0; i < rows; i++)
        for (size_t t = 0; t < rank; t++)
            add_scaled(into + i * columns, right + t * columns, left[t * rows + i], columns);
}
