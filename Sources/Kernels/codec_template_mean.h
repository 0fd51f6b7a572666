// The mean of several int8 or int4 messages, part of codec_template.h: 64 values at a time stay in registers while all
// contributors are added to them, in their order.

typedef float sixteen_floats __attribute__((vector_size(64)));
typedef int8_t sixteen_codes __attribute__((vector_size(16)));
typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));
typedef uint8_t thirty_two_bytes __attribute__((vector_size(32)));

/// Values that are added up at once; a block is a multiple of it.
#define MEAN_STEP 64

static inline __attribute__((always_inline)) void add_codes(
    sixteen_floats *sum, sixteen_codes q, float scale, float weight) {
    sixteen_floats value = __builtin_convertvector(q, sixteen_floats) * scale;
    sixteen_floats product = value * weight;
    *sum = *sum + product;
}

/// 32 halves (bytes 0 to 15 of `halves`) as codes, in order.
static inline __attribute__((always_inline)) void spread_halves(
    const uint8_t *halves, sixteen_codes *first, sixteen_codes *second) {
    sixteen_bytes both, low, high;
    memcpy(&both, halves, 16);
    low = (both & 15) - 8;
    high = (both >> 4) - 8;
    *first = (sixteen_codes)__builtin_shufflevector(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *second = (sixteen_codes)__builtin_shufflevector(
        low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/// `bits` (8 or 4) is a constant at both calls. `past` is where results go past the cache: whole vectors from there on.
static inline __attribute__((always_inline)) void mean_of_codes(
    const uint8_t *const *restrict bytes, const float *restrict weight, size_t contributors, size_t n, float total,
    float *restrict into, size_t bits) {
    bool is_large = n >= 1 << 20 && ((uintptr_t)into & 63) == 0;
    size_t scales = scale_bytes(n), start = 0;
    for (; start + MEAN_STEP <= n; start += MEAN_STEP) {
        sixteen_floats sum[4] = {{0}, {0}, {0}, {0}};
        for (size_t c = 0; c < contributors; c++) {
            const uint8_t *q = bytes[c] + scales + start * bits / 8;
            float scale = load(bytes[c], start / BLOCK);
            __builtin_prefetch((const void *)((uintptr_t)q + 512), 0, 0);
            sixteen_codes codes[4];
            if (bits == 8) {
                memcpy(codes, q, 64);
            } else {
                spread_halves(q, codes, codes + 1);
                spread_halves(q + 16, codes + 2, codes + 3);
            }
            for (size_t i = 0; i < 4; i++) add_codes(sum + i, codes[i], scale, weight[c]);
        }
        for (size_t i = 0; i < 4; i++) {
            sixteen_floats mean = sum[i] / total;
            if (is_large) __builtin_nontemporal_store(mean, (sixteen_floats *)(into + start + 16 * i));
            else memcpy(into + start + 16 * i, &mean, 64);
        }
    }
    for (; start < n; start++) {
        float sum = 0;
        for (size_t c = 0; c < contributors; c++) {
            const uint8_t *q = bytes[c] + scales;
            int code = bits == 8 ? (int8_t)q[start] : (q[start / 2] >> start % 2 * 4 & 15) - 8;
            float value = (float)code * load(bytes[c], start / BLOCK);
            float product = weight[c] * value;
            sum = sum + product;
        }
        into[start] = sum / total;
    }
    // Stores past the cache are not ordered with the others.
    if (is_large) atomic_thread_fence(memory_order_seq_cst);
}

static void int8_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    mean_of_codes(bytes, weight, contributors, n, total, into, 8);
}

static void int4_mean(
    const uint8_t *const *bytes, const float *weight, size_t contributors, size_t n, float total, float *into) {
    mean_of_codes(bytes, weight, contributors, n, total, into, 4);
}
