// The compiler's default target: SSE2 on x86-64, NEON on arm64.
#define CODEC_TABLE codec_baseline
#include "codec_template.h"
