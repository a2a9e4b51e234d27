// What lies between the products: the look-up of the embedding and, before the products of many rows, the RMS norm
// (those of few rows norm what they read themselves). The structs are those of src/backend/cuda/elementwise.rs.
#include "ptx.cuh"

struct Embed {
    const u16 *table;   // [vocabulary][k]
    const u32 *tokens;  // [rows]
    u16 *residual;      // [rows][k]
    u32 k;              // a multiple of 8
    u32 reserved;
};

// Block x is a row, y a part of 4096 elements: two pieces of 16 bytes a thread. Reading the tokens has to wait as
// well: an earlier kernel may have chosen them.
extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ Embed p) {
    let_next_start();
    u64 row = blockIdx.x;
    u32 element = blockIdx.y * 4096 + threadIdx.x * 8;
    wait_for_inputs();
    const u16 *from = p.table + (u64)p.tokens[row] * p.k + element;
    uint4 held[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (element + i * 2048 < p.k) {
            held[i] = load16_streamed(from + i * 2048);
        }
    }
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (element + i * 2048 < p.k) {
            store16(p.residual + row * p.k + element + i * 2048, held[i]);
        }
    }
}

struct RmsNorm {
    const u16 *x;     // [rows][x_stride]
    const u16 *norm;  // [k]
    u16 *normed;      // [rows][k]
    u32 k;            // a multiple of 8
    u32 x_stride;     // elements from one row of x to the next
    float eps;
    u32 reserved;
};

__device__ __forceinline__ float sum_of_squares(uint4 v) {
    u32 pairs[4] = {v.x, v.y, v.z, v.w};
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        sum += bf16_low(pairs[i]) * bf16_low(pairs[i]) + bf16_high(pairs[i]) * bf16_high(pairs[i]);
    }
    return sum;
}

__device__ __forceinline__ uint4 normalised(uint4 x, uint4 norm, float scale) {
    u32 xs[4] = {x.x, x.y, x.z, x.w}, norms[4] = {norm.x, norm.y, norm.z, norm.w}, out[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        out[i] = to_bf16x2(bf16_low(xs[i]) * scale * bf16_low(norms[i]),
                           bf16_high(xs[i]) * scale * bf16_high(norms[i]));
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
}

// One block a row. Each thread holds up to four pieces of 16 bytes in registers between the two passes, which is
// all of a row of up to 32768 elements; of longer rows the rest is read again. normed = x norm / rms(x), rounded once.
extern "C" __global__ void __launch_bounds__(1024) rms_norm(const __grid_constant__ RmsNorm p) {
    __shared__ float sums[32];
    let_next_start();
    u32 pieces = p.k / 8;
    u64 row = blockIdx.x;
    const u16 *x = p.x + row * p.x_stride;
    u16 *to = p.normed + row * p.k;
    uint4 held[4] = {}, norm[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            norm[i] = load16(p.norm + piece * 8);
        }
    }
    wait_for_inputs();
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            held[i] = load16(x + piece * 8);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        sum += sum_of_squares(held[i]);
    }
    for (u32 piece = 4 * blockDim.x + threadIdx.x; piece < pieces; piece += blockDim.x) {
        sum += sum_of_squares(load16(x + piece * 8));
    }

#pragma unroll
    for (u32 lanes = 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(~0u, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    sum = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) {
        sum += sums[warp];
    }
    float scale = rsqrt_fast(sum * reciprocal_fast((float)p.k) + p.eps);

#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            store16(to + piece * 8, normalised(held[i], norm[i], scale));
        }
    }
    for (u32 piece = 4 * blockDim.x + threadIdx.x; piece < pieces; piece += blockDim.x) {
        store16(to + piece * 8, normalised(load16(x + piece * 8), load16(p.norm + piece * 8), scale));
    }
}
