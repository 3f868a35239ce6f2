// What every kernel shares: the axes, finding a cell, Horner's rule, sums over the lanes of a group.
//
// Set by the compiler's options: REAL, float or double; AXES, the number of axes; POWERS, degree + 1 where all axes have
// one degree, else 0. Rules for all sources here: no headers but these, so that NVRTC needs nothing beside the text; no
// bare double literal, which would turn float code into double code; dynamic shared memory through DYN_SHARED alone.
#pragma once

#ifndef REAL
#define REAL float
#endif
#ifndef DYN_SHARED
#define DYN_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif
#define FULL 0xffffffffu

// Loops over the axes are unrolled while their arrays fit into registers.
#if defined(AXES) && AXES <= 8
#define OVER_AXES _Pragma("unroll")
#else
#define OVER_AXES _Pragma("unroll 1")
#endif

typedef long long Index;
typedef unsigned long long Bad;

// One axis as `sepnet.backends.cuda.layout` packs it; `table` is [cells][powers][left][right], left = 1 for a CP.
struct Axis {
    const REAL *breaks;
    const REAL *table;
    int cells, powers, left, right;
};

template <typename T> __device__ __forceinline__ T larger(T a, T b) { return a > b ? a : b; }
template <typename T> __device__ __forceinline__ T smaller(T a, T b) { return a < b ? a : b; }
__device__ __forceinline__ float magnitude(float a) { return fabsf(a); }
__device__ __forceinline__ double magnitude(double a) { return fabs(a); }
__device__ __forceinline__ float unit(float) { return 1.1920928955078125e-7f; }
__device__ __forceinline__ double unit(double) { return 2.220446049250313e-16; }

// The local coordinate s. Its product is rounded by itself, as on the host: fused with the sum s would differ by half a
// unit of 1, which is many units of s, and of what s is multiplied with, near the middle of a cell.
__device__ __forceinline__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ REAL local_of(REAL x, REAL left, REAL slope) {
    return rounded_product(x - left, slope) - REAL(1);
}

// Ends of an axis with their slack, and cells per unit of length.
struct Span {
    REAL low, high, left, rate;
};

__device__ __forceinline__ Span span_of(const Axis &axis) {
    const REAL left = axis.breaks[0], right = axis.breaks[axis.cells];
    const REAL slack = REAL(4) * unit(left) * larger(magnitude(left), magnitude(right));
    return {left - slack, right + slack, left, REAL(axis.cells) / (right - left)};
}

// Cell of x, or -1 where x is NaN or outside. The first guess is right for uniform breaks; others search by halving.
__device__ __forceinline__ int find_cell(const Axis &axis, const Span &span, REAL x) {
    if (!(x >= span.low && x <= span.high)) return -1;
    const REAL *b = axis.breaks;
    const int last = axis.cells - 1;
    int low = 0, high = last;
    const int guess = smaller(larger(int((x - span.left) * span.rate), 0), last);
    if (guess == 0 || x >= b[guess]) {
        if (guess == last || x < b[guess + 1]) return guess;
        low = guess + 1;
    } else {
        high = guess - 1;
    }
    while (low < high) {
        const int middle = (low + high + 1) >> 1;
        if (x >= b[middle]) low = middle;
        else high = middle - 1;
    }
    return low;
}

// Sum over the lanes of a group (a power of two, at most a warp); all lanes of the warp must take part.
__device__ __forceinline__ REAL group_sum(REAL v, int group) {
    for (int o = group >> 1; o > 0; o >>= 1) v += __shfl_xor_sync(FULL, v, o);
    return v;
}
