// What happens to the products of gemm.cuh's tiles: splits are added up, rows are finished from shared memory.
#pragma once
#include "stages.cuh"

typedef float Sums[4][8][4];       // [m16][n8][of a thread]: of a warp, 64 tokens x 64 weight rows
typedef u32 IntegerSums[4][8][4];  // of codes, s32

// The products of a warp, [64 tokens][64 weight rows] f32 in 16 KB of shared memory. Pieces of four are swizzled
// such that neither `put` nor the two patterns of `get` below have bank conflicts.
struct Staged {
    u8 *at;

    __device__ __forceinline__ void put(const Sums &sums) const {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        u32 lane = g * 256 + (t / 2 ^ g % 4 * 2) * 16 + t % 2 * 8;
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            u8 *to = at + (lane ^ (2 * j ^ j / 4) * 16);
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                const float *two = sums[i / 2][j] + i % 2 * 2;
                *(float2 *)(to + i * 8 * 256) = make_float2(two[0], two[1]);
            }
        }
        __syncwarp();
    }

    // Eight neighbours in a row, from a multiple of eight on.
    __device__ __forceinline__ void get(float v[8], u32 row, u32 eight) const {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 piece = 2 * eight + i ^ eight / 4 ^ row % 4 * 2;
            float4 four = *(const float4 *)(at + row * 256 + piece * 16);
            v[4 * i] = four.x, v[4 * i + 1] = four.y, v[4 * i + 2] = four.z, v[4 * i + 3] = four.w;
        }
    }
};

// Adds up the staged products of all splits of a tile, in the order of the splits, in the block that arrives last;
// false in the others. partial: [split][tile][warp][64 x 64] f32, swizzled as it is staged.
template <class T> __device__ __forceinline__ bool add_splits(const Linear &p, const Staged &staged) {
    constexpr u32 PIECES = 64 * 64 / 4;  // of a warp
    uint4 *mine = (uint4 *)staged.at + threadIdx.x % 32;
    u32 warps = T::THREADS / 32, warp = threadIdx.x / 32;
    uint4 *partial = (uint4 *)p.partial + ((u64)blockIdx.x * warps + warp) * PIECES + threadIdx.x % 32;
    u64 split_size = (u64)gridDim.x * warps * PIECES;
#pragma unroll 8
    for (u32 i = 0; i < PIECES; i += 32) {
        store16(partial + blockIdx.y * split_size + i, mine[i]);
    }
    if (!last_to_arrive(p.arrivals + blockIdx.x, p.splits)) {
        return false;
    }
#pragma unroll 1
    for (u32 i = 0; i < PIECES; i += 8 * 32) {
        float4 sum[8] = {};
#pragma unroll 1
        for (u32 split = 0; split < p.splits; split++) {
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                uint4 more = load16(partial + split * split_size + i + j * 32);
                sum[j].x += __uint_as_float(more.x);
                sum[j].y += __uint_as_float(more.y);
                sum[j].z += __uint_as_float(more.z);
                sum[j].w += __uint_as_float(more.w);
            }
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            ((float4 *)mine)[i + j * 32] = sum[j];
        }
    }
    __syncwarp();
    return true;
}

// Adds 64 x 64 products to the residual stream: eight lanes cover the 128 bytes of a token. All that a lane adds to
// in eight passes is loaded before the first is needed.
__device__ __forceinline__ void add_to_residual(const Linear &p, const Staged &staged, u32 first_token, u32 first_row) {
    u32 lane = threadIdx.x % 32, eight = lane % 8;
    u32 row = first_row + eight * 8;
#pragma unroll 1
    for (u32 half = 0; half < 2; half++) {
        u32 token = half * 32 + lane / 8;
        u16 *to = p.y + (u64)(first_token + token) * p.n + row;
        uint4 old[8];
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            if (first_token + token + i * 4 < p.rows && row < p.n) {
                old[i] = load16(to + (u64)i * 4 * p.n);
            }
        }
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            if (first_token + token + i * 4 < p.rows && row < p.n) {
                float v[8];
                staged.get(v, token + i * 4, eight);
                add_eight(to + (u64)i * 4 * p.n, old[i], v);
            }
        }
    }
}

// Finishes 64 x 64 products: four lanes have the four tiles (of 8 + 8 rows) of a token.
template <Stage stage>
__device__ __forceinline__ void finish_all(const Linear &p, const Staged &staged, u32 first_token, u32 first_tile) {
    u32 lane = threadIdx.x % 32;
    u32 tile = first_tile + lane % 4;
#pragma unroll 2
    for (u32 row = lane / 4; row < 64; row += 8) {
        u32 token = first_token + row;
        u64 best = 0;
        if (token < p.rows && tile < tiles_of<stage>(p)) {
            float a[8], b[8];
            staged.get(a, row, lane % 4 * 2);
            staged.get(b, row, lane % 4 * 2 + 1);
            finish<stage>(p, tile, token, a, b, &best);
        }
        if (stage == LM_HEAD) {
            best = max(best, __shfl_xor_sync(~0u, best, 1));
            best = max(best, __shfl_xor_sync(~0u, best, 2));
            if (lane % 4 == 0 && token < p.rows) {
                atomicMax(p.best + token, best);
            }
        }
    }
}
