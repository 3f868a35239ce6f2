// The vector-Jacobian product of a tensor train; see `sepnet.backends.contract`.
//
// Counted per point as in train.cu (cubics of ranks 4-14-20-16-4, float): both ways through the matrices read 23.2 kB
// of coefficients, 182 clocks of L1. The tables' cotangents are 2912 products. Added by atomics, those are 11.6 kB of
// traffic at L2, in double twice that, more than anything else here; and all points of a cell meet at the same places.
// In order, 520 bytes of rows, columns and cells are written; each entry reads a pair of them, neighbouring lanes
// neighbouring columns (728 pairs, from L1 mostly), and there is a stable sort of cell numbers an axis. So for many
// points order may well cost less than atomics; these are the default for batches so small that launches count: one
// against some ten an axis. Rejected: sums in shared memory, block by block, as all cells take 240 kB here.
#include "rows.cuh"

// For sums in a fixed order, the vectors that the tables' cotangents of a point are made of, `total` numbers a point:
// for each axis the row before it in `before`, and in `after` the column after it, where the row before the next axis
// would stand; s and cell on each axis too.
struct Kept {
    REAL *before, *after, *local;
    int *cells;
    int total;
};

// Add the outer product of row and column, times the powers of s, to the coefficients of the point's cell.
__device__ __forceinline__ void spread(const REAL *row, const REAL *column, const Matrix &g, REAL *sums, int cell,
                                       int lane, int group) {
    const int wide = 1 << g.shift;
    const Index stride = Index(g.rows) * g.columns;
    sums += cell * g.powers * stride;
    for (int j = lane & (wide - 1); j < g.columns; j += wide)
        for (int a = lane >> g.shift; a < g.rows; a += group >> g.shift) {
            REAL *entry = sums + Index(a) * g.columns + j;
            REAL share = row[a] * column[j];
            for (int m = 0; m < g.powers; ++m) {
                atomicAdd(entry, share);
                entry += stride;
                share *= g.s;
            }
        }
}

__device__ __forceinline__ void keep(const Kept &kept, const REAL *row, const REAL *column, const Matrix &g, Index k,
                                     int i, int at, int cell, int lane, int group) {
    for (int a = lane; a < g.rows; a += group) kept.before[k * kept.total + at + a] = row[a];
    for (int b = lane; b < g.columns; b += group) kept.after[k * kept.total + at + g.rows + b] = column[b];
    if (lane == 0) {
        kept.local[k * AXES + i] = g.s;
        kept.cells[k * AXES + i] = cell;
    }
}

// Points first, ..., first + n - 1. Columns first, as in the gradient; the row on the way back starts with the
// cotangent. Null addresses tell what is not wanted: `gradient`, sums.table[0] and kept.before.
extern "C" __global__ void __launch_bounds__(256)
    train_vjp(const __grid_constant__ Axes axes, const __grid_constant__ Tables mirrors,
              const __grid_constant__ Tables sums, const __grid_constant__ Kept kept, const REAL *points,
              const REAL *cotangent, REAL *gradient, Index first, Index n, int width, int group, int each, Bad *bad) {
    DYN_SHARED(shared);
    __shared__ Train train;
    fill_train(axes, group, train);
    const Memory memory = memory_of(shared, each, group, (2 + 2 * AXES) * width);
    REAL *const columns = memory.vectors + 2 * width, *const slopes = columns + AXES * width;
    FOR_POINTS(k, active) {
        const Index point = first + (active ? k : n - 1);
        find_spots(axes, train, points, point, lane, group, memory.spots, bad);
        REAL *row = memory.vectors, *next = row + width;
        start_with(REAL(1), columns + (AXES - 1) * width, lane);
#pragma unroll 1
        for (int i = AXES - 1; i >= 0; --i)
            times<1>(columns + i * width, mirror_of(axes, mirrors, train, memory.spots, i), lane, group,
                     {i ? columns + (i - 1) * width : next, slopes + i * width});
        start_with(cotangent[point], row, lane);
        int at = 0;
#pragma unroll 1
        for (int i = 0; i < AXES; ++i) {
            const Matrix g = matrix_of(axes, train, memory.spots, i);
            const REAL *const column = columns + i * width;
            if (gradient) {
                const REAL sum = dot(row, slopes + i * width, g.rows, lane, group);
                if (active && lane == 0) gradient[point * AXES + i] = sum;
            }
            if (active && sums.table[i])
                spread(row, column, g, sums.table[i], memory.spots[i].cell, lane, group);
            if (active && kept.before) keep(kept, row, column, g, k, i, at, memory.spots[i].cell, lane, group);
            at += g.rows;
            if (i == AXES - 1) break;
            times<0>(row, g, lane, group, {next});
            exchange(row, next);
        }
    }
}

// Sums over the points of each cell of axis i, in `parts` parts each: parts of the points in the order of their cells,
// which begin at `begins`. A thread takes all powers of one entry of the matrix; `sums` is [parts][cells][powers][left]
// [right]. No two threads write one place, so the sums depend on the order of the points alone.
extern "C" __global__ void __launch_bounds__(256)
    train_vjp_sums(const __grid_constant__ Axes axes, const __grid_constant__ Kept kept, const Index *order,
                   const Index *begins, REAL *sums, int i, int at, Index parts) {
    constexpr int BLOCK = POWERS ? POWERS : 8;
    const Axis &axis = axes.axis[i];
    const int powers = powers_of(axis);
    const Index stride = Index(axis.left) * axis.right, items = parts * axis.cells * stride;
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < items; e += Index(gridDim.x) * blockDim.x) {
        const Index entry = e % stride, place = e / stride, cell = place % axis.cells, part = place / axis.cells;
        const Index begin = begins[cell], count = begins[cell + 1] - begin;
        const REAL *const before = kept.before + at + entry / axis.right;
        const REAL *const after = kept.after + at + axis.left + entry % axis.right;
        REAL *const out = sums + place * powers * stride + entry;
        for (int base = 0; base < powers; base += BLOCK) {
            REAL total[BLOCK];
#pragma unroll
            for (int m = 0; m < BLOCK; ++m) total[m] = REAL(0);
#pragma unroll 4
            for (Index q = begin + count * part / parts; q < begin + count * (part + 1) / parts; ++q) {
                const Index k = order[q];
                const REAL s = kept.local[k * AXES + i];
                REAL share = before[k * kept.total] * after[k * kept.total];
                for (int m = 0; m < base; ++m) share *= s;
#pragma unroll
                for (int m = 0; m < BLOCK; ++m) {
                    total[m] += share;
                    share *= s;
                }
            }
#pragma unroll
            for (int m = 0; m < BLOCK; ++m)
                if (base + m < powers) out[(base + m) * stride] = total[m];
        }
    }
}
