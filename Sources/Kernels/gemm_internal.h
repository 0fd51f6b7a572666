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
    /// The same for a tile of fewer rows or columns; NULL where the kernel has to run on a padded copy.
    void (*edge_kernel)(
        ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t c_row,
        bool accumulate);
    /// Packs one panel of `present` ≤ `width` vectors whose elements along k are neighbours, `stride` between vectors; zeros
    /// after them. NULL where plain loops have to do.
    void (*pack_along)(
        ptrdiff_t present, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out);
    /// Packs all panels of `count` vectors whose elements of one k are neighbours, `stride` between ks: k by k, so that each
    /// line of the source is read once.
    void (*pack_across)(
        ptrdiff_t count, ptrdiff_t depth, const float *source, ptrdiff_t stride, ptrdiff_t width, float *out);
} gemm_plan;

/// The plan of an instruction set this processor has.
const gemm_plan *gemm_plan_for(kernels_instruction_set set);

/// At most this many elements in a micro-kernel's tile.
enum { gemm_largest_tile = 14 * 32 };
