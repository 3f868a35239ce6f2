// Values of the functions that live on the cell of each point of one axis; see `sepnet.backends.contract`.
//
// A group of lanes, as many as there are functions but at most a warp, takes one point, so that a warp writes
// neighbouring numbers. Each lane finds the cell for itself: the same instructions for the whole warp, the same
// addresses within a group, and no shuffle. One thread a point would write with a stride of `width` numbers; a thread
// for each number of the result would divide by `width`, which costs more than Horner's rule does.
//
// Bound, for q functions of p + 1 powers in numbers of b bytes: (q + 1) b + 8 bytes a point from and to memory, 48 for
// cubics in double; 2 p q flops; (p + 1) q b bytes of the table and some breaks, which the first-level cache has. So
// memory binds: about 7e10 points a second at 3.35e12 bytes a second.
#include "places.cuh"

extern "C" __global__ void __launch_bounds__(256)
    local_values(const __grid_constant__ Axes axes, const REAL *points, Index *cells, REAL *values, Index n, int width,
                 int group, Bad *bad) {
    const Axis &axis = axes.axis[0];
    const Span span = span_of(axis);
    const int powers = powers_of(axis), lane = threadIdx.x & (group - 1);
    const Index step = Index(gridDim.x) * blockDim.x / group;
    for (Index k = (Index(blockIdx.x) * blockDim.x + threadIdx.x) / group; k < n; k += step) {
        const REAL x = points[k];
        const int cell = find_cell(axis, span, x);
        if (cell < 0) {
            if (lane == 0) atomicMin(bad, Bad(k));
            continue;
        }
        const REAL left = axis.breaks[cell];
        const REAL s = local_of(x, left, REAL(2) / (axis.breaks[cell + 1] - left));
        if (lane == 0) cells[k] = cell;
        const REAL *top = axis.table + (Index(cell) * powers + powers - 1) * width;
        for (int j = lane; j < width; j += group) {
            Pack jet[1];
            jet_of<0>(top + j, powers, width, s, REAL(1), jet);
            values[k * width + j] = jet[0].v[0];
        }
    }
}
