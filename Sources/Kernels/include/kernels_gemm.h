// Matrix product whose bits do not depend on the machine, the thread count, the tile sizes or the other rows.
#pragma once
#include <stdbool.h>
#include <stddef.h>

/// Instruction sets the kernels are written for. `KERNELS_AUTO` takes the widest that this processor has.
typedef enum kernels_instruction_set {
    KERNELS_AUTO = 0,
    /// Baseline of the architecture; every fused multiply-add is a call to `fmaf`. Slow, and the reference for the
    /// others.
    KERNELS_SCALAR = 1,
    KERNELS_AVX2 = 2,
    KERNELS_AVX512 = 3,
    KERNELS_NEON = 4,
} kernels_instruction_set;

/// Chooses the instruction set for every kernel of this process; false, and nothing changes, where it is missing.
bool kernels_set_instruction_set(kernels_instruction_set set);
/// The instruction set in use; never `KERNELS_AUTO`.
kernels_instruction_set kernels_current_instruction_set(void);

/// c[m, n] = (accumulate ? c : 0) + a[m, k] · b[k, n], in fp32.
///
/// Each element of c is ONE chain of fused multiply-adds over k = 0 … k−1 in order, whatever the tiles, threads and
/// vector width; a row of c does not depend on m. Element (i, j) of a is a[i·a_row + j·a_column], likewise b; the rows
/// of c lie `c_row` apart. c must not overlap a or b.
void kernels_sgemm(
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column, const float *b,
    ptrdiff_t b_row, ptrdiff_t b_column, float *c, ptrdiff_t c_row, bool accumulate, int threads);

/// The definition of `kernels_sgemm`, three loops long. For tests.
void kernels_sgemm_naive(
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column, const float *b,
    ptrdiff_t b_row, ptrdiff_t b_column, float *c, ptrdiff_t c_row, bool accumulate);

/// Runs task(context, 0 … count−1) on at most `threads` threads, the caller among them, and returns when all are done.
/// A call from inside a task, or while another thread has the pool, runs everything on the caller: tasks must own what
/// they write, so the results are the same.
void kernels_parallel(int threads, ptrdiff_t count, void (*task)(void *context, ptrdiff_t index), void *context);
