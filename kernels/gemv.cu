// Linear stages of 1 to 8 token rows, bound by the bandwidth at which weights arrive: tensor cores with the tokens as
// the rows of the first operand and the eight weight rows of half a tile as the columns of the second.
//
// The order of k is free as long as both operands agree on it, so the 16 bytes that a lane takes of a row are
// fragments of two instructions as they are: lane (g, t) has k 8t .. 8t+7 of a chunk of 32, where the instructions
// take them for 2t, 2t+1, 2t+8, 2t+9 of two chunks of 16. Two chunks side by side make whole lines of 128 bytes.
//
// The warps of a block share the k of a tile, and a block takes tile after tile. Each warp has a ring of its own in
// shared memory, of slices of 64 of k: 2 KB of weights with their part of the tokens and the norm. What a lane reads
// of the weights it copied itself, so no block waits for its slowest warp before the tile's end, and the next tile's
// slices are under way while this one is summed up. (Loads to registers would need as many of them as bytes in
// flight, and ptxas has one counter for all of a loop's loads: a warp would wait for the last to use the first.)
//
// In flight are 48 KB of weights and more in each block with one token, 32 KB with up to eight; two blocks are
// resident per multiprocessor where shared memory allows. An A100 needs some 16 KB per multiprocessor to saturate its
// memory, an H200 32 KB.
#include "stages.cuh"

constexpr u32 WARPS = 8;
constexpr u32 SLICE = 64;                     // k of a slice
constexpr u32 STRIDE = WARPS * SLICE;         // from a warp's slice to its next
constexpr u32 TOKEN_STRIDE = WARPS * 16 + 8;  // sums of one token; storing 8 bytes per lane meets no bank twice

// A slice in shared memory, for stages with and without norm, T = 1 or 8 tokens. The same figures are in
// src/backend/cuda/gemv.rs.
template <bool normed, u32 T> struct Ring {
    static constexpr u32 depth = T == 1 ? 4 : 3;
    static constexpr u32 x = 4 * 512;                          // after the weights: [half][chunk][lane] 16 bytes
    static constexpr u32 norm = x + (T == 1 ? 256 : 2 * 512);  // [chunk][lane] 16 bytes; one token: 128 bytes, zeros
    static constexpr u32 bytes = norm + (normed ? 128 : 0);
};

// What a lane copies next. `left` are the elements from there to the end of a row; none where there is no row.
struct Next {
    const u16 *a, *b;  // of the two halves of a tile
    const u16 *x;      // of its token; of the only token in lanes 0 to 7
    const u16 *norm;   // in lanes 0 to 7
    int left_a, left_b, left_x, left;
    u32 tile;
    u32 slices;  // of the tile from here on
};

template <Stage stage, u32 T>
__device__ __forceinline__ void take_tile(const Linear &p, Next &next, u32 tile, u32 tiles, u32 slices) {
    next.tile = tile;
    next.slices = slices;
    if (tile >= tiles) {
        return;
    }
    u32 lane = threadIdx.x % 32, g = lane / 4;
    u32 first = threadIdx.x / 32 * SLICE, at = first + lane % 4 * 8, in_line = first + lane * 8;
    bool valid_a, valid_b;
    next.a = weight_row<stage>(p, tile, 0, g, &valid_a) + at;
    next.b = weight_row<stage>(p, tile, 1, g, &valid_b) + at;
    next.left_a = valid_a ? (int)(p.k - at) : 0;
    next.left_b = valid_b ? (int)(p.k - at) : 0;
    next.x = T == 1 ? p.x + in_line : p.x + (u64)g * p.x_stride + at;
    next.left_x = T == 1 ? (int)(p.k - in_line) : g < p.rows ? (int)(p.k - at) : 0;
    next.norm = p.norm + in_line;
    next.left = (int)(p.k - in_line);
}

// Weights, and the norm's, which other blocks on this multiprocessor read as well.
template <bool normed, u32 T> __device__ __forceinline__ void copy_weights(u32 slice, const Next &next) {
    u32 lane = threadIdx.x % 32, to = slice + lane * 16;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        copy16_async(to + i * 512, next.a + i * 32, i * 32 < next.left_a ? 16 : 0);
        copy16_async(to + i * 512 + 1024, next.b + i * 32, i * 32 < next.left_b ? 16 : 0);
    }
    if (normed && lane < 8) {
        copy16_async_cached(to + Ring<normed, T>::norm, next.norm, 0 < next.left ? 16 : 0);
    }
}

// A lane's part of the tokens of a slice: pieces of 16 bytes, at `to`, `to` + 512. One token is 128 bytes.
template <u32 T> struct Tokens {
    static constexpr int pieces = T == 1 ? 1 : 2;

    static __device__ __forceinline__ bool has_part() { return T > 1 || threadIdx.x % 32 < 8; }

    static __device__ __forceinline__ void copy(u32 slice_tokens, const Next &next) {
        if (has_part()) {
#pragma unroll
            for (int i = 0; i < pieces; i++) {
                u32 to = slice_tokens + i * 512 + threadIdx.x % 32 * 16;
                copy16_async_cached(to, next.x + i * 32, i * 32 < next.left_x ? 16 : 0);
            }
        }
    }

    uint4 at[pieces];

    __device__ __forceinline__ void load(const Next &next, bool there) {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            at[i] = make_uint4(0, 0, 0, 0);
            if (there && has_part() && i * 32 < next.left_x) {
                at[i] = load16(next.x + i * 32);
            }
        }
    }

    __device__ __forceinline__ void store(u32 slice_tokens) const {
        if (has_part()) {
#pragma unroll
            for (int i = 0; i < pieces; i++) {
                store16_shared(slice_tokens + i * 512 + threadIdx.x % 32 * 16, at[i]);
            }
        }
    }
};

template <Stage stage, u32 T>
__device__ __forceinline__ void advance(const Linear &p, Next &next, u32 tiles, u32 slices) {
    next.a += STRIDE;
    next.b += STRIDE;
    next.x += STRIDE;
    next.norm += STRIDE;
    next.left_a -= STRIDE;
    next.left_b -= STRIDE;
    next.left_x -= STRIDE;
    next.left -= STRIDE;
    if (--next.slices == 0) {
        take_tile<stage, T>(p, next, next.tile + gridDim.x, tiles, slices);
    }
}

__device__ __forceinline__ uint4 multiplied(uint4 x, uint4 by) {
    return make_uint4(mul_bf16x2(x.x, by.x), mul_bf16x2(x.y, by.y), mul_bf16x2(x.z, by.z), mul_bf16x2(x.w, by.w));
}

// Of one warp: a[0], a[1] and b[0], b[1] are token g times rows 2t, 2t+1 of the halves, the others of no token.
struct Sums {
    float a[4], b[4];
    float square;  // lane (g, t): of its part of token g; of the only token
};

template <bool normed, u32 T> __device__ __forceinline__ void multiply(Sums &sums, u32 slice) {
    using Ring = Ring<normed, T>;
    u32 lane = threadIdx.x % 32;
    // Where there is no token, zeros are read: such as were copied, or those behind the only token, from the chunk
    // that is not in the same banks.
    u32 x = slice + Ring::x + (T == 1 ? lane % 4 * 16 + (lane < 4 ? 0 : 192) : lane * 16);
    if (normed && T == 1) {
        sums.square = add_squares(sums.square, load4_shared(slice + Ring::x + lane * 4));
    }
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        uint4 v = load16_shared(T == 1 ? x ^ i * 64 : x + i * 512);
        if (normed) {
            if (T > 1) {
                sums.square = add_squares(add_squares(sums.square, v.x), v.y);
                sums.square = add_squares(add_squares(sums.square, v.z), v.w);
            }
            v = multiplied(v, load16_shared(slice + Ring::norm + i * 64 + lane % 4 * 16));
        }
        uint4 a = load16_shared(slice + i * 512 + lane * 16);
        uint4 b = load16_shared(slice + i * 512 + 1024 + lane * 16);
        u32 low[4] = {v.x, 0, v.y, 0}, high[4] = {v.z, 0, v.w, 0};
        mma_bf16(sums.a, low, a.x, a.y);
        mma_bf16(sums.b, low, b.x, b.y);
        mma_bf16(sums.a, high, a.z, a.w);
        mma_bf16(sums.b, high, b.z, b.w);
    }
}

template <Stage stage, u32 T> __device__ __forceinline__ void product(const Linear &p) {
    constexpr bool normed = stage != RESIDUAL;
    using Ring = Ring<normed, T>;
    extern __shared__ __align__(128) u8 rings[];             // [warp][slice]
    __shared__ __align__(16) float of_warps[T][TOKEN_STRIDE];  // sums: [token][warp x row of the tile]
    __shared__ float squares[T][WARPS + 1];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 ring = shared_address(rings) + warp * Ring::depth * Ring::bytes;
    u32 tiles = tiles_of<stage>(p);
    u32 all_slices = (p.k + SLICE - 1) / SLICE;
    u32 slices = (all_slices + WARPS - 1 - warp) / WARPS;  // of each tile, this warp's

    let_next_start();
    Next next;
    take_tile<stage, T>(p, next, slices ? blockIdx.x : tiles, tiles, slices);
    Next inputs = next;
#pragma unroll
    for (u32 i = 0; i < Ring::depth; i++) {
        if (T == 1 && lane < 8) {
            store16_shared(ring + i * Ring::bytes + Ring::x + 128 + lane * 16, make_uint4(0, 0, 0, 0));
        }
        if (next.tile < tiles) {
            copy_weights<normed, T>(ring + i * Ring::bytes, next);
            advance<stage, T>(p, next, tiles, slices);
        }
        copy_commit();
    }
    wait_for_inputs();
    // The first tokens come by way of registers: copied behind all these weights, they would wait for them.
    Tokens<T> tokens[Ring::depth];
#pragma unroll
    for (u32 i = 0; i < Ring::depth; i++) {
        tokens[i].load(inputs, inputs.tile < tiles);
        if (inputs.tile < tiles) {
            advance<stage, T>(p, inputs, tiles, slices);
        }
    }
#pragma unroll
    for (u32 i = 0; i < Ring::depth; i++) {
        tokens[i].store(ring + i * Ring::bytes + Ring::x);
    }

    u64 best = 0;
    u32 slice = ring;
    for (u32 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Sums sums = {};
        for (u32 i = 0; i < slices; i++) {
            copy_wait<Ring::depth - 1>();
            __syncwarp();
            multiply<normed, T>(sums, slice);
            __syncwarp();
            if (next.tile < tiles) {
                copy_weights<normed, T>(slice, next);
                Tokens<T>::copy(slice + Ring::x, next);
                advance<stage, T>(p, next, tiles, slices);
            }
            copy_commit();
            slice = slice + Ring::bytes == ring + Ring::depth * Ring::bytes ? ring : slice + Ring::bytes;
        }
        __syncthreads();
        if (g < T) {
            float2 *mine = (float2 *)&of_warps[g][warp * 16 + 2 * t];
            mine[0] = make_float2(sums.a[0], sums.a[1]);
            mine[4] = make_float2(sums.b[0], sums.b[1]);
        }
        if (normed) {
#pragma unroll
            for (u32 i = 1; i < (T == 1 ? 32 : 4); i *= 2) {
                sums.square += __shfl_xor_sync(0xffffffff, sums.square, i);
            }
            if (t == 0 && g < T) {
                squares[g][warp] = sums.square;
            }
        }
        __syncthreads();
        // Warp i finishes token i.
        if (warp < p.rows) {
            float sum = 0;
#pragma unroll
            for (u32 i = 0; i < WARPS / 2; i++) {
                sum += of_warps[warp][i * 32 + lane];
            }
            sum += __shfl_xor_sync(0xffffffff, sum, 16);
            if (normed) {
                float square = squares[warp][lane % WARPS];
#pragma unroll
                for (u32 i = 1; i < WARPS; i *= 2) {
                    square += __shfl_xor_sync(0xffffffff, square, i);
                }
                sum *= rsqrt_fast(square * reciprocal_fast((float)p.k) + p.eps);
            }
            float a[8], b[8];
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                a[i] = __shfl_sync(0xffffffff, sum, i);
                b[i] = __shfl_sync(0xffffffff, sum, i + 8);
            }
            if (lane == 0) {
                finish<stage>(p, tile, warp, a, b, &best);
            }
        }
    }
    if (stage == LM_HEAD) {
        if (warp < p.rows && lane == 0) {
            atomicMax(&p.best[warp], best);
        }
        choose(p, p.arrivals);
    }
}

#define GEMV(name, stage, tokens)                                                                        \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) name(const __grid_constant__ Linear p) { \
        product<stage, tokens>(p);                                                                       \
    }

GEMV(gemv_qkv_1, QKV, 1)
GEMV(gemv_qkv_8, QKV, 8)
GEMV(gemv_residual_1, RESIDUAL, 1)
GEMV(gemv_residual_8, RESIDUAL, 8)
GEMV(gemv_gate_up_1, GATE_UP, 1)
GEMV(gemv_gate_up_8, GATE_UP, 8)
GEMV(gemv_lm_head_1, LM_HEAD, 1)
GEMV(gemv_lm_head_8, LM_HEAD, 8)
