// Value, columns, gradient and Hessian of a CP function at scattered points; see `sepnet.backends.contract`.
//
// A group of lanes, as many as there are columns (or wide loads of columns) but at most a warp, takes one point: its
// lanes read neighbouring coefficients, so a row of the table is one line of the cache. One thread a point would read
// 32 rows at a time, a sector each.
//
// Bounds of a value, for d axes, p + 1 powers, rank R, numbers of b bytes: (d + 1) b bytes from and to memory; 2 p d R
// flops of Horner's rule and d R products; (p + 1) d R b bytes of the tables from the first-level cache. For six cubics
// of rank 16 in double these are 56 bytes (19 ps at 3 TB/s), 670 flops (20 ps at 33.5 TFLOP/s) and 3,072 bytes (104 ps
// at 132 x 128 bytes x 1.755 GHz): the cache binds, at a fifth of what memory and arithmetic allow, in float too. A
// gradient reads the same for 1.9 times the flops, so that it costs little more.
//
// Rejected, by count, as nothing here was measured: sorting the points by cell, so that one reading serves many of them
// (in all axes at once: the sort of 1e8 points takes three times as long as their values; axis by axis within a block:
// the running products then go through shared memory, which saves a half at best); matrix units on the whole basis
// matrix (7,300 flops a point, as long as the cache takes). Tables in shared memory have the same rate as the cache.
#include "cp.cuh"

extern "C" __global__ void __launch_bounds__(256) cp_value(const __grid_constant__ Axes axes, const REAL *points,
                                                           REAL *value, Index n, int rank, int group, Bad *bad) {
    __shared__ Span spans[AXES];
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<false>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        const REAL sum = group_sum(value_of(axes, places, rank, lane, group), group);
        if (active && lane == 0) value[k] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    cp_columns(const __grid_constant__ Axes axes, const REAL *points, REAL *columns, Index n, int rank, int group,
               Bad *bad) {
    __shared__ Span spans[AXES];
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<false>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        for (int r = lane * VECTOR; r < rank; r += group * VECTOR) {
            const Pack product = product_of(axes, places, rank, r);
            if (active) *reinterpret_cast<Pack *>(columns + k * rank + r) = product;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    cp_gradient(const __grid_constant__ Axes axes, const REAL *points, REAL *value, REAL *gradient, Index n, int rank,
                int group, Bad *bad) {
    __shared__ Span spans[AXES];
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<true>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        REAL sums[AXES + 1];
        gradient_of(axes, places, rank, lane, group, sums);
        OVER_AXES
        for (int i = 0; i <= AXES; ++i) {
            const REAL sum = group_sum(sums[i], group);
            if (active && lane == 0) (i ? gradient + (k * AXES + i - 1) : value + k)[0] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    cp_hessian(const __grid_constant__ Axes axes, const REAL *points, REAL *value, REAL *gradient, REAL *hessian,
               Index n, int rank, int group, Bad *bad) {
    __shared__ Span spans[AXES];
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<true>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        REAL sums[AXES + 1], second[AXES * (AXES + 1) / 2];
        hessian_of(axes, places, rank, lane, group, sums, second);
        OVER_AXES
        for (int i = 0; i <= AXES; ++i) {
            const REAL sum = group_sum(sums[i], group);
            if (active && lane == 0) (i ? gradient + (k * AXES + i - 1) : value + k)[0] = sum;
        }
        OVER_AXES
        for (int i = 0; i < AXES; ++i)
            OVER_AXES
            for (int j = i; j < AXES; ++j) {
                const REAL sum = group_sum(second[entry(i, j)], group);
                if (active && lane == 0) {
                    hessian[(k * AXES + i) * AXES + j] = sum;
                    hessian[(k * AXES + j) * AXES + i] = sum;
                }
            }
    }
}
