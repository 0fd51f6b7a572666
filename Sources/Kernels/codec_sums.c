// Small sums and quotients around the codecs; memory-bound already as the compiler makes them.
#pragma STDC FP_CONTRACT OFF
#include "codec_sparse.h"

void kernels_codec_divide(float *values, size_t n, float divisor) {
    for (size_t i = 0; i < n; i++) values[i] = values[i] / divisor;
}

static double folded(double *partial) {
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) partial[j] = partial[j] + partial[j + half];
    return partial[0];
}

double kernels_codec_sum_of_squares(const float *values, size_t n) {
    double partial[16] = {0};
    for (size_t i = 0; i < n; i += 16) {
        size_t end = codec_least(16, n - i);
        for (size_t j = 0; j < end; j++) partial[j] += (double)values[i + j] * (double)values[i + j];
    }
    return folded(partial);
}

double kernels_codec_sparse_sum_of_squares(const uint16_t *entries, const float *levels, size_t n, size_t k) {
    double partial[16] = {0};
    size_t count = kernels_codec_sparse_entries(n, k), in_group = KERNELS_CODEC_GROUP * k;
    for (size_t i = 0; i < count; i++) {
        double value = (double)levels[i / in_group * 4 + (entries[i] >> 12)];
        partial[i % 16] += value * value;
    }
    return folded(partial);
}
