// Newton's method on the level set of a CP function; the rules are those of `sepnet.backends.newton`, to the letter.
//
// A group of lanes takes one sample from its start to its end, as in the evaluation (cp.cu). Every lane of a group
// holds the whole sample in registers and takes the same decisions: the sums over the lanes are exchanged by xor, which
// gives all lanes the same bits, and a step costs a few flops an axis beside the evaluation. A group whose sample has
// ended takes its next one while the other groups of the warp are still on their way: lanes wait for the slowest of n /
// groups samples, not for the slowest of each set of 32 / group. One launch a step over all samples, the way of the
// plain loop, would carry 4 d + 4 numbers a sample through memory in each step, and wait for the slowest sample of all.
//
// Bound, for rank R, p + 1 powers and d axes in numbers of b bytes: an evaluation takes 4 p d R flops for the factors
// and their slopes and 5 d R for the products, about 1,600 for six cubics of rank 16, and reads (p + 1) d R b bytes of
// the tables from the first-level cache (1,536 in float); memory carries (3 d + 4) b + 16 bytes a sample in all. So the
// first-level cache binds, then arithmetic; both grow with the number of steps. A thread takes 168 registers in float
// and 176 in double for six cubics (sm_90, wide loads, nothing spilled): 12 and 10 warps a multiprocessor in blocks of
// 64 threads. Wide loads need fewer lanes a sample, all of which would repeat the step.
#include "cp.cuh"

// The numbers of `sepnet.backends.newton`.
struct Rules {
    REAL reach, least, share;
    int most;
};

// The box on each axis.
struct Box {
    REAL low, high;
};

// The point to try, `reach` at most from x, and the fall of the misfit that the gradient promises there; zero if there
// is no way to go. A NaN anywhere ends in zero too.
__device__ __forceinline__ REAL try_step(const Box *box, const REAL (&x)[AXES], const REAL (&gradient)[AXES],
                                         REAL misfit, REAL reach, REAL (&trial)[AXES]) {
    const REAL sign = misfit < REAL(0) ? -REAL(1) : REAL(1);
    REAL steepest = REAL(0), square = REAL(0), promise = REAL(0);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        REAL slope = gradient[i] * (box[i].high - box[i].low) * sign;
        if ((x[i] <= box[i].low && slope < REAL(0)) || (x[i] >= box[i].high && slope > REAL(0))) slope = REAL(0);
        trial[i] = slope;
        steepest = larger(steepest, magnitude(slope));
    }
    if (!(steepest > REAL(0))) return REAL(0);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        trial[i] /= steepest;
        square += trial[i] * trial[i];
    }
    if (!(square > REAL(0))) return REAL(0);
    const REAL length = smaller(magnitude(misfit) / steepest / square, reach);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        const REAL there = x[i] + length * trial[i] * (box[i].high - box[i].low);
        trial[i] = smaller(larger(there, box[i].low), box[i].high);
        promise += gradient[i] * (trial[i] - x[i]);
    }
    return promise * sign;
}

// The largest component of a step in the scale of the box.
__device__ __forceinline__ REAL longest(const Box *box, const REAL (&x)[AXES], const REAL (&trial)[AXES]) {
    REAL largest = REAL(0);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        const REAL width = box[i].high - box[i].low;
        if (width > REAL(0)) largest = larger(largest, magnitude(trial[i] - x[i]) / width);
    }
    return largest;
}

extern "C" __global__ void __launch_bounds__(128)
    cp_newton(const __grid_constant__ Axes axes, const REAL *starts, const REAL *targets, const REAL *tols,
              const REAL *low, const REAL *high, REAL *points, REAL *values, Index *steps, Index *ends, Index n,
              int rank, int group, const __grid_constant__ Rules rules, Bad *bad) {
    __shared__ Span spans[AXES];
    __shared__ Box box[AXES];
    for (int i = threadIdx.x; i < AXES; i += blockDim.x) box[i] = {low[i], high[i]};
    fill_spans(axes, spans);
    const int lane = threadIdx.x & (group - 1);
    const Index stride = Index(gridDim.x) * blockDim.x / group;
    REAL x[AXES], gradient[AXES], trial[AXES], value = REAL(0), reach = REAL(0), promise = REAL(0);
    int step = 0;  // evaluations of the sample before this one
    // a group without a sample evaluates at a corner of the box
    OVER_AXES
    for (int i = 0; i < AXES; ++i) x[i] = gradient[i] = trial[i] = box[i].low;
    Index k = (Index(blockIdx.x) * blockDim.x + threadIdx.x) / group;
    if (k < n) {
        OVER_AXES
        for (int i = 0; i < AXES; ++i) trial[i] = starts[k * AXES + i];
    }
    while (__any_sync(FULL, k < n)) {
        Place places[AXES];
        find_places<true>(axes, spans, trial, 0, lane, group, places, bad);
        REAL sums[AXES + 1];
        gradient_of(axes, places, rank, lane, group, sums);
        OVER_AXES
        for (int i = 0; i <= AXES; ++i) sums[i] = group_sum(sums[i], group);
        if (k >= n) continue;
        const REAL target = targets[k];
        if (step == 0 || magnitude(target - value) - magnitude(target - sums[0]) >= rules.share * promise) {
            reach = step == 0 ? rules.reach : smaller(reach + reach, rules.reach);
            value = sums[0];
            OVER_AXES
            for (int i = 0; i < AXES; ++i) {
                x[i] = trial[i];
                gradient[i] = sums[i + 1];
            }
        } else {
            reach = longest(box, x, trial) / REAL(2);
        }
        ++step;
        const REAL misfit = target - value, noise = unit(value) * (magnitude(target) + magnitude(value));
        const bool reached = magnitude(misfit) <= tols[k];
        promise = reached ? REAL(0) : try_step(box, x, gradient, misfit, reach, trial);
        const bool stuck = !(promise > noise) || reach < rules.least;
        if (!reached && !stuck && step < rules.most) continue;
        if (lane == 0) {
            OVER_AXES
            for (int i = 0; i < AXES; ++i) points[k * AXES + i] = x[i];
            values[k] = value;
            steps[k] = step;
            ends[k] = reached ? 0 : stuck ? 1 : 2;
        }
        step = 0;
        k += stride;
        OVER_AXES
        for (int i = 0; i < AXES; ++i) trial[i] = k < n ? starts[k * AXES + i] : box[i].low;
    }
}
