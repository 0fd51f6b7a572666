// Umbrella of the kernels: the only hot loops of the system. Fixed order of operations, instruction set chosen at run time.
#pragma once
#include "kernels_decode.h"
#include "kernels_gemm.h"
#include "kernels_ops.h"
