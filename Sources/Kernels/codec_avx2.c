// What most x86-64 machines since 2013 have.
#if defined(__x86_64__)
#include "codec_ops.h"
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#define CODEC_TABLE codec_avx2
#include "codec_template.h"
#pragma clang attribute pop
#endif
