// Prints a digest of every codec's messages, feedback, decoded values and means on fixed inputs, to be compared between
// machines and instruction sets. Built and run by cross_check.sh.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels_codec.h"

static uint64_t digest = 0xcbf29ce484222325u;  // FNV-1a
static uint64_t state = 88172645463325252u;    // xorshift64

static void absorb(const void *values, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) digest = (digest ^ ((const unsigned char *)values)[i]) * 0x100000001b3u;
}

/// Numbers of very different magnitudes, one in sixteen of them 0.
static void draw(float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        float unit = (float)(state >> 40) / 8388608.0f - 1.0f;
        values[i] = (state & 15) == 0 ? 0 : unit * (float)(1 << (state >> 8 & 15)) * 1e-3f;
    }
}

typedef void encoder(const float *, float *, size_t, uint8_t *);
typedef void decoder(const uint8_t *, size_t, float *);
typedef void averager(const uint8_t *const *, const float *, size_t, size_t, float, float *);
enum { MOST = 140000, CONTRIBUTORS = 3 };
static float values[MOST], feedback[MOST], decoded[MOST];
static uint8_t messages[CONTRIBUTORS][8 * MOST + 64];
static const size_t counts[] = {1, 17, 255, 4097, 70001, 139999};
static const float weights[CONTRIBUTORS] = {1, 2.5f, 0.7f};

static void dense(const char *name, encoder *encode, decoder *decode, averager *mean, size_t bits) {
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        size_t count = counts[n], scales = bits < 16 ? 4 * ((count + 255) / 256) : 0;
        memset(feedback, 0, sizeof feedback);
        for (int c = 0; c < CONTRIBUTORS; c++) {
            draw(values, count);
            encode(values, c ? feedback : 0, count, messages[c]);
            absorb(messages[c], scales + (count * bits + 7) / 8);
        }
        absorb(feedback, 4 * count);
        decode(messages[2], count, decoded);
        absorb(decoded, 4 * count);
        const uint8_t *all[CONTRIBUTORS] = {messages[0], messages[1], messages[2]};
        if (mean) mean(all, weights, CONTRIBUTORS, count, 4.2f, decoded);
        absorb(decoded, 4 * count);
    }
    printf("%-14s %016llx\n", name, (unsigned long long)digest);
}

static void sparse(const char *name, int kind) {
    static uint16_t entries[CONTRIBUTORS][MOST];
    static float levels[CONTRIBUTORS][4 * MOST / 4096 + 8];
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        for (size_t k = 1; k <= 1024; k *= 4) {
            size_t count = counts[n];
            memset(feedback, 0, sizeof feedback);
            for (int c = 0; c < CONTRIBUTORS; c++) {
                draw(values, count);
                size_t bytes = kernels_codec_sparse_encode(values, feedback, count, k, kind, 0.7f, messages[c]);
                absorb(messages[c], bytes);
                struct kernels_codec_problem problem =
                    kernels_codec_sparse_parse(messages[c], bytes, count, k, kind, entries[c], levels[c]);
                if (problem.status != KERNELS_CODEC_OK) printf("%s: status %d\n", name, problem.status);
            }
            absorb(feedback, 4 * count);
            const uint16_t *all[CONTRIBUTORS] = {entries[0], entries[1], entries[2]};
            const float *every[CONTRIBUTORS] = {levels[0], levels[1], levels[2]};
            kernels_codec_sparse_mean(all, every, weights, CONTRIBUTORS, count, k, decoded);
            absorb(decoded, 4 * count);
        }
    }
    printf("%-14s %016llx\n", name, (unsigned long long)digest);
}

static void lowrank(void) {
    enum { rows = 97, columns = 211, rank = 4 };
    static float left[rank * rows], right[rank * columns];
    draw(values, rows * columns);
    draw(right, rank * columns);
    for (int step = 0; step < 2; step++) {
        kernels_codec_lowrank_project(values, rows, columns, right, rank, left);
        kernels_codec_lowrank_orthonormalise(left, rank, rows);
        kernels_codec_lowrank_project_back(values, rows, columns, left, rank, right);
    }
    kernels_codec_lowrank_expand(left, right, rows, columns, rank, decoded);
    absorb(left, sizeof left);
    absorb(right, sizeof right);
    absorb(decoded, 4 * rows * columns);
    printf("%-14s %016llx\n", "lowrank", (unsigned long long)digest);
}

int main(int count, char **arguments) {
    if (count > 1 && !kernels_codec_set_instruction_set(atoi(arguments[1]))) return 1;
    dense("fp32", kernels_codec_fp32_encode, kernels_codec_fp32_decode, 0, 32);
    dense("bf16", kernels_codec_bf16_encode, kernels_codec_bf16_decode, 0, 16);
    dense("fp16", kernels_codec_fp16_encode, kernels_codec_fp16_decode, 0, 16);
    dense("int8", kernels_codec_int8_encode, kernels_codec_int8_decode, kernels_codec_int8_mean, 8);
    dense("int4", kernels_codec_int4_encode, kernels_codec_int4_decode, kernels_codec_int4_mean, 4);
    sparse("sign-magnitude", KERNELS_CODEC_SIGN_MAGNITUDE);
    sparse("sign", KERNELS_CODEC_SIGN);
    sparse("2-bit", KERNELS_CODEC_TWO_BIT);
    lowrank();
    return 0;
}
