// The mean of several int8 or int4 messages, part of codec_template.h: part by part, each contributor's
// values in turn, in their order.

typedef float sixteen_floats __attribute__((vector_size(64)));
typedef int8_t sixteen_codes __attribute__((vector_size(16)));
typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));

/// Values that are added up at once; a block is a multiple of it.
#define MEAN_STEP 64

static inline __attribute__((always_inline)) void add_codes(
    sixteen_floats *sum, sixteen_codes q, float scale, float weight) {
    sixteen_floats value = __builtin_convertvector(q, sixteen_floats) * scale;
    sixteen_floats product = value * weight;
    *sum = *sum + product;
}

/// 32 halves as codes: those of even places, and those of odd ones.
static inline __attribute__((always_inline)) void spread_halves(
    const uint8_t *halves, sixteen_codes *even, sixteen_codes *odd) {
    sixteen_bytes both;
    memcpy(&both, halves, 16);
    *even = (sixteen_codes)((both & 15) - 8);
    *odd = (sixteen_codes)((both >> 4) - 8);
}

/// Values of a part: its sums stay in the first cache, and each message is read a page or half of one at a time.
#define MEAN_PART 8192

/// Adds `count` values (a multiple of 64) to `sums`; for halves those of each 32 values are the even ones, then the odd
/// ones. `bits` is a constant.
static inline __attribute__((always_inline)) void add_part(
    const uint8_t *restrict scales, const uint8_t *restrict q, size_t count, float weight, size_t bits,
    sixteen_floats *restrict sums) {
    for (size_t i = 0; i < count; i += MEAN_STEP, q += MEAN_STEP * bits / 8, sums += 4) {
        float scale = load(scales, i / BLOCK);
        sixteen_codes codes[4];
        // The same message's next part, for when its turn comes again.
        __builtin_prefetch((const void *)((uintptr_t)q + MEAN_PART * bits / 8), 0, 2);
        if (bits == 8) {
            memcpy(codes, q, 64);
        } else {
            spread_halves(q, codes, codes + 1);
            spread_halves(q + 16, codes + 2, codes + 3);
        }
        for (size_t j = 0; j < 4; j++) add_codes(sums + j, codes[j], scale, weight);
    }
}

static inline __attribute__((always_inline)) void interleave(sixteen_floats *first, sixteen_floats *second) {
    sixteen_floats even = *first, odd = *second;
    *first = __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *second = __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

static inline __attribute__((always_inline)) void mean_of_codes(
    const uint8_t *const *restrict bytes, const float *restrict weight, size_t contributors, size_t n, float total,
    float *restrict into, size_t bits) {
    bool is_large = n >= 1 << 20 && ((uintptr_t)into & 63) == 0;
    size_t scales = scale_bytes(n), whole = n - n % MEAN_STEP;
    sixteen_floats sums[MEAN_PART / 16];
    for (size_t start = 0; start < whole; start += MEAN_PART) {
        size_t count = codec_least(whole - start, MEAN_PART);
        memset(sums, 0, 4 * count);
        for (size_t c = 0; c < contributors; c++)
            add_part(
                bytes[c] + 4 * (start / BLOCK), bytes[c] + scales + start * bits / 8, count, weight[c], bits, sums);
        for (size_t i = 0; i < count / 16; i += 2) {
            sixteen_floats first = sums[i] / total, second = sums[i + 1] / total;
            if (bits == 4) interleave(&first, &second);
            float *to = into + start + 16 * i;
            if (is_large) {
                __builtin_nontemporal_store(first, (sixteen_floats *)to);
                __builtin_nontemporal_store(second, (sixteen_floats *)(to + 16));
            } else {
                memcpy(to, &first, 64);
                memcpy(to + 16, &second, 64);
            }
        }
    }
    for (size_t i = whole; i < n; i++) {
        float sum = 0;
        for (size_t c = 0; c < contributors; c++) {
            const uint8_t *q = bytes[c] + scales;
            int code = bits == 8 ? (int8_t)q[i] : (q[i / 2] >> i % 2 * 4 & 15) - 8;
            float value = (float)code * load(bytes[c], i / BLOCK);
            float product = weight[c] * value;
            sum = sum + product;
        }
        into[i] = sum / total;
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
