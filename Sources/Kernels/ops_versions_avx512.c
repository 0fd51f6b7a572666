// The operations compiled for avx512.
#include "ops_internal.h"

#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#include "ops_body.h"
#pragma clang attribute pop

const ops_table *ops_table_avx512(void) { return &table; }
#else
const ops_table *ops_table_avx512(void) { return ops_table_baseline(); }
#endif
