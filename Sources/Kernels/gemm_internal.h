// What the parts of the matrix product share. Not exported.
#pragma once
#include <stddef.h>

#include "include/kernels_gemm.h"

/// c[rows, columns] (rows `c_row` apart) = (accumulate ? c : 0) + Σₖ a[k][rows] · b[k][columns], with packed panels a
/// and b.
typedef void (*gemm_micro_kernel)(
    ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row, bool accumulate);

/// Tile sizes of one instruction set. They do not influence the result.
typedef struct gemm_plan {
    /// Rows and columns of the micro-kernel.
    ptrdiff_t rows, columns;
    /// Blocks over k, m and n that fit the second-level cache, and the part of the last-level cache that we may use.
    ptrdiff_t depth_block, row_block, column_block;
    gemm_micro_kernel kernel;
    /// Packs whole panels of `rows`×8k where source rows are contiguous along k; NULL where plain loops have to do.
    void (*pack_transposed)(ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t rows, float *out);
} gemm_plan;

/// The plan of an instruction set this processor has.
const gemm_plan *gemm_plan_for(kernels_instruction_set set);

/// At most this many elements in a micro-kernel's tile.
enum { gemm_largest_tile = 14 * 32 };
