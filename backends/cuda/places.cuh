// Where a point lies on every axis, found by the lanes of its group together.
#pragma once
#include "common.cuh"

// Columns that a lane reads at once, VECTOR * sizeof(REAL) at most 16 bytes; tables are aligned to that then.
#ifndef VECTOR
#define VECTOR 1
#endif
struct __align__(VECTOR * sizeof(REAL)) Pack {
    REAL v[VECTOR];
};
#define OVER_PACK _Pragma("unroll") for (int q = 0; q < VECTOR; ++q)

struct Axes {
    Axis axis[AXES];
};

// The coefficients of the highest power on the point's cell, the local coordinate s and ds/dx, and the cell's number.
struct Place {
    const REAL *top;
    REAL s, slope;
    int cell;
};

// Number of coefficients per axis and cell, known to the compiler where it can be.
__device__ __forceinline__ int powers_of(const Axis &axis) { return POWERS ? POWERS : axis.powers; }

// The ends of all axes, once a block; the block meets at a barrier.
__device__ __forceinline__ void fill_spans(const Axes &axes, Span *spans) {
    for (int i = threadIdx.x; i < AXES; i += blockDim.x) spans[i] = span_of(axes.axis[i]);
    __syncthreads();
}

// Point number k: lane j of the group places it on the axes j, j + group, ...; the others read the result by shuffles,
// of which ds/dx needs its own. A bad coordinate is reported as number k * AXES + axis, the smallest wins; it gets a
// harmless place.
template <bool SLOPES>
__device__ __forceinline__ void find_places(const Axes &axes, const Span *spans, const REAL *points, Index k, int lane,
                                            int group, Place (&places)[AXES], Bad *bad) {
    const int first = (threadIdx.x & 31) & ~(group - 1);
    int cell = 0;
    REAL s = REAL(0), slope = REAL(1);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        if ((i & (group - 1)) == 0) {
            const int mine = i + lane;
            if (mine < AXES) {
                const REAL x = points[k * AXES + mine];
                const Axis &axis = axes.axis[mine];
                cell = find_cell(axis, spans[mine], x);
                if (cell < 0) {
                    atomicMin(bad, Bad(k * AXES + mine));
                    cell = 0;
                    s = REAL(0);
                } else {
                    const REAL left = axis.breaks[cell];
                    slope = REAL(2) / (axis.breaks[cell + 1] - left);
                    s = local_of(x, left, slope);
                }
            }
        }
        const int from = first + (i & (group - 1));
        const Axis &axis = axes.axis[i];
        const int powers = powers_of(axis);
        const Index c = __shfl_sync(FULL, cell, from);
        places[i].top = axis.table + (c * powers + powers - 1) * (Index(axis.left) * axis.right);
        places[i].s = __shfl_sync(FULL, s, from);
        places[i].cell = int(c);
        places[i].slope = SLOPES ? __shfl_sync(FULL, slope, from) : REAL(1);
    }
}

// Value and Taylor coefficients by x up to ORDER of VECTOR columns from `top` on, by Horner's rule; `stride` numbers
// between powers.
template <int ORDER>
__device__ __forceinline__ void jet_of(const REAL *top, int powers, Index stride, REAL s, REAL slope,
                                       Pack (&jet)[ORDER + 1]) {
    jet[0] = *reinterpret_cast<const Pack *>(top);
#pragma unroll
    for (int o = 1; o <= ORDER; ++o)
        OVER_PACK jet[o].v[q] = REAL(0);
#pragma unroll
    for (int m = 1; m < (POWERS ? POWERS : powers); ++m) {
        top -= stride;
        const Pack next = *reinterpret_cast<const Pack *>(top);
#pragma unroll
        for (int o = ORDER; o > 0; --o)
            OVER_PACK jet[o].v[q] = jet[o].v[q] * s + jet[o - 1].v[q];
        OVER_PACK jet[0].v[q] = jet[0].v[q] * s + next.v[q];
    }
    REAL scale = slope;
#pragma unroll
    for (int o = 1; o <= ORDER; ++o) {
        OVER_PACK jet[o].v[q] *= scale;
        scale *= slope;
    }
}

// Each warp takes 32 / group neighbouring points at a time; its lanes stay together, so that shuffles see all of them.
// Lanes past the last point work on a point that is there, and must not write: `active`.
#define FOR_POINTS(k, active)                                                                                          \
    const int lane = threadIdx.x & (group - 1);                                                                        \
    const Index start = (Index(blockIdx.x) * blockDim.x + threadIdx.x) / group;                                        \
    const Index step = Index(gridDim.x) * blockDim.x / group;                                                          \
    const Index ahead = (threadIdx.x & 31) / group;                                                                    \
    for (Index k = start; k - ahead < n; k += step)                                                                    \
        if (const bool active = k < n; true)
