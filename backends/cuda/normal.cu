// Windows of neighbouring functions at samples: their sums, and the rows of the normal equations; see
// `sepnet.backends.contract`.
#include "common.cuh"

// Samples whose share of J' slope one thread adds up.
#define CHUNK 32

// Neighbouring threads write neighbouring numbers of the result, a block `samples` rows of it at a time, so that the
// numbers in it are counted in 32 bits: a 64-bit division a number would cost more than the sum. Per sample, memory:
// the window and the result, 8 + (q + R) numbers; the first cache: q R numbers of the table; 2 q R flops. With q = 4
// the result's bytes bind, as long as the table (M R numbers) stays in the caches.
extern "C" __global__ void __launch_bounds__(256)
    window_values(const Index *first, const REAL *values, const REAL *table, REAL *result, Index n, int width, int rank,
                  int samples) {
    for (Index start = Index(blockIdx.x) * samples; start < n; start += Index(gridDim.x) * samples) {
        const int count = int(smaller(Index(samples), n - start)) * rank;
        for (int e = threadIdx.x; e < count; e += blockDim.x) {
            const Index s = start + e / rank;
            const REAL *row = table + first[s] * rank + e % rank;
            REAL sum = REAL(0);
            for (int m = 0; m < width; ++m) sum += values[s * width + m] * row[Index(m) * rank];
            result[start * rank + e] = sum;
        }
    }
}

// Rows of J times the roots of the curvatures, zeros included, and the shares of chunks of samples in J' slope; one
// launch an axis, whose columns begin at `offset` of `total`. A thread keeps its column: column and function are
// found once a chunk, its sum for the slope stays in a register, and neighbouring threads write neighbouring numbers.
//
// The library's matrix product of the rows follows. Counted, not measured, for a device of 3 TB/s and 50 TFLOP/s in
// its fp64 matrix units: with P = sum_i M_i R_i columns a sample takes 2 P^2 flops, 40 ns at P = 1,000 (5/8 of it for
// large P, see normal.py), and at least 16 P bytes to write and read its row, 5 ns. Rejected: atomic additions of
// what a sample touches, T = sum_i q_i R_i columns. That is T^2 / 2 additions in the second cache, which does at most
// some 500 of fp64 a nanosecond: 1 ns at T = 32, 100 ns at T = 320. With T / P = q / M the two are equal near M = 5
// q, cubics of 20 functions an axis, or more where samples meet at the same numbers. Most fits have fewer; for more,
// atomics could win, but their sums differ from run to run. A second copy of the rows, without the root, for J' slope
// would cost 24 P bytes more.
extern "C" __global__ void __launch_bounds__(256)
    normal_rows(const Index *first, const REAL *values, const REAL *gains, const REAL *root, const REAL *slope,
                REAL *rows, REAL *loads, Index n, int width, int rank, Index length, Index offset, Index total) {
    const Index chunks = (n + CHUNK - 1) / CHUNK, groups = (length + blockDim.x - 1) / blockDim.x;
    for (Index unit = blockIdx.x; unit < chunks * groups; unit += gridDim.x) {
        const Index chunk = unit / groups, column = unit % groups * blockDim.x + threadIdx.x;
        if (column >= length) continue;
        const int function = int(column) / rank, r = int(column) % rank;  // H has P^2 numbers, so P is far below 2^31
        const Index end = smaller(n, (chunk + 1) * CHUNK);
        REAL load = REAL(0);
        for (Index s = chunk * CHUNK; s < end; ++s) {
            const Index m = function - first[s];
            REAL entry = REAL(0);
            if (m >= 0 && m < width) {
                const REAL share = values[s * width + m] * gains[s * rank + r];
                load += slope[s] * share;
                entry = root[s] * share;
            }
            rows[s * total + offset + column] = entry;
        }
        loads[chunk * total + offset + column] = load;
    }
}
