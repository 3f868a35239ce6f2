// The vector-Jacobian product of a CP function at scattered points; see `sepnet.backends.contract`.
//
// To the points: the sum over the columns of cotangent times gradient (`cp_pull`). To the tables, per column r of axis
// i: the sum over the points of cell c of gain s^m, the gain being the cotangent times the product of the other
// factors. That is d (p + 1) R additions a point, 384 for six cubics of rank 16, to cells that are few: what binds is
// where these additions go.
//
// `cp_spread`, for tables that fit into shared memory by slices of `width` columns: a block takes a part of the points,
// a tile at a time. First its lanes write the gains of the tile; then each (axis, column) is added up by one thread,
// which owns that column of the block's private sums and takes the points in their order. There is no atomic addition
// and no conflict of writers, and the bits depend on the parts alone, whatever block takes them. The sums of the parts
// go to memory, and `cp_spread_sum` adds them in a fixed order. Columns are independent of each other, so that the
// slices repeat nothing but finding the cells. Tables of which not even a sector of 32 bytes a row fits (about 1,600
// cubic cells over all axes) are cut into windows of rows too, and then each window takes all gains again.
//
// `cp_spread_atomic`, for such tables where any order will do: one atomic addition in memory for each number, 384 a
// point, up to 32 neighbouring columns at a time.
//
// Bound of `cp_spread` a point: d R / 32 warps each read a gain, s and a row and read and write p + 1 sums, and the
// gains were written before; one access of a warp takes the multiprocessor's shared memory a clock in float, two in
// double. For six cubics of rank 16 these are 36 clocks in float, 66 in double. Beside it, in numbers of b bytes: d (p
// + 1) R b bytes of the tables from the first-level cache (12 or 24 clocks), (2 p d + 3 d + 2 d (p + 1)) R flops (about
// 1,600: 6 clocks in float) and (d + 1) b bytes from memory. So shared memory binds: 6e9 points a second in float, 3e9
// in double, on 132 multiprocessors at 1.7 GHz. `cp_pull` has the bound of the gradient (cp.cu).
//
// Rejected: atomic additions in shared memory, which for floats are a loop of compare and swap, two or three times the
// traffic, and more where points share a cell; atomic additions in memory for all tables, 48 sectors a point at about
// one sector a clock and slice of the second-level cache, 2e9 points a second if no slice is busier than others;
// sorting the points by cell for each axis: d sorts, of which one alone takes longer than all of the above.
#include "places.cuh"

// One number a point, or one for each column too.
struct Cotangent {
    const REAL *numbers;
    int columns;  // 1 or the rank

    __device__ __forceinline__ Pack at(Index k, int r) const {
        Pack found;
        if (columns > 1) found = *reinterpret_cast<const Pack *>(numbers + k * columns + r);
        else OVER_PACK found.v[q] = numbers[k];
        return found;
    }
};

// Sizes of `cp_spread`; see `sepnet.backends.cuda.cp_vjp`.
struct Plan {
    Index n, rows;                   // points; rows (axis, cell, power) of all tables
    int rank, parts, slices, width;  // columns in all; parts of the points; slices of `width` columns
    int window, tile;                // rows that a block adds up at a time; points of a tile
};

// First row of each axis, once a block; before a barrier.
__device__ __forceinline__ void fill_bases(const Axes &axes, Index *bases) {
    if (threadIdx.x == 0) {
        Index base = 0;
        for (int i = 0; i < AXES; ++i) {
            bases[i] = base;
            base += Index(axes.axis[i].cells) * powers_of(axes.axis[i]);
        }
    }
}

// What the value owes to the factors of each axis (ORDER 0) or to the coordinate by them (ORDER 1), for VECTOR columns
// from r on; `before` is their cotangent.
template <int ORDER>
__device__ __forceinline__ void gains_of(const Axes &axes, const Place (&places)[AXES], int rank, int r, Pack before,
                                         Pack (&gains)[AXES]) {
    Pack factor[AXES], after;
    OVER_PACK after.v[q] = REAL(1);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        Pack jet[ORDER + 1];
        jet_of<ORDER>(places[i].top + r, powers_of(axes.axis[i]), rank, places[i].s, places[i].slope, jet);
        factor[i] = jet[0];
        OVER_PACK {
            gains[i].v[q] = before.v[q] * (ORDER ? jet[ORDER].v[q] : REAL(1));
            before.v[q] *= jet[0].v[q];
        }
    }
    OVER_AXES
    for (int i = AXES - 1; i >= 0; --i)
        OVER_PACK {
            gains[i].v[q] *= after.v[q];
            after.v[q] *= factor[i].v[q];
        }
}

extern "C" __global__ void __launch_bounds__(256)
    cp_pull(const __grid_constant__ Axes axes, const REAL *points, const Cotangent cotangent, REAL *result, Index n,
            int rank, int group, Bad *bad) {
    __shared__ Span spans[AXES];
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<true>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        REAL sums[AXES];
        OVER_AXES
        for (int i = 0; i < AXES; ++i) sums[i] = REAL(0);
        for (int r = lane * VECTOR; active && r < rank; r += group * VECTOR) {
            Pack gains[AXES];
            gains_of<1>(axes, places, rank, r, cotangent.at(k, r), gains);
            OVER_AXES
            for (int i = 0; i < AXES; ++i)
                OVER_PACK sums[i] += gains[i].v[q];
        }
        OVER_AXES
        for (int i = 0; i < AXES; ++i) {
            const REAL sum = group_sum(sums[i], group);
            if (active && lane == 0) result[k * AXES + i] = sum;
        }
    }
}

// The shared memory of `cp_spread`: sums [window][width], and of the tile gains [tile][AXES][width], s and the row of
// the cell's first power in the window, both [tile][AXES].
struct Tile {
    REAL *sums, *gains, *s;
    int *row;
};

__device__ __forceinline__ Tile tile_of(unsigned char *memory, const Plan &plan) {
    Tile t;
    t.gains = reinterpret_cast<REAL *>(memory);
    t.sums = t.gains + plan.tile * AXES * plan.width;
    t.s = t.sums + plan.window * plan.width;
    t.row = reinterpret_cast<int *>(t.s + plan.tile * AXES);
    return t;
}

// Gains and places of `count` points from `from` on; `r` is the first column of the slice, `row` of the window.
__device__ __forceinline__ void fill_tile(const Axes &axes, const Span *spans, const Index *bases, const REAL *points,
                                          const Cotangent &cotangent, const Plan &plan, Index from, int count, int r,
                                          Index row, const Tile &t, Bad *bad) {
    const int group = plan.width / VECTOR, lane = threadIdx.x & (group - 1);
    for (int p = threadIdx.x / group; p < plan.tile; p += blockDim.x / group) {
        const Index k = from + smaller(p, count - 1);
        Place places[AXES];
        find_places<false>(axes, spans, points, k, lane, group, places, bad);
        const int column = r + lane * VECTOR;
        Pack gains[AXES];
        if (column < plan.rank) {
            gains_of<0>(axes, places, plan.rank, column, cotangent.at(k, column), gains);
            OVER_AXES
            for (int i = 0; i < AXES; ++i)
                *reinterpret_cast<Pack *>(t.gains + (p * AXES + i) * plan.width + lane * VECTOR) = gains[i];
        }
        if (lane) continue;
        OVER_AXES
        for (int i = 0; i < AXES; ++i) {
            // all rows of a cell that lies before the window are negative, and an int holds them
            const int powers = powers_of(axes.axis[i]);
            const Index first = bases[i] + Index(places[i].cell) * powers - row;
            t.row[p * AXES + i] = int(smaller(larger(first, Index(-powers)), Index(plan.window)));
            t.s[p * AXES + i] = places[i].s;
        }
    }
}

// Each thread adds the tile's points, in their order, to its own columns.
__device__ __forceinline__ void add_tile(const Axes &axes, const Plan &plan, int count, int columns, const Tile &t) {
    const REAL *__restrict__ gains = t.gains, *__restrict__ locals = t.s;
    const int *__restrict__ rows = t.row;
    for (int own = threadIdx.x; own < AXES * plan.width; own += blockDim.x) {
        const int i = own / plan.width, r = own & (plan.width - 1), powers = powers_of(axes.axis[i]);
        if (r >= columns) continue;
        for (int p = 0; p < count; ++p) {
            const int row = rows[p * AXES + i];
            const REAL s = locals[p * AXES + i];
            REAL gain = gains[p * AXES * plan.width + own];
#pragma unroll
            for (int m = 0; m < (POWERS ? POWERS : powers); ++m) {
                if (unsigned(row + m) < unsigned(plan.window)) t.sums[(row + m) * plan.width + r] += gain;
                gain *= s;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128)
    cp_spread(const __grid_constant__ Axes axes, const REAL *points, const Cotangent cotangent, REAL *partial,
              const __grid_constant__ Plan plan, Bad *bad) {
    DYN_SHARED(memory);
    __shared__ Span spans[AXES];
    __shared__ Index bases[AXES];
    fill_bases(axes, bases);
    fill_spans(axes, spans);
    const Tile t = tile_of(memory, plan);
    const Index windows = (plan.rows + plan.window - 1) / plan.window;
    const Index size = (plan.n + plan.parts - 1) / plan.parts;
    for (Index job = blockIdx.x; job < windows * plan.slices * plan.parts; job += gridDim.x) {
        const Index row = job % windows * plan.window, part = job / windows / plan.slices;
        const int r = int(job / windows % plan.slices) * plan.width;
        const int columns = smaller(plan.width, plan.rank - r);
        const int rows = int(smaller(Index(plan.window), plan.rows - row));
        const Index end = smaller((part + 1) * size, plan.n);
        // each number is set to zero by the thread that wrote it out for the job before: no barrier between these
        for (int q = threadIdx.x; q < plan.window * plan.width; q += blockDim.x) t.sums[q] = REAL(0);
        for (Index from = part * size; from < end; from += plan.tile) {
            const int count = int(smaller(Index(plan.tile), end - from));
            fill_tile(axes, spans, bases, points, cotangent, plan, from, count, r, row, t, bad);
            __syncthreads();
            add_tile(axes, plan, count, columns, t);
            __syncthreads();
        }
        for (int q = threadIdx.x; q < rows * plan.width; q += blockDim.x) {
            const int column = q & (plan.width - 1);
            if (column < columns)
                partial[(part * plan.rows + row + q / plan.width) * plan.rank + r + column] = t.sums[q];
        }
    }
}

// The sums of the parts, of `size` numbers each: a warp takes 32 neighbouring numbers and every eighth part; the eight
// sums are added in their order.
extern "C" __global__ void __launch_bounds__(256)
    cp_spread_sum(const REAL *partial, REAL *result, Index size, int parts) {
    __shared__ REAL sums[256];
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    for (Index first = Index(blockIdx.x) * 32; first < size; first += Index(gridDim.x) * 32) {
        REAL sum = REAL(0);
        if (first + lane < size)
            for (Index part = warp; part < parts; part += 8) sum += partial[part * size + first + lane];
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (warp == 0 && first + lane < size) {
            for (int other = 1; other < 8; ++other) sum += sums[other * 32 + lane];
            result[first + lane] = sum;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(256)
    cp_spread_atomic(const __grid_constant__ Axes axes, const REAL *points, const Cotangent cotangent, REAL *result,
                     Index n, int rank, int group, Bad *bad) {
    __shared__ Span spans[AXES];
    __shared__ Index bases[AXES];
    fill_bases(axes, bases);
    fill_spans(axes, spans);
    FOR_POINTS(k, active) {
        Place places[AXES];
        find_places<false>(axes, spans, points, active ? k : n - 1, lane, group, places, bad);
        for (int r = lane * VECTOR; active && r < rank; r += group * VECTOR) {
            Pack gains[AXES];
            gains_of<0>(axes, places, rank, r, cotangent.at(k, r), gains);
            OVER_AXES
            for (int i = 0; i < AXES; ++i) {
                const int powers = powers_of(axes.axis[i]);
                REAL *row = result + (bases[i] + Index(places[i].cell) * powers) * rank + r;
#pragma unroll
                for (int m = 0; m < (POWERS ? POWERS : powers); ++m) {
                    OVER_PACK atomicAdd(row + q, gains[i].v[q]);
                    OVER_PACK gains[i].v[q] *= places[i].s;
                    row += rank;
                }
            }
        }
    }
}
