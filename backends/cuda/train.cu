// Value, gradient and Hessian of a tensor train at scattered points; see `sepnet.backends.contract`.
//
// Counted for cubics of ranks 4-14-20-16-4, six axes, 2912 coefficients a point (728 entries, four powers each), in
// float; per point, and per clock of one multiprocessor of sm_90 (128 bytes from L1, 128 fused steps; in double twice
// the bytes and half the steps):
//
//                coefficients   reads of a warp     fused   shuffles   memory   bound by L1   by arithmetic
//     value        11.6 kB     120, 30 of shared   3,100       13       28 B     91 clocks     25 clocks
//     gradient     23.2 kB     244, 73             6,600       64       52 B    182            51
//     Hessian      23.2 kB     244, 212           13,000      206      196 B    182           101
//
// So the cache binds: L1 where the tables fit in what is left of it, else L2, which gives less; memory never does. The
// reads of lanes without work cost a quarter: 91 reads of full warps would do for a value. What would lift the bound is
// to read a coefficient once for many points, sorted by cell anew for each axis: rejected, since sorting and rows that
// go through memory (600 bytes a point) leave a factor of three at best, of which small batches would see none.
// Rejected too: forming the matrices in shared memory for the way back, 3 kB a point taken from L1; one thread a point,
// whose lanes read from 32 cells at a time; two rows at a time in the innermost loop, 62 registers for 47. The kernels
// take 40 to 64 registers and spill nothing to speak of (28 bytes, in the Hessian in float on sm_90).
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(256)
    train_value(const __grid_constant__ Axes axes, const REAL *points, REAL *value, Index n, int width, int group,
                int each, Bad *bad) {
    DYN_SHARED(shared);
    __shared__ Train train;
    fill_train(axes, group, train);
    const Memory memory = memory_of(shared, each, group, 2 * width);
    FOR_POINTS(k, active) {
        find_spots(axes, train, points, active ? k : n - 1, lane, group, memory.spots, bad);
        REAL *row = memory.vectors, *next = row + width;
        start_with(REAL(1), row, lane);
#pragma unroll 1
        for (int i = 0; i < AXES; ++i) {
            times<0>(row, matrix_of(axes, train, memory.spots, i), lane, group, {next});
            exchange(row, next);
        }
        if (active && lane == 0) value[k] = row[0];
    }
}

// Columns first, from the last axis to the first; the derivative of each matrix times the column after it is kept, and
// what comes with the row before it is an entry of the gradient.
extern "C" __global__ void __launch_bounds__(256)
    train_gradient(const __grid_constant__ Axes axes, const __grid_constant__ Tables mirrors, const REAL *points,
                   REAL *value, REAL *gradient, Index n, int width, int group, int each, Bad *bad) {
    DYN_SHARED(shared);
    __shared__ Train train;
    fill_train(axes, group, train);
    const Memory memory = memory_of(shared, each, group, (2 + AXES) * width);
    REAL *const slopes = memory.vectors + 2 * width;
    FOR_POINTS(k, active) {
        find_spots(axes, train, points, active ? k : n - 1, lane, group, memory.spots, bad);
        REAL *row = memory.vectors, *next = row + width;
        start_with(REAL(1), row, lane);
#pragma unroll 1
        for (int i = AXES - 1; i >= 0; --i) {
            times<1>(row, mirror_of(axes, mirrors, train, memory.spots, i), lane, group,
                     {next, slopes + i * width});
            exchange(row, next);
        }
        if (active && lane == 0) value[k] = row[0];
        start_with(REAL(1), row, lane);
#pragma unroll 1
        for (int i = 0; i < AXES; ++i) {
            const REAL sum = dot(row, slopes + i * width, axes.axis[i].left, lane, group);
            if (active && lane == 0) gradient[k * AXES + i] = sum;
            if (i == AXES - 1) break;
            times<0>(row, matrix_of(axes, train, memory.spots, i), lane, group, {next});
            exchange(row, next);
        }
    }
}

// Rows that go through one matrix together, so that its entries are formed once: all, but for many axes.
constexpr int TOGETHER = AXES < 3 ? 1 : AXES < 9 ? AXES - 1 : 8;

// `count` rows of `width` numbers times the matrix, and behind them the first one times the derivative by x.
__device__ __forceinline__ void carry(const REAL *rows, int count, int width, const Matrix &g, int lane, int group,
                                      REAL *out) {
    const int wide = 1 << g.shift, step = group >> g.shift;
    const int stride = g.rows * g.columns;
#pragma unroll 1
    for (int base = 0; base < count; base += TOGETHER) {
        const REAL *const mine = rows + base * width;
        const int there = smaller(count - base, TOGETHER);
#pragma unroll 1
        for (int start = 0; start < g.columns; start += wide) {
            const int j = start + (lane & (wide - 1));
            REAL sums[TOGETHER], bent = REAL(0);
#pragma unroll
            for (int q = 0; q < TOGETHER; ++q) sums[q] = REAL(0);
            int at = (lane >> g.shift) * g.columns + j;
            for (int a = lane >> g.shift; a < g.rows && j < g.columns; a += step, at += step * g.columns) {
                REAL jet[2] = {REAL(0), REAL(0)};
#pragma unroll
                for (int m = 0; m < (POWERS ? POWERS : g.powers); ++m) {
                    jet[1] = jet[1] * g.s + jet[0];
                    jet[0] = jet[0] * g.s + __ldg(g.top + (at - m * stride));
                }
                bent += rows[a] * jet[1];
#pragma unroll
                for (int q = 0; q < TOGETHER; ++q)
                    if (q < there) sums[q] += mine[q * width + a] * jet[0];
            }
            const bool writes = lane < wide && j < g.columns;
#pragma unroll
            for (int q = 0; q < TOGETHER; ++q)
                if (q < there) {
                    const REAL sum = column_sum(sums[q], g.shift, group);
                    if (writes) out[(base + q) * width + j] = sum;
                }
            if (base == 0) {
                bent = column_sum(bent, g.shift, group);
                if (writes) out[count * width + j] = bent * g.slope;
            }
        }
    }
    __syncwarp();
}

// As the gradient, with the second derivatives of the matrices too; on the way to the last axis the row before axis i
// times its derivative goes along, for the entries with each axis after it.
extern "C" __global__ void __launch_bounds__(256)
    train_hessian(const __grid_constant__ Axes axes, const __grid_constant__ Tables mirrors, const REAL *points,
                  REAL *value, REAL *gradient, REAL *hessian, Index n, int width, int group, int each, Bad *bad) {
    DYN_SHARED(shared);
    __shared__ Train train;
    fill_train(axes, group, train);
    const int block = AXES * width;
    const Memory memory = memory_of(shared, each, group, 4 * block);
    REAL *const slopes = memory.vectors + 2 * block, *const bends = slopes + block;
    FOR_POINTS(k, active) {
        find_spots(axes, train, points, active ? k : n - 1, lane, group, memory.spots, bad);
        REAL *rows = memory.vectors, *next = rows + block;
        start_with(REAL(1), rows, lane);
#pragma unroll 1
        for (int i = AXES - 1; i >= 0; --i) {
            times<2>(rows, mirror_of(axes, mirrors, train, memory.spots, i), lane, group,
                     {next, slopes + i * width, bends + i * width});
            exchange(rows, next);
        }
        if (active && lane == 0) value[k] = rows[0];
        start_with(REAL(1), rows, lane);
#pragma unroll 1
        for (int i = 0; i < AXES; ++i) {
            const int left = axes.axis[i].left;
            const REAL *const slope = slopes + i * width;
            const REAL first = dot(rows, slope, left, lane, group);
            const REAL second = dot(rows, bends + i * width, left, lane, group);
            if (active && lane == 0) {
                gradient[k * AXES + i] = first;
                hessian[(k * AXES + i) * AXES + i] = second;
            }
#pragma unroll 1
            for (int l = 0; l < i; ++l) {
                const REAL mixed = dot(rows + (l + 1) * width, slope, left, lane, group);
                if (active && lane == 0) {
                    hessian[(k * AXES + l) * AXES + i] = mixed;
                    hessian[(k * AXES + i) * AXES + l] = mixed;
                }
            }
            if (i == AXES - 1) break;
            carry(rows, i + 1, width, matrix_of(axes, train, memory.spots, i), lane, group, next);
            exchange(rows, next);
        }
    }
}
