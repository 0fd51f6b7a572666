// The operations compiled for the baseline of the architecture (on ARM that is NEON).
#include "ops_internal.h"

#pragma STDC FP_CONTRACT OFF

#include "ops_body.h"

const ops_table *ops_table_baseline(void) { return &table; }
