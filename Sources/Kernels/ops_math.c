// Elementary functions in double arithmetic from additions, multiplications and divisions alone, so that every C
// library and every machine gives the same bits. Series are long enough for a few units in the last place.
#include "include/kernels_ops.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

static double power_of_two(long exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// The nearest integer, halves away from zero; |x| < 2⁵³.
static double nearest(double x) { return (double)(long long)(x < 0 ? x - 0.5 : x + 0.5); }

double kernels_exp(double x) {
    if (x != x) return x;
    if (x > 709) x = 709;
    if (x < -708) return 0;
    // x = k·ln 2 + r, |r| ≤ ln 2 / 2; ln 2 in two parts, the first with trailing zeros so that k times it is exact.
    const double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    double k = nearest(x * 0x1.71547652b82fep0);
    double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1;
    for (int n = 14; n >= 1; n--) sum = 1 + r * sum / n;
    return sum * power_of_two((long)k);
}

double kernels_log(double x) {
    // x = 2^e · m with m in [√½, √2); log m = 2·artanh((m−1)/(m+1)).
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    long exponent = (long)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        exponent++;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int n = 27; n >= 1; n -= 2) sum = sum * square + 1.0 / n;
    return 2 * s * sum + (double)exponent * 0x1.62e42fefa39efp-1;
}

double kernels_pow(double x, double y) { return kernels_exp(y * kernels_log(x)); }

/// cos(x) for quadrant 0, sin(x) for 3, and so on: the series of x less the nearest multiple of π/2, turned by
/// `quadrant`.
static double turned_cosine(double x, int quadrant) {
    // π/2 in three parts of 33 bits (fdlibm's split): products with k < 2²⁰ are exact.
    const double first = 0x1.921fb54400000p0, second = 0x1.0b4611a600000p-34, third = 0x1.3198a2e037073p-69;
    double k = nearest(x * 0x1.45f306dc9c883p-1);
    double r = ((x - k * first) - k * second) - k * third;
    int turn = (int)(((long long)k + quadrant) & 3);
    double square = r * r, sum = 1;
    if (turn & 1) {
        for (int n = 18; n >= 2; n -= 2) sum = 1 - square / (n * (n + 1)) * sum;
        sum *= r;
    } else {
        for (int n = 18; n >= 2; n -= 2) sum = 1 - square / (n * (n - 1)) * sum;
    }
    return turn == 1 || turn == 2 ? -sum : sum;
}

double kernels_cos(double x) { return turned_cosine(x, 0); }
double kernels_sin(double x) { return turned_cosine(x, 3); }

void kernels_rope_tables(
    ptrdiff_t length, ptrdiff_t half, const double *frequencies, float *cosines, float *sines) {
    for (ptrdiff_t i = 0; i < half; i++) {
        for (ptrdiff_t t = 0; t < length; t++) {
            double angle = (double)t * frequencies[i];
            cosines[t * half + i] = (float)kernels_cos(angle);
            sines[t * half + i] = (float)kernels_sin(angle);
        }
    }
}
