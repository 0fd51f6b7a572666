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
    size_t lane = 0;
    for (size_t tile = 0; tile * KERNELS_CODEC_TILE < n; tile++) {
        size_t m = codec_least(n - tile * KERNELS_CODEC_TILE, KERNELS_CODEC_TILE);
        const uint16_t *entry = entries + tile * k, *end = entry + kernels_codec_sparse_tile_entries(m, k);
        if (*entry == CODEC_EMPTY) continue;
        for (; entry < end; entry++) {
            double value = (double)levels[4 * tile + (*entry >> 12)];
            partial[lane++ % 16] += value * value;
        }
    }
    return folded(partial);
}
