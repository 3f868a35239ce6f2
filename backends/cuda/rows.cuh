// Vectors through the matrices of a tensor train, one point a group of lanes.
//
// The matrices are never formed: with T_m the coefficients of s^m, v G(s) = sum_m s^m (v T_m), one fused step for each
// coefficient read. Lanes lie over the columns, as many as the next power of two, and where that leaves lanes free over
// several rows at a time, whose shares a few shuffles add up: ranks 4-14-20-16-4 fill 24 of 32 lanes, against 12 with
// lanes over the columns alone. What goes from the last axis to the first takes the same way through mirrored tables
// [cells][powers][right][left], made once a call: through the tables as they are each row would need a sum over the
// lanes, as many shuffles as reads.
//
// Vectors are in shared memory, so that any rank goes: `width` numbers each, the largest rank.
#pragma once
#include "places.cuh"

// Where a point is on one axis.
struct Spot {
    REAL s, slope;
    int cell;
};

// Addresses of one table an axis.
struct Tables {
    REAL *table[AXES];
};

// What a block keeps of the train: ends of the axes, and of each rank, from the left of the first axis to the right of
// the last, the binary logarithm of the lanes that lie over it.
struct Train {
    Span spans[AXES];
    int shifts[AXES + 1];
};

__device__ __forceinline__ void fill_train(const Axes &axes, int group, Train &train) {
    for (int i = threadIdx.x; i <= AXES; i += blockDim.x) {
        const int rank = i < AXES ? axes.axis[i].left : 1;
        int shift = 0;
        while ((1 << shift) < rank && (1 << shift) < group) ++shift;
        train.shifts[i] = shift;
    }
    fill_spans(axes, train.spans);
}

// The group's part of the block's dynamic shared memory: `count` vectors, then the spots; `each` bytes.
struct Memory {
    REAL *vectors;
    Spot *spots;
};

__device__ __forceinline__ Memory memory_of(unsigned char *shared, int each, int group, int count) {
    REAL *vectors = reinterpret_cast<REAL *>(shared + threadIdx.x / group * each);
    return {vectors, reinterpret_cast<Spot *>(vectors + count)};
}

// Point number k on all axes; a bad coordinate is reported as number k * AXES + axis and gets a harmless place. The
// warp meets first, for what the last point left in the group's memory; who reads the spots meets it again.
__device__ __forceinline__ void find_spots(const Axes &axes, const Train &train, const REAL *points, Index k, int lane,
                                           int group, Spot *spots, Bad *bad) {
    __syncwarp();
    for (int i = lane; i < AXES; i += group) {
        const Axis &axis = axes.axis[i];
        const REAL x = points[k * AXES + i];
        const int found = find_cell(axis, train.spans[i], x);
        if (found < 0) atomicMin(bad, Bad(k * AXES + i));
        const int cell = larger(found, 0);
        const REAL left = axis.breaks[cell], slope = REAL(2) / (axis.breaks[cell + 1] - left);
        spots[i] = {found < 0 ? REAL(0) : local_of(x, left, slope), slope, cell};
    }
}

// The coefficients of the highest power on a cell.
__device__ __forceinline__ const REAL *top_of(const REAL *table, const Axis &axis, int cell) {
    const int powers = powers_of(axis);
    return table + (Index(cell) * powers + powers - 1) * (Index(axis.left) * axis.right);
}

// A matrix as a polynomial in s, of `rows` by `columns` numbers a power, and how the group's lanes lie over it. Within
// a cell 32 bits hold all places, which the host sees to: 64 would take twice the registers in the innermost loop.
struct Matrix {
    const REAL *top;
    REAL s, slope;
    int powers, rows, columns, shift;
};

__device__ __forceinline__ Matrix matrix_of(const Axes &axes, const Train &train, const Spot *spots, int i) {
    const Axis &axis = axes.axis[i];
    const Spot spot = spots[i];
    return {top_of(axis.table, axis, spot.cell), spot.s,     spot.slope,         powers_of(axis),
            axis.left,                           axis.right, train.shifts[i + 1]};
}

// Its transpose, from the mirrored tables.
__device__ __forceinline__ Matrix mirror_of(const Axes &axes, const Tables &mirrors, const Train &train,
                                            const Spot *spots, int i) {
    const Axis &axis = axes.axis[i];
    const Spot spot = spots[i];
    return {top_of(mirrors.table[i], axis, spot.cell), spot.s,    spot.slope,     powers_of(axis),
            axis.right,                                axis.left, train.shifts[i]};
}

// Sum over the lanes of a group that share a column.
__device__ __forceinline__ REAL column_sum(REAL v, int shift, int group) {
    for (int o = 1 << shift; o < group; o <<= 1) v += __shfl_xor_sync(FULL, v, o);
    return v;
}

// This lane's share of column j of `vector` times the polynomial, and its Taylor coefficients by s up to ORDER.
template <int ORDER>
__device__ __forceinline__ void column_of(const REAL *vector, const Matrix &g, int j, int row, int step,
                                          REAL (&jet)[ORDER + 1]) {
    const int stride = g.rows * g.columns, jump = step * g.columns;
    int at = row * g.columns + j;
#if POWERS
    // all powers of a row at a time: the vector's entry is read once
    REAL sums[POWERS];
#pragma unroll
    for (int m = 0; m < POWERS; ++m) sums[m] = REAL(0);
#pragma unroll 1
    for (int a = row; a < g.rows; a += step, at += jump) {
        const REAL v = vector[a];
#pragma unroll
        for (int m = 0; m < POWERS; ++m) sums[m] += v * __ldg(g.top + (at - m * stride));
    }
#pragma unroll
    for (int m = 0; m < POWERS; ++m) {
        const REAL sum = sums[m];
#else
    for (int m = 0; m < g.powers; ++m, at -= stride) {
        REAL sum = REAL(0);
        for (int a = row, e = at; a < g.rows; a += step, e += jump) sum += vector[a] * __ldg(g.top + e);
#endif
#pragma unroll
        for (int o = ORDER; o > 0; --o) jet[o] = jet[o] * g.s + jet[o - 1];
        jet[0] = jet[0] * g.s + sum;
    }
}

// Write `vector` times the matrix to out[0], its derivatives by x to out[1], ... out[ORDER]; the warp meets at the end.
template <int ORDER>
__device__ __forceinline__ void times(const REAL *vector, const Matrix &g, int lane, int group,
                                      REAL *const (&out)[ORDER + 1]) {
    const int wide = 1 << g.shift;
    for (int start = 0; start < g.columns; start += wide) {
        const int j = start + (lane & (wide - 1));
        REAL jet[ORDER + 1], scale = REAL(1);
#pragma unroll
        for (int o = 0; o <= ORDER; ++o) jet[o] = REAL(0);
        if (j < g.columns) column_of<ORDER>(vector, g, j, lane >> g.shift, group >> g.shift, jet);
#pragma unroll
        for (int o = 0; o <= ORDER; ++o) {
            const REAL sum = column_sum(jet[o], g.shift, group);
            // Horner gives the Taylor coefficient, half the second derivative
            if (lane < wide && j < g.columns) out[o][j] = sum * scale * REAL(larger(o, 1));
            scale *= g.slope;
        }
    }
    __syncwarp();
}

// Make `row`, which nobody reads any more, the one number before the first axis or after the last; the warp meets.
__device__ __forceinline__ void start_with(REAL number, REAL *row, int lane) {
    if (lane == 0) row[0] = number;
    __syncwarp();
}

__device__ __forceinline__ void exchange(REAL *&one, REAL *&other) {
    REAL *const kept = one;
    one = other;
    other = kept;
}

// Product of a row and a column of `count` numbers, on all lanes.
__device__ __forceinline__ REAL dot(const REAL *row, const REAL *column, int count, int lane, int group) {
    REAL sum = REAL(0);
    for (int a = lane; a < count; a += group) sum += row[a] * column[a];
    return group_sum(sum, group);
}
