// The operations compiled for avx2.
#include "ops_internal.h"

#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#include "ops_body.h"
#pragma clang attribute pop

const ops_table *ops_table_avx2(void) { return &table; }
#else
const ops_table *ops_table_avx2(void) { return ops_table_baseline(); }
#endif
