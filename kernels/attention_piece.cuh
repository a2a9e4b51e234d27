// What a query has of a part of the positions, and how parts are put together.
#pragma once
#include "attention.cuh"

__device__ __forceinline__ float4 as_floats(uint4 v) {
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

// Eight outputs of one query over a part of the positions: values weighted by 2^(score - most), to be divided by the
// sum of the weights.
struct Piece {
    float most = NO_SCORE, sum = 0.0f;
    float4 low = make_float4(0.0f, 0.0f, 0.0f, 0.0f), high = low;

    __device__ __forceinline__ void add(float2 state, float4 other_low, float4 other_high) {
        float both = fmaxf(most, state.x);
        float mine = exp2_fast(most - both), its = exp2_fast(state.x - both);
        most = both;
        sum = sum * mine + state.y * its;
        low = mixed(low, mine, other_low, its);
        high = mixed(high, mine, other_high, its);
    }

    static __device__ __forceinline__ float4 mixed(float4 a, float by_a, float4 b, float by_b) {
        return make_float4(a.x * by_a + b.x * by_b, a.y * by_a + b.y * by_b,
                           a.z * by_a + b.z * by_b, a.w * by_a + b.w * by_b);
    }

    __device__ __forceinline__ void store(u16 *to) const {
        float by = reciprocal_fast(sum);
        store16(to, make_uint4(to_bf16x2(low.x * by, low.y * by), to_bf16x2(low.z * by, low.w * by),
                               to_bf16x2(high.x * by, high.y * by), to_bf16x2(high.z * by, high.w * by)));
    }
};
