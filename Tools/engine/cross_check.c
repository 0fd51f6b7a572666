// Prints a digest of every kernel's results on fixed inputs, to be compared between machines and instruction sets.
// Built and run by cross_check.sh.
#include <stdio.h>
#include <stdlib.h>

#include "kernels_gemm.h"
#include "kernels_ops.h"

static uint64_t digest = 0xcbf29ce484222325u;  // FNV-1a
static uint64_t state = 88172645463325252u;    // xorshift64

static void absorb(const void *values, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) digest = (digest ^ ((const unsigned char *)values)[i]) * 0x100000001b3u;
}
static void absorb_floats(const float *values, size_t count) { absorb(values, count * sizeof(float)); }
static void show(const char *name) { printf("%-10s %016llx\n", name, (unsigned long long)digest); }

/// `count` numbers from −1 to 1, never freed.
static float *random_floats(size_t count) {
    float *values = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = (float)(state >> 40) / 8388608.0f - 1.0f;
    }
    return values;
}

static void products(void) {
    static const int sizes[][3] = {{1, 7, 5}, {3, 33, 17}, {29, 65, 400}, {64, 40, 31}, {300, 17, 9}, {130, 200, 300}};
    for (int i = 0; i < 6; i++) {
        int m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
        float *a = random_floats((size_t)(m * k)), *b = random_floats((size_t)(k * n)), *c = random_floats((size_t)(m * n));
        kernels_sgemm(m, n, k, a, k, 1, b, 1, k, c, n, i % 2 == 1, 2);
        absorb_floats(c, (size_t)(m * n));
        kernels_sgemm(m, n, k, a, 1, m, b, n, 1, c, n, true, 1);
        absorb_floats(c, (size_t)(m * n));
    }
    show("products");
}

static void model(void) {
    enum { rows = 36, width = 40, length = 18, classes = 77, attended = 2 * 4 * length * length };
    float *x = random_floats(rows * width), *gain = random_floats(width), *y = random_floats(rows * width);
    float *scale = random_floats(rows), *dx = random_floats(rows * width), *dgain = random_floats(width);
    kernels_rmsnorm_forward(1, rows, width, 1e-5f, x, gain, y, scale);
    absorb_floats(y, rows * width);
    kernels_rmsnorm_backward(1, rows, width, x, gain, scale, y, dx, dgain);
    absorb_floats(dx, rows * width);
    absorb_floats(dgain, width);
    show("norm");

    float cosines[length * 5], sines[length * 5];
    kernels_rope_tables(length, 10, 10000, cosines, sines);
    absorb_floats(cosines, length * 5);
    absorb_floats(sines, length * 5);
    kernels_attention shape = {2, length, 4, 2, 10};
    float *qkv = random_floats(rows * 80), *probabilities = random_floats(attended), *out = random_floats(rows * width);
    float *dqkv = random_floats(rows * 80);
    kernels_rope(1, rows, length, 6, 10, 80, qkv, cosines, sines, false);
    kernels_attention_forward(1, shape, qkv, probabilities, out);
    absorb_floats(out, rows * width);
    absorb_floats(probabilities, attended);
    kernels_attention_backward(1, shape, qkv, probabilities, out, dqkv);
    absorb_floats(dqkv, rows * 80);
    show("attention");

    float *gate_up = random_floats(rows * 2 * width), *gated = random_floats(rows * width);
    float *dgate_up = random_floats(rows * 2 * width);
    kernels_swiglu_forward(1, rows, width, gate_up, gated);
    absorb_floats(gated, rows * width);
    kernels_swiglu_backward(1, rows, width, gate_up, gated, dgate_up);
    absorb_floats(dgate_up, rows * 2 * width);
    float *logits = random_floats(rows * classes), losses[rows];
    int32_t targets[rows];
    for (int i = 0; i < rows; i++) targets[i] = 2 * i;
    kernels_cross_entropy(1, rows, classes, logits, targets, 0.03f, losses);
    absorb_floats(logits, rows * classes);
    absorb_floats(losses, rows);
    show("losses");
}

static void vectors(void) {
    enum { n = 1003 };
    float *parameters = random_floats(n), *gradient = random_floats(n), *first = random_floats(n);
    float *second = random_floats(n);
    for (int i = 0; i < n; i++) second[i] *= second[i];
    kernels_adamw_step step = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, 2, 3, 0.5f};
    kernels_adamw(1, n, step, gradient, parameters, first, second);
    kernels_axpy(1, n, 0.3f, gradient, parameters);
    kernels_outer_step(1, n, 0.7f, 0.9f, gradient, first, parameters);
    absorb_floats(parameters, n);
    absorb_floats(first, n);
    float sums[2] = {kernels_sum_squares(n, parameters), kernels_sum(n, parameters)};
    absorb_floats(sums, 2);
    show("vectors");
    double values[4] = {kernels_exp(1.2345), kernels_log(77.7), kernels_cos(12345.6), kernels_sin(0.3)};
    absorb(values, sizeof values);
    show("functions");
}

/// The argument is a `kernels_instruction_set`; 77 where this processor lacks it.
int main(int count, char **arguments) {
    if (count > 1 && !kernels_set_instruction_set((kernels_instruction_set)atoi(arguments[1]))) return 77;
    products();
    model();
    vectors();
    return 0;
}
