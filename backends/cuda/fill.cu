// The matrices H = sum_j A_j (x) W_j of ALS steps, each number computed once and written once; see
// `sepnet.backends.contract`.
//
// A block takes a strip of STRIP basis indices i, one rank index r and COLUMNS columns (k, s) of H at a time. Threads
// run over the columns, so that writes, and reads of W_j[r, :], are of neighbours; A_j[i, k] is one number for all
// lanes of a warp (of R >= 32). The row r of all W_j, J R numbers, is read from the second cache once for all i of
// the strip and all k of the columns. Bytes: H once, 170 MB for N = 36, R = 128 in double precision, 57 us at 3 TB/s;
// the plain expression, a product (N^2, J) x (J, R^2) and a permutation, writes, reads and writes that, three times
// as much, and ten times where the band is unpacked and two triangles are cut out and added. The counts below are of
// a device with 132 multiprocessors, each with one access of 128 bytes a cycle of 1.75 GHz to its first cache; none
// is measured.
#include "common.cuh"

#define STRIP 4
#define COLUMNS 1024

// What a block does at a time: the basis indices i to i + STRIP - 1, the rank index r, and a range of columns.
struct Unit {
    int i, r, begin, end;
};

__device__ __forceinline__ Unit unit_of(Index number, int rank, int columns) {
    const int chunks = (columns + COLUMNS - 1) / COLUMNS, begin = int(number % chunks) * COLUMNS;
    const Index row = number / chunks;
    return {int(row / rank) * STRIP, int(row % rank), begin, smaller(begin + COLUMNS, columns)};
}

// Each W_j[r, s] serves STRIP numbers: 1.5 accesses of the first cache a term and number instead of 3. The writes
// bind up to J = 13 terms (fp64), these accesses beyond.
extern "C" __global__ void __launch_bounds__(256)
    fill_dense(const REAL *matrices, const REAL *weights, REAL *result, Index units, int rows, int columns, int rank,
               int terms) {
    const int width = columns * rank;
    for (Index number = blockIdx.x; number < units; number += gridDim.x) {
        const Unit u = unit_of(number, rank, width);
        for (int c = u.begin + threadIdx.x; c < u.end; c += blockDim.x) {
            const int k = c / rank, s = c % rank;
            const REAL *w = weights + Index(u.r) * rank + s, *a[STRIP];
            REAL sums[STRIP];
#pragma unroll
            for (int t = 0; t < STRIP; ++t) {
                a[t] = matrices + Index(smaller(u.i + t, rows - 1)) * columns + k;
                sums[t] = REAL(0);
            }
            for (int j = 0; j < terms; ++j, w += Index(rank) * rank) {
                const REAL weight = *w;
#pragma unroll
                for (int t = 0; t < STRIP; ++t) sums[t] += a[t][j * Index(rows) * columns] * weight;
            }
#pragma unroll
            for (int t = 0; t < STRIP; ++t)
                if (u.i + t < rows) result[(Index(u.i + t) * rank + u.r) * width + c] = sums[t];
        }
    }
}

// The lower bands of the A_j, (J, N, width), the weights, and the transposes of the weights where they are needed.
struct Bands {
    const REAL *bands, *weights, *flipped;
    int size, width, rank, terms;
};

// sum_j A_j[i, k] W_j[r, s] for i >= k, where `weights` may be the transposes. Only inside the band are there sums, 7
// in 36 numbers for cubics of N = 36, so that a number at a time, with 3 accesses of the first cache a term, still
// hides behind the writes up to J = 30.
__device__ __forceinline__ REAL entry_of(const Bands &h, const REAL *weights, int i, int r, int k, int s) {
    const int o = i - k;
    if (o >= h.width) return REAL(0);
    const REAL *a = h.bands + Index(k) * h.width + o, *w = weights + Index(r) * h.rank + s;
    const Index next = Index(h.size) * h.width, after = Index(h.rank) * h.rank;
    REAL sum = REAL(0);
    for (int j = 0; j < h.terms; ++j, a += next, w += after) sum += *a * *w;
    return sum;
}

// H[(i, r), (k, s)] by the entry at or below the diagonal that equals it: with the transposed weights at hand the
// lanes read neighbours in both cases.
__device__ __forceinline__ REAL symmetric_entry(const Bands &h, int i, int r, int k, int s) {
    const bool below = i > k || (i == k && r >= s);
    return entry_of(h, below ? h.weights : h.flipped, larger(i, k), r, smaller(i, k), s);
}

extern "C" __global__ void __launch_bounds__(256)
    fill_dense_from_bands(const __grid_constant__ Bands h, REAL *result, Index units) {
    const int width = h.size * h.rank;
    for (Index number = blockIdx.x; number < units; number += gridDim.x) {
        const Unit u = unit_of(number, h.rank, width);
        const int stop = smaller(u.i + STRIP, h.size);
        for (int c = u.begin + threadIdx.x; c < u.end; c += blockDim.x) {
            const int k = c / h.rank, s = c % h.rank;
            for (int i = u.i; i < stop; ++i)
                result[(Index(i) * h.rank + u.r) * width + c] = symmetric_entry(h, i, u.r, k, s);
        }
    }
}

// The columns of a row in the blocks: those of the block before the diagonal one, then those of the diagonal one,
// with zeros where the function of the column comes after that of the row. Rows and columns beyond N are the
// identity's. 2 B (g R)^2 numbers: 28 MB where H has 170 MB and g = 3. Two thirds of them are sums, so the writes
// bind up to J = 10.
extern "C" __global__ void __launch_bounds__(256)
    fill_blocks(const __grid_constant__ Bands h, REAL *diagonal, REAL *below, Index units, int group, int blocks) {
    const int side = group * h.rank;
    for (Index number = blockIdx.x; number < units; number += gridDim.x) {
        const Unit u = unit_of(number, h.rank, 2 * side);
        const int stop = smaller(u.i + STRIP, blocks * group);
        for (int c = u.begin + threadIdx.x; c < u.end; c += blockDim.x) {
            const int ahead = c / h.rank, s = c % h.rank;
            for (int i = u.i; i < stop; ++i) {
                const int block = i / group, k = (block - 1) * group + ahead;
                if (k < 0) continue;
                REAL entry = REAL(i == k && u.r == s);
                if (i < h.size && k < h.size) entry = k <= i ? entry_of(h, h.weights, i, u.r, k, s) : REAL(0);
                const Index row = Index(i % group) * h.rank + u.r;
                if (c < side) below[(Index(block - 1) * side + row) * side + c] = entry;
                else diagonal[(Index(block) * side + row) * side + c - side] = entry;
            }
        }
    }
}
