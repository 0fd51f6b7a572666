// The model's operations besides matrix products, in fp32, with a fixed order of operations on every machine.
//
// Sums run over 16 fixed lanes: element i belongs to lane i mod 16, lanes are folded 16 → 8 → 4 → 2 → 1, and what is
// left beyond a multiple of 16 is summed alone in order and added last. Every fused multiply-add is written as one;
// nothing else is contracted. No function of the C mathematical library is used but exactly rounded ones.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// MARK: functions in double arithmetic

/// e^x, natural logarithm (x > 0), x^y (x > 0), cosine and sine (|x| ≤ 10⁶), to a few units in the last place.
double kernels_exp(double x);
double kernels_log(double x);
double kernels_pow(double x, double y);
double kernels_cos(double x);
double kernels_sin(double x);

// MARK: the model

/// y[r, i] = x[r, i] · s[r] · gain[i] with s[r] = 1/√(mean x[r]² + epsilon), kept for backward. x, y: [rows, width].
void kernels_rmsnorm_forward(
    int threads, ptrdiff_t rows, ptrdiff_t width, float epsilon, const float *x, const float *gain, float *y,
    float *scale);
/// The same y once more, from the scale kept.
void kernels_rmsnorm_again(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *x, const float *gain, const float *scale, float *y);
/// Adds the gradient of x to dx[rows, width] and that of the gain to dgain[width], rows in order.
void kernels_rmsnorm_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *x, const float *gain, const float *scale,
    const float *dy, float *dx, float *dgain);

/// An RMS norm of each of `heads` heads at the start of each row of x (rows `stride` apart), all with one gain[head_size]. What x
/// was goes to raw (rows `raw_stride` apart), 1/rms of each head to scale (`scale_stride`); both are kept for backward.
void kernels_head_norm_forward(
    int threads, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, float epsilon,
    const float *gain, float *x, float *raw, ptrdiff_t raw_stride, float *scale, ptrdiff_t scale_stride);
/// dx, in x's layout, is the gradient of the result before and that of x after; the gain's is added to dgain, rows and heads in
/// order.
void kernels_head_norm_backward(
    int threads, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, const float *gain,
    const float *raw, ptrdiff_t raw_stride, const float *scale, ptrdiff_t scale_stride, float *dx, float *dgain);

/// x[r, i] += bias[i]; rows of x lie `stride` apart.
void kernels_add_bias(int threads, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const float *bias, float *x);
/// sum[i] += x[r, i], rows in order: a bias' gradient.
void kernels_add_rows(int threads, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const float *x, float *sum);

/// Tables [length, half] of cos and sin of t·frequencies[i].
void kernels_rope_tables(
    ptrdiff_t length, ptrdiff_t half, const double *frequencies, float *cosines, float *sines);
/// Rotates `heads` heads at the start of each row of x (rows `stride` apart; position = row mod length), halves paired
/// as in Llama. `backward` turns the other way, which is the gradient.
void kernels_rope(
    int threads, ptrdiff_t rows, ptrdiff_t length, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t stride, float *x,
    const float *cosines, const float *sines, bool backward);

/// out[r, i] = silu(gate[r, i]) · up[r, i]; gate_up is [rows, 2·width], gate first.
void kernels_swiglu_forward(int threads, ptrdiff_t rows, ptrdiff_t width, const float *gate_up, float *out);
void kernels_swiglu_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const float *gate_up, const float *dout, float *dgate_up);

/// Causal attention with grouped heads. Rows of qkv are [q: heads·head_size | k: kv_heads·head_size | v: likewise].
typedef struct kernels_attention {
    ptrdiff_t sequences, length, heads, kv_heads, head_size;
    /// [sequences, length]: the first position of its sequence that a row sees, where documents follow each other in one
    /// sequence; it never falls along a sequence. NULL: position 0.
    const int32_t *first_seen;
} kernels_attention;
/// out: [sequences·length, heads·head_size]. Takes 64·length floats a thread besides, not length².
void kernels_attention_forward(int threads, kernels_attention shape, const float *qkv, float *out);
/// dqkv is overwritten, in the layout of qkv. Takes twice as much besides.
void kernels_attention_backward(
    int threads, kernels_attention shape, const float *qkv, const float *dout, float *dqkv);

/// losses[r] = −log softmax(logits[r])[target[r]] in nats, 0 where the target is negative; logits [rows, classes] become the
/// gradient, times `gradient_scale`, of the loss plus z_loss·log²(Σ exp logits) (PaLM, 2204.02311, §5).
void kernels_cross_entropy(
    int threads, ptrdiff_t rows, ptrdiff_t classes, float *logits, const int32_t *targets, float gradient_scale,
    float z_loss, float *losses);

/// out[r] = table[tokens[r]].
void kernels_embedding_forward(ptrdiff_t rows, ptrdiff_t width, const float *table, const int32_t *tokens, float *out);
/// dtable[tokens[r]] += dx[r], rows in order.
void kernels_embedding_backward(
    int threads, ptrdiff_t rows, ptrdiff_t width, const int32_t *tokens, const float *dx, float *dtable);

// MARK: vectors

/// One AdamW step (Loshchilov & Hutter 2019) on n parameters; the corrections are 1/(1 − βᵗ).
typedef struct kernels_adamw_step {
    float learning_rate, beta1, beta2, epsilon, weight_decay, correction1, correction2;
    /// The gradient is multiplied by this first: clipping.
    float gradient_scale;
} kernels_adamw_step;
void kernels_adamw(
    int threads, ptrdiff_t n, kernels_adamw_step step, const float *gradient, float *parameters, float *first,
    float *second);

// MARK: numbers kept in 16 bits

/// How numbers are kept between steps. bf16: the upper half of fp32.
typedef enum kernels_format { KERNELS_FP32 = 0, KERNELS_BF16 = 1 } kernels_format;
typedef struct kernels_stored {
    void *values;
    kernels_format format;
} kernels_stored;

void kernels_widen(int threads, ptrdiff_t n, const uint16_t *x, float *out);
/// To the nearest, ties to even; infinities and NaN stay what they are.
void kernels_narrow(int threads, ptrdiff_t n, const float *x, uint16_t *out);

/// `kernels_adamw` on numbers kept in either format. What is kept in bf16 is rounded up or down by chance, so that steps much
/// smaller than its spacing are not lost: value i draws from (key, i) alone, whatever the thread or the machine.
void kernels_adamw_stored(
    int threads, ptrdiff_t n, kernels_adamw_step step, uint64_t key, const float *gradient, kernels_stored parameters,
    kernels_stored first, kernels_stored second);

/// momentum = mu·momentum + scale·gradient; out = scale·gradient + mu·momentum, momentum in either format.
void kernels_momentum_stored(
    int threads, ptrdiff_t n, float scale, float mu, uint64_t key, const float *gradient, kernels_stored momentum,
    float *out);
/// parameters = keep·parameters + rate·direction, in either format.
void kernels_move_stored(
    int threads, ptrdiff_t n, float keep, float rate, uint64_t key, const float *direction, kernels_stored parameters);

float kernels_sum_squares(ptrdiff_t n, const float *x);

/// Zeros in pages of their own: they take no memory before they are written to, and go back to the system at once. Null where there are none.
void *kernels_take_pages(size_t bytes);
void kernels_give_pages(void *pages, size_t bytes);
/// Σ x[i] in the order of the 16 lanes.
float kernels_sum(ptrdiff_t n, const float *x);
/// y = fma(a, x, y).
void kernels_axpy(int threads, ptrdiff_t n, float a, const float *x, float *y);
/// y += x.
void kernels_add(int threads, ptrdiff_t n, const float *x, float *y);
/// x *= a.
void kernels_scale(int threads, ptrdiff_t n, float a, float *x);
/// out = x − y.
void kernels_subtract(int threads, ptrdiff_t n, const float *x, const float *y, float *out);
/// sum[i] = weights[i] > 0 ? sum[i] / weights[i] : 0.
void kernels_divide_by_weights(int threads, ptrdiff_t n, const float *weights, float *sum);
/// Nesterov: momentum = μ·momentum + delta; parameters −= rate · (delta + μ·momentum).
void kernels_outer_step(
    int threads, ptrdiff_t n, float rate, float mu, const float *delta, float *momentum, float *parameters);
bool kernels_all_finite(ptrdiff_t n, const float *x);
