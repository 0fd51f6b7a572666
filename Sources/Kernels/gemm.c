// Blocking, packing and threading of the matrix product (Goto & van de Geijn 2008), arranged so that none of it can be
// seen in the result: blocks over k store c and reload it as the accumulator, and only m or n is split between threads.
#include "gemm_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

static atomic_int chosen_set = KERNELS_AUTO;

static bool has_instruction_set(kernels_instruction_set set) {
    switch (set) {
    case KERNELS_AUTO:
    case KERNELS_SCALAR: return true;
#if defined(__x86_64__)
    case KERNELS_AVX2: return __builtin_cpu_supports("x86-64-v3");
    case KERNELS_AVX512: return __builtin_cpu_supports("x86-64-v4");
#endif
#if defined(__aarch64__)
    case KERNELS_NEON: return true;
#endif
    default: return false;
    }
}

static kernels_instruction_set best_instruction_set(void) {
    if (has_instruction_set(KERNELS_AVX512)) return KERNELS_AVX512;
    if (has_instruction_set(KERNELS_AVX2)) return KERNELS_AVX2;
    if (has_instruction_set(KERNELS_NEON)) return KERNELS_NEON;
    return KERNELS_SCALAR;
}

bool kernels_set_instruction_set(kernels_instruction_set set) {
    if (!has_instruction_set(set)) return false;
    atomic_store(&chosen_set, set == KERNELS_AUTO ? best_instruction_set() : set);
    return true;
}

kernels_instruction_set kernels_current_instruction_set(void) {
    int set = atomic_load_explicit(&chosen_set, memory_order_relaxed);
    if (set == KERNELS_AUTO) {
        set = best_instruction_set();
        atomic_store_explicit(&chosen_set, set, memory_order_relaxed);
    }
    return (kernels_instruction_set)set;
}

/// One thread's packed panels, kept between calls.
typedef struct panel_buffer {
    float *floats;
    size_t capacity;
} panel_buffer;
static _Thread_local panel_buffer packed_a, packed_b;

static float *reserve(panel_buffer *buffer, size_t count) {
    if (buffer->capacity < count) {
        free(buffer->floats);
        buffer->floats = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
        if (buffer->floats == NULL) {
            fprintf(stderr, "out of memory: %zu bytes for the panels of a matrix product\n", count * sizeof(float));
            abort();
        }
        buffer->capacity = count;
    }
    return buffer->floats;
}

/// Packs x[count, depth], element (i, k) at x[i·row + k·column], into panels [⌈count/width⌉][depth][width]; the last
/// panel is padded with zeros.
static void pack(
    const gemm_plan *plan, ptrdiff_t count, ptrdiff_t depth, const float *x, ptrdiff_t row, ptrdiff_t column,
    ptrdiff_t width, float *out) {
    if (row == 1 && plan->pack_across != NULL) {
        plan->pack_across(count, depth, x, column, width, out);
        return;
    }
    for (ptrdiff_t start = 0; start < count; start += width, out += width * depth) {
        ptrdiff_t present = count - start < width ? count - start : width;
        const float *source = x + start * row;
        if (column == 1 && plan->pack_along != NULL) {
            plan->pack_along(present, depth, source, row, width, out);
        } else {
            for (ptrdiff_t k = 0; k < depth; k++) {
                for (ptrdiff_t i = 0; i < present; i++) out[k * width + i] = source[i * row + k * column];
                for (ptrdiff_t i = present; i < width; i++) out[k * width + i] = 0;
            }
        }
    }
}

typedef struct product {
    const gemm_plan *plan;
    ptrdiff_t m, n, k;
    const float *a;
    ptrdiff_t a_row, a_column;
    const float *b;
    ptrdiff_t b_row, b_column;
    float *c;
    ptrdiff_t c_row;
    bool accumulate;
    /// How the product is split between threads.
    int parts;
} product;

static ptrdiff_t smaller(ptrdiff_t x, ptrdiff_t y) { return x < y ? x : y; }

/// One packed block of a times one packed block of b.
static void multiply_block(
    const gemm_plan *plan, ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const float *a, const float *b, float *c,
    ptrdiff_t c_row, bool accumulate) {
    for (ptrdiff_t j = 0; j < n; j += plan->columns) {
        ptrdiff_t columns = smaller(n - j, plan->columns);
        for (ptrdiff_t i = 0; i < m; i += plan->rows) {
            ptrdiff_t rows = smaller(m - i, plan->rows);
            float *tile = c + i * c_row + j;
            if (rows == plan->rows && columns == plan->columns) {
                plan->kernel(depth, a + i * depth, b + j * depth, tile, c_row, accumulate);
                continue;
            }
            if (plan->edge_kernel != NULL) {
                plan->edge_kernel(rows, columns, depth, a + i * depth, b + j * depth, tile, c_row, accumulate);
                continue;
            }
            // An edge: the same kernel on a padded copy, so that the chain of each element is the same.
            float padded[gemm_largest_tile] = {0};
            size_t bytes = (size_t)columns * sizeof(float);
            if (accumulate)
                for (ptrdiff_t r = 0; r < rows; r++) memcpy(padded + r * plan->columns, tile + r * c_row, bytes);
            plan->kernel(depth, a + i * depth, b + j * depth, padded, plan->columns, accumulate);
            for (ptrdiff_t r = 0; r < rows; r++) memcpy(tile + r * c_row, padded + r * plan->columns, bytes);
        }
    }
}

static void multiply(const product *p) {
    const gemm_plan *plan = p->plan;
    for (ptrdiff_t j = 0; j < p->n; j += plan->column_block) {
        ptrdiff_t n = smaller(p->n - j, plan->column_block);
        ptrdiff_t n_padded = (n + plan->columns - 1) / plan->columns * plan->columns;
        for (ptrdiff_t k = 0; k < p->k; k += plan->depth_block) {
            ptrdiff_t depth = smaller(p->k - k, plan->depth_block);
            float *b = reserve(&packed_b, (size_t)(n_padded * depth));
            pack(plan, n, depth, p->b + k * p->b_row + j * p->b_column, p->b_column, p->b_row, plan->columns, b);
            for (ptrdiff_t i = 0; i < p->m; i += plan->row_block) {
                ptrdiff_t m = smaller(p->m - i, plan->row_block);
                ptrdiff_t m_padded = (m + plan->rows - 1) / plan->rows * plan->rows;
                float *a = reserve(&packed_a, (size_t)(m_padded * depth));
                pack(plan, m, depth, p->a + i * p->a_row + k * p->a_column, p->a_row, p->a_column, plan->rows, a);
                multiply_block(
                    plan, m, n, depth, a, b, p->c + i * p->c_row + j, p->c_row, p->accumulate || k > 0);
            }
        }
    }
}

/// Part `index` of the product: a range of rows where there are at least as many rows as columns, else of columns.
static void multiply_part(void *context, ptrdiff_t index) {
    product part = *(const product *)context;
    bool by_rows = part.m >= part.n;
    ptrdiff_t extent = by_rows ? part.m : part.n, unit = by_rows ? part.plan->rows : part.plan->columns;
    ptrdiff_t units = (extent + unit - 1) / unit;
    ptrdiff_t begin = smaller(extent, units * index / part.parts * unit);
    ptrdiff_t end = smaller(extent, units * (index + 1) / part.parts * unit);
    if (begin == end) return;
    if (by_rows) {
        part.m = end - begin;
        part.a += begin * part.a_row;
        part.c += begin * part.c_row;
    } else {
        part.n = end - begin;
        part.b += begin * part.b_column;
        part.c += begin;
    }
    multiply(&part);
}

void kernels_sgemm(
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column, const float *b,
    ptrdiff_t b_row, ptrdiff_t b_column, float *c, ptrdiff_t c_row, bool accumulate, int threads) {
    if (k <= 0) {
        if (!accumulate)
            for (ptrdiff_t i = 0; i < m; i++) memset(c + i * c_row, 0, (size_t)n * sizeof(float));
        return;
    }
    const gemm_plan *plan = gemm_plan_for(kernels_current_instruction_set());
    // Below two million multiply-adds waking another thread costs more than it brings.
    bool alone = threads <= 1 || (double)m * (double)n * (double)k < 2e6;
    product whole = {plan, m, n, k, a, a_row, a_column, b, b_row, b_column, c, c_row, accumulate, alone ? 1 : threads};
    if (alone)
        multiply(&whole);
    else
        kernels_parallel(threads, threads, multiply_part, &whole);
}

void kernels_sgemm_naive(
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column, const float *b,
    ptrdiff_t b_row, ptrdiff_t b_column, float *c, ptrdiff_t c_row, bool accumulate) {
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) {
            float sum = accumulate ? c[i * c_row + j] : 0;
            for (ptrdiff_t l = 0; l < k; l++) sum = fmaf(a[i * a_row + l * a_column], b[l * b_row + j * b_column], sum);
            c[i * c_row + j] = sum;
        }
}
