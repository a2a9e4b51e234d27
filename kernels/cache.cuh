// Where keys and values lie, and the codes of a cache in 8 bits.
//
// A cache is rows of head_dim elements, keys and values each [sequence][kv_head][capacity]. In pages it is a pool,
// [page][kv_head][positions of a page], and a table says which page of the pool each page of a sequence is. A row is
// bf16, or codes in the order of weights.cuh with one f32 scale, in an array [row] of its own: the scales of neighbouring
// positions lie side by side.
#pragma once
#include "weights.cuh"

// The row of a position on a page of 2^shift positions.
__device__ __forceinline__ u64 page_row(u32 page, u32 kv_heads, u32 kv_head, u32 shift, u32 position) {
    return (((u64)page * kv_heads + kv_head) << shift) + (position & ((1u << shift) - 1));
}

// The nearest whole number, ties to even, within +-most; 0 for no number.
__device__ __forceinline__ u32 nearest(float value, int most) { return (u32)min(max(__float2int_rn(value), -most), most); }

// The nearest e4m3, ties to even; beyond 448 it is 448.
__device__ __forceinline__ u32 nearest_fp8(float value) {
    float size = fminf(fabsf(value), 448.0f);
    int exponent = max((int)(__float_as_uint(size) >> 23) - 127, -6);
    // In steps of an eighth of the power of two: 8 and more but for subnormals, and 16 is the next power's 8.
    int steps = __float2int_rn(size * __uint_as_float((u32)(130 - exponent) << 23));
    return __float_as_uint(value) >> 24 & 0x80 | (u32)((exponent + 6) * 8 + steps);
}

// The scale of values whose greatest size is `most`.
template <Format format> __device__ __forceinline__ float scale_of(float most) {
    return most / (format == FP8 ? 448.0f : 127.0f);
}

// Codes of eight values, which were multiplied by the inverse of their scale, in the order of weights.cuh.
template <Format format> __device__ __forceinline__ uint2 eight_codes(const float v[8]) {
    u32 codes[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        codes[i] = (format == FP8 ? nearest_fp8(v[i]) : nearest(v[i], 127)) & 0xff;
    }
    return make_uint2(codes[0] | codes[2] << 8 | codes[1] << 16 | codes[3] << 24,
                      codes[4] | codes[6] << 8 | codes[5] << 16 | codes[7] << 24);
}
