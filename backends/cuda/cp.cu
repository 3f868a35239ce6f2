// Value, gradient and Hessian of a CP function at scattered points; see `sepnet.backends.contract`.
//
// A group of lanes, as many as there are columns but at most a warp, takes one point: its lanes read neighbouring
// coefficients, so a row of the table is one line of the cache. One thread a point would read 32 rows at a time, a
// sector each.
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
