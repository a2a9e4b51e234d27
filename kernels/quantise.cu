// Matrices of bf16 as weights.cuh holds them, made when they are loaded, and rows of a cache that nobody computed. Codes
// and scales are bit for bit those of src/model/precision.rs, which the reference uses: every operation is rounded as there.
#include "cache.cuh"

struct Quantise {
    const u16 *from;  // [rows][k]
    u8 *codes;
    void *scales;
    u32 rows;         // of int4 eight share a piece of scales: a part of a matrix begins at a multiple of eight
    u32 k;            // a multiple of 8, of int4 of 128
};

__device__ __forceinline__ float value_of(const uint4 &eight, u32 i) {
    u32 pair = i < 2 ? eight.x : i < 4 ? eight.y : i < 6 ? eight.z : eight.w;
    return i % 2 ? bf16_high(pair) : bf16_low(pair);
}

__device__ __forceinline__ float most_of(const uint4 &eight) {
    float most = 0;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        most = fmaxf(most, fabsf(value_of(eight, i)));
    }
    return most;
}

template <Format format> __device__ __forceinline__ void quantise_rows(const Quantise &p) {
    __shared__ float of_warps[4];
    u32 pieces = p.k / 8;
    const u16 *from = p.from + (u64)blockIdx.x * p.k;
    float most = 0;
    for (u32 i = threadIdx.x; i < pieces; i += 128) {
        most = fmaxf(most, most_of(load16(from + i * 8)));
    }
#pragma unroll
    for (u32 lanes = 16; lanes > 0; lanes /= 2) {
        most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
    }
    if (threadIdx.x % 32 == 0) {
        of_warps[threadIdx.x / 32] = most;
    }
    __syncthreads();
    most = fmaxf(fmaxf(of_warps[0], of_warps[1]), fmaxf(of_warps[2], of_warps[3]));
    float scale = scale_of<format>(most);
    float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    if (threadIdx.x == 0) {
        ((float *)p.scales)[blockIdx.x] = scale;
    }
    u8 *to = p.codes + (u64)blockIdx.x * Held<format>::row_bytes(p.k);
    for (u32 i = threadIdx.x; i < pieces; i += 128) {
        uint4 eight = load16(from + i * 8);
        float scaled[8];
#pragma unroll
        for (u32 c = 0; c < 8; c++) {
            scaled[c] = value_of(eight, c) * inverse;
        }
        *(uint2 *)(to + i * 8) = eight_codes<format>(scaled);
        if (i + 1 == pieces && pieces % 2) {
            *(uint2 *)(to + i * 8 + 8) = make_uint2(0, 0);  // half a piece that no kernel reads, but a ceiling may
        }
    }
}

// A block is a row.
extern "C" __global__ void __launch_bounds__(128) quantise_int8(const __grid_constant__ Quantise p) {
    quantise_rows<INT8>(p);
}

extern "C" __global__ void __launch_bounds__(128) quantise_fp8(const __grid_constant__ Quantise p) {
    quantise_rows<FP8>(p);
}

// A block is a row, sixteen lanes are a group at a time.
extern "C" __global__ void __launch_bounds__(128) quantise_int4(const __grid_constant__ Quantise p) {
    u32 row = blockIdx.x, groups = p.k / GROUP_COLUMNS;
    const u16 *from = p.from + (u64)row * p.k + threadIdx.x * 8;
    u8 *to = p.codes + (u64)row * Held<INT4>::row_bytes(p.k) + threadIdx.x * 4;
    u16 *scales = (u16 *)p.scales + (u64)(row / 8) * groups * 8 + row % 8;
    // All lanes of a warp go round as often.
    for (u32 first = 0; first < groups; first += 8) {
        u32 group = first + threadIdx.x / 16;
        uint4 eight = make_uint4(0, 0, 0, 0);
        if (group < groups) {
            eight = load16(from + first * GROUP_COLUMNS);
        }
        float most = most_of(eight);
#pragma unroll
        for (u32 lanes = 8; lanes > 0; lanes /= 2) {
            most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
        }
        u16 bits = to_bf16(most / 7.0f);
        float scale = from_bf16(bits), inverse = scale > 0 ? 1.0f / scale : 0.0f;
        u32 codes[8];
#pragma unroll
        for (u32 c = 0; c < 8; c++) {
            codes[c] = nearest(value_of(eight, c) * inverse, 7) & 0xf;
        }
        if (group < groups) {
            *(u32 *)(to + first * (GROUP_COLUMNS / 2)) = codes[0] | codes[2] << 4 | codes[4] << 8 | codes[6] << 12 |
                                                        codes[1] << 16 | codes[3] << 20 | codes[5] << 24 | codes[7] << 28;
            if (threadIdx.x % 16 == 0) {
                scales[group * 8] = bits;
                // Rows that the last piece has no room left for.
                for (u32 more = 1; row + 1 == p.rows && row % 8 + more < 8; more++) {
                    scales[group * 8 + more] = 0;
                }
            }
        }
    }
}
