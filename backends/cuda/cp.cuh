// Value, gradient and Hessian of a CP function at one point, each lane of the group over its own columns.
#pragma once
#include "places.cuh"

// The products over the axes of VECTOR columns from r on.
__device__ __forceinline__ Pack product_of(const Axes &axes, const Place (&places)[AXES], int rank, int r) {
    Pack product;
    OVER_PACK product.v[q] = REAL(1);
    OVER_AXES
    for (int i = 0; i < AXES; ++i) {
        Pack jet[1];
        jet_of<0>(places[i].top + r, powers_of(axes.axis[i]), rank, places[i].s, places[i].slope, jet);
        OVER_PACK product.v[q] *= jet[0].v[q];
    }
    return product;
}

// Sum over this lane's columns of the products over the axes.
__device__ __forceinline__ REAL value_of(const Axes &axes, const Place (&places)[AXES], int rank, int lane, int group) {
    REAL sum = REAL(0);
    for (int r = lane * VECTOR; r < rank; r += group * VECTOR) {
        const Pack product = product_of(axes, places, rank, r);
        OVER_PACK sum += product.v[q];
    }
    return sum;
}

// This lane's share of value (sums[0]) and gradient (sums[1 + i]), by products before and after each axis.
__device__ __forceinline__ void gradient_of(const Axes &axes, const Place (&places)[AXES], int rank, int lane,
                                            int group, REAL (&sums)[AXES + 1]) {
    OVER_AXES
    for (int i = 0; i <= AXES; ++i) sums[i] = REAL(0);
    for (int r = lane * VECTOR; r < rank; r += group * VECTOR) {
        Pack factor[AXES], share[AXES], product, after;
        OVER_PACK product.v[q] = after.v[q] = REAL(1);
        OVER_AXES
        for (int i = 0; i < AXES; ++i) {
            Pack jet[2];
            jet_of<1>(places[i].top + r, powers_of(axes.axis[i]), rank, places[i].s, places[i].slope, jet);
            factor[i] = jet[0];
            OVER_PACK share[i].v[q] = product.v[q] * jet[1].v[q];
            OVER_PACK product.v[q] *= jet[0].v[q];
        }
        OVER_PACK sums[0] += product.v[q];
        OVER_AXES
        for (int i = AXES - 1; i >= 0; --i) {
            OVER_PACK sums[i + 1] += share[i].v[q] * after.v[q];
            OVER_PACK after.v[q] *= factor[i].v[q];
        }
    }
}

// Number of the entry (i, k), i <= k, of a triangle stored by rows.
__device__ __forceinline__ int entry(int i, int k) { return i * AXES - i * (i - 1) / 2 + k - i; }

// As `gradient_of`, and the upper triangle of the Hessian in `second`.
__device__ __forceinline__ void hessian_of(const Axes &axes, const Place (&places)[AXES], int rank, int lane, int group,
                                           REAL (&sums)[AXES + 1], REAL (&second)[AXES * (AXES + 1) / 2]) {
    OVER_AXES
    for (int i = 0; i <= AXES; ++i) sums[i] = REAL(0);
    OVER_AXES
    for (int e = 0; e < AXES * (AXES + 1) / 2; ++e) second[e] = REAL(0);
    for (int r = lane * VECTOR; r < rank; r += group * VECTOR) {
        Pack factor[AXES], slope[AXES], after[AXES], bend[AXES], last, before;
        OVER_PACK last.v[q] = before.v[q] = REAL(1);
        OVER_AXES
        for (int i = 0; i < AXES; ++i) {
            Pack jet[3];
            jet_of<2>(places[i].top + r, powers_of(axes.axis[i]), rank, places[i].s, places[i].slope, jet);
            factor[i] = jet[0];
            slope[i] = jet[1];
            OVER_PACK bend[i].v[q] = REAL(2) * jet[2].v[q];
        }
        OVER_AXES
        for (int i = AXES - 1; i >= 0; --i) {
            after[i] = last;
            OVER_PACK last.v[q] *= factor[i].v[q];
        }
        OVER_PACK sums[0] += last.v[q];
        OVER_AXES
        for (int i = 0; i < AXES; ++i) {
            Pack left;
            OVER_PACK {
                left.v[q] = before.v[q] * slope[i].v[q];
                sums[i + 1] += left.v[q] * after[i].v[q];
                second[entry(i, i)] += before.v[q] * bend[i].v[q] * after[i].v[q];
            }
            OVER_AXES
            for (int k = i + 1; k < AXES; ++k)
                OVER_PACK {
                    second[entry(i, k)] += left.v[q] * slope[k].v[q] * after[k].v[q];
                    left.v[q] *= factor[k].v[q];
                }
            OVER_PACK before.v[q] *= factor[i].v[q];
        }
    }
}
