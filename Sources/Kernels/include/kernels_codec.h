#ifndef KERNELS_CODEC_H
#define KERNELS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Codec kernels. The formats are described in docs/WIRE.md; every function gives the same bits on every instruction
/// set.
///
/// Conventions: `n` counts values; `bytes` and `out` need no alignment; integers and floats on the wire are little
/// endian. `feedback` may be NULL; otherwise it holds n values that are added to `values` (for sparse after × decay),
/// and is left holding what was not sent. Where values + feedback is not finite, the message is one that every decoder
/// refuses and that entry of `feedback` becomes zero, so that one bad step does not poison the following ones.

/// Instruction sets, weakest first. `baseline` is the compiler's default target (SSE2 on x86-64, NEON on arm64).
enum {
    KERNELS_CODEC_NAIVE = 0,
    KERNELS_CODEC_BASELINE = 1,
    KERNELS_CODEC_AVX2 = 2,
    KERNELS_CODEC_AVX512 = 3,
};
/// Forces an instruction set (for tests and benchmarks); any other number means the best one. False, and nothing
/// changed, if this machine lacks it.
bool kernels_codec_set_instruction_set(int instruction_set);
/// The instruction set in use.
int kernels_codec_instruction_set(void);

// The `accumulate` functions: sum[i] += weight · value, weights[i] += weight for the `count` values from the `first`
// one on (a multiple of 256), `sum` and `weights` [count] belonging to those; `weights` may be NULL.

// fp32: 4n bytes.
void kernels_codec_fp32_encode(const float *values, float *feedback, size_t n, uint8_t *out);
bool kernels_codec_fp32_finite(const uint8_t *bytes, size_t n);
void kernels_codec_fp32_decode(const uint8_t *bytes, size_t n, float *into);
void kernels_codec_fp32_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights);

// bf16: 2n bytes, round to nearest even, finite values saturate at the largest finite bf16.
void kernels_codec_bf16_encode(const float *values, float *feedback, size_t n, uint8_t *out);
bool kernels_codec_bf16_finite(const uint8_t *bytes, size_t n);
void kernels_codec_bf16_decode(const uint8_t *bytes, size_t n, float *into);
void kernels_codec_bf16_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights);

// fp16 (IEEE 754 binary16): 2n bytes, round to nearest even, finite values saturate at ±65504.
void kernels_codec_fp16_encode(const float *values, float *feedback, size_t n, uint8_t *out);
bool kernels_codec_fp16_finite(const uint8_t *bytes, size_t n);
void kernels_codec_fp16_decode(const uint8_t *bytes, size_t n, float *into);
void kernels_codec_fp16_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights);

/// Values that share a scale in int8 and int4.
#define KERNELS_CODEC_BLOCK 256
/// Scales above this could decode to infinity.
#define KERNELS_CODEC_SCALE_MAX 0x1p120f

// int8: ⌈n/256⌉ fp32 scales, then n signed bytes; encoders write −127…127.
void kernels_codec_int8_encode(const float *values, float *feedback, size_t n, uint8_t *out);
void kernels_codec_int8_decode(const uint8_t *bytes, size_t n, float *into);
void kernels_codec_int8_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights);

/// into = Σ weight · value ÷ total over whole messages, contributors in the order given; the same bits as accumulating.
void kernels_codec_int8_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into);

// int4: ⌈n/256⌉ fp32 scales, then ⌈n/2⌉ bytes: q + 8 in 0…15 (encoders write 1…15), value 2j in the low half of byte j, value 2j + 1 in its
// high half (0 if there is none).
void kernels_codec_int4_encode(const float *values, float *feedback, size_t n, uint8_t *out);
void kernels_codec_int4_decode(const uint8_t *bytes, size_t n, float *into);
void kernels_codec_int4_accumulate(
    const uint8_t *bytes, size_t n, size_t first, size_t count, float weight, float *sum, float *weights);

void kernels_codec_int4_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into);

/// How the sparse codec writes an entry's value: its sign (one bit; one magnitude a group), its sign and one of two
/// magnitudes, or one of four levels, two a sign (both two bits).
enum {
    KERNELS_CODEC_SIGN_MAGNITUDE = 0,
    KERNELS_CODEC_SIGN = 1,
    KERNELS_CODEC_TWO_BIT = 2,
};

/// Values in a tile of the sparse codec, and tiles in a group (which shares magnitudes and Golomb divisor).
#define KERNELS_CODEC_TILE 4096
#define KERNELS_CODEC_GROUP 16
#define KERNELS_CODEC_SPARSE_K_MAX 1024

/// Entries that a tile of m values (1…4096) sends if it sends any: k of 4096, scaled, rounded up, at least min(k, 4),
/// at most m.
size_t kernels_codec_sparse_tile_entries(size_t m, size_t k);
/// Entries sent at most of a tensor of n values.
size_t kernels_codec_sparse_entries(size_t n, size_t k);
/// Tiles of a tensor of n values.
size_t kernels_codec_sparse_tiles(size_t n);
/// The longest message for n values.
size_t kernels_codec_sparse_maximum_bytes(size_t n, size_t k, int values);

/// Encodes with values of a kind; feedback becomes decay · feedback + values, less what is sent. `out` has room for the
/// longest message and 16 bytes more. Answers the message's bytes.
size_t kernels_codec_sparse_encode(
    const float *values, float *feedback, size_t n, size_t k, int kind, float decay, uint8_t *out);

enum {
    KERNELS_CODEC_OK = 0,
    KERNELS_CODEC_TRUNCATED = 1,
    KERNELS_CODEC_TRAILING = 2,
    KERNELS_CODEC_INDEX = 3,
    KERNELS_CODEC_NOT_FINITE = 4,
    KERNELS_CODEC_MALFORMED = 5,
};
/// What a parser found wrong: TRUNCATED (bytes found in `detail`), TRAILING (bytes too many), INDEX (the index, which
/// is ≥ `limit`).
struct kernels_codec_problem {
    int status;
    size_t detail;
    size_t limit;
};
/// Checks and unpacks a whole message. `entries` [sparse_entries], tile t's from k · t on: bits 0–11 index in its tile,
/// bit 12 sign, bit 13 larger magnitude; 0xffff first in a tile that sends nothing. `levels` [4 · sparse_tiles]: per
/// tile what bits 12–13 stand for: small, −small, large, −large.
struct kernels_codec_problem kernels_codec_sparse_parse(
    const uint8_t *bytes, size_t length, size_t n, size_t k, int values, uint16_t *entries, float *levels);
/// Zero-fills `into` [n] and writes the entries.
void kernels_codec_sparse_scatter(const uint16_t *entries, const float *levels, size_t n, size_t k, float *into);
/// sum[i] += weight · value, weights[i] += weight for every entry sent.
void kernels_codec_sparse_accumulate(
    const uint16_t *entries, const float *levels, size_t n, size_t k, float weight, float *sum, float *weights);
/// Contributor-mean: into[i] = Σ weight · value ÷ Σ weight over the contributors that sent entry i, in the order given;
/// 0 where none did. `entries`, `levels`: one pointer a contributor.
void kernels_codec_sparse_mean(
    const uint16_t *const *entries, const float *const *levels, const float *weight, size_t contributors, size_t n,
    size_t k, float *into);

// Low rank: a matrix [rows, columns] as left · rightᵀ. `left` [rank, rows] and `right` [rank, columns] hold vectors one
// after the other.

/// Makes `rank` vectors of n values orthonormal, in order (modified Gram-Schmidt, twice); one that depends on those
/// before it becomes zero.
void kernels_codec_lowrank_orthonormalise(float *vectors, size_t rank, size_t n);
/// left = matrix · right.
void kernels_codec_lowrank_project(
    const float *matrix, size_t rows, size_t columns, const float *right, size_t rank, float *left);
/// right = matrixᵀ · left.
void kernels_codec_lowrank_project_back(
    const float *matrix, size_t rows, size_t columns, const float *left, size_t rank, float *right);
/// into[i, j] = Σ left[t, i] · right[t, j], t ascending, from 0.
void kernels_codec_lowrank_expand(
    const float *left, const float *right, size_t rows, size_t columns, size_t rank, float *into);

/// values[i] = values[i] ÷ divisor.
void kernels_codec_divide(float *values, size_t n, float divisor);
/// Σ value² in double precision: value i to partial sum i mod 16, folded 16 → 8 → 4 → 2 → 1.
double kernels_codec_sum_of_squares(const float *values, size_t n);
/// The same over the entries sent, in their order.
double kernels_codec_sparse_sum_of_squares(const uint16_t *entries, const float *levels, size_t n, size_t k);

#endif
