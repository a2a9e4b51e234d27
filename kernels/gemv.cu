// Linear stages of 1 to 8 token rows, bound by the bandwidth at which weights arrive. Tensor cores multiply straight
// from registers: the tokens are the rows of the first operand, the eight weight rows of half a tile the columns of
// the second.
//
// The order of k is free as long as both operands agree on it, so the 16 bytes that a lane loads of a row are
// fragments of two instructions as they are: lane (g, t) has k 8t .. 8t+7 of a chunk of 32, where the instructions
// take them for 2t, 2t+1, 2t+8, 2t+9 of two chunks of 16. Two chunks side by side make whole lines of 128 bytes.
//
// The warps of a block share the k of a tile, and a block takes tile after tile. Each warp keeps DEPTH slices of
// weights (2 KB each) under way, the next tile's while it sums up this one: 48 to 64 KB a block. Registers allow two
// blocks per multiprocessor, so at least 48 KB are in flight where tiles are few and 96 KB elsewhere. An A100 needs
// some 16 KB per multiprocessor to saturate its memory, an H200 32 KB.
//
// Tokens and norm go with the weights, but to shared memory: loads that a warp needs at once would stand in line
// behind those that it needs later. What a lane reads of the tokens it copied itself.
#include "stages.cuh"

constexpr u32 WARPS = 8;
constexpr u32 DEPTH = 4;                      // slices under way in each warp
constexpr u32 SLICE = 64;                     // k of a warp's loads: two of 16 bytes per lane and row
constexpr u32 STRIDE = WARPS * SLICE;         // from a warp's slice to its next
constexpr u32 ROUND = DEPTH * STRIDE;         // k of all slices under way in a block
constexpr u32 TOKENS = 8;
constexpr u32 TOKEN_STRIDE = WARPS * 16 + 8;  // sums of one token; storing 8 bytes per lane meets no bank twice
constexpr u32 X_BYTES = TOKENS * SLICE * 2;   // of a slice: 16 bytes of each lane for either chunk

// What a lane loads next: of the two halves of a tile, of its token, of the norm. `left` are the elements from there
// to the end of the rows; none where there is no row.
struct Next {
    const u16 *a, *b, *x, *norm;
    int left_a, left_b, left_x, left;
};

// The weights of one slice: [chunk].
struct Slice {
    uint4 a[2], b[2];
};

template <Stage stage> __device__ __forceinline__ Next next_of(const Linear &p, u32 tile, u32 tiles, u32 first) {
    Next next;
    u32 lane = threadIdx.x % 32, g = lane / 4, at = first + lane % 4 * 8;
    bool valid_a, valid_b, there = tile < tiles;
    tile = there ? tile : 0;
    next.a = weight_row<stage>(p, tile, 0, g, &valid_a) + at;
    next.b = weight_row<stage>(p, tile, 1, g, &valid_b) + at;
    next.x = p.x + (u64)g * p.x_stride + at;
    next.norm = p.norm + first + lane * 8;  // lanes 0 to 7 copy
    int left = there ? (int)(p.k - at) : 0;
    next.left_a = valid_a ? left : 0;
    // Where one test would do, there is only one.
    next.left_b = stage == QKV || stage == GATE_UP ? next.left_a : valid_b ? left : 0;
    next.left_x = g < p.rows ? left : 0;
    next.left = there ? (int)(p.k - first - lane * 8) : 0;
    return next;
}

__device__ __forceinline__ void load_weights(Slice &slice, const Next &next, int at) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        slice.a[i] = load16_streamed(next.a + at + 32 * i, at + 32 * i < next.left_a);
        slice.b[i] = load16_streamed(next.b + at + 32 * i, at + 32 * i < next.left_b);
    }
}

__device__ __forceinline__ void copy_x(u32 to, const Next &next, int at) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 own = to + i * 512 + threadIdx.x % 32 * 16;
        copy16_async_cached(own, next.x + at + 32 * i, at + 32 * i < next.left_x ? 16 : 0);
    }
}

__device__ __forceinline__ void copy_norm(u32 to, const Next &next, int at) {
    if (threadIdx.x % 32 < 8) {
        copy16_async_cached(to + X_BYTES + threadIdx.x % 32 * 16, next.norm + at, at < next.left ? 16 : 0);
    }
}

__device__ __forceinline__ uint4 multiplied(uint4 x, uint4 by) {
    return make_uint4(mul_bf16x2(x.x, by.x), mul_bf16x2(x.y, by.y), mul_bf16x2(x.z, by.z), mul_bf16x2(x.w, by.w));
}

__device__ __forceinline__ float add_squares(float sum, u32 pair) {
    sum = fmaf(bf16_low(pair), bf16_low(pair), sum);
    return fmaf(bf16_high(pair), bf16_high(pair), sum);
}

template <Stage stage> __device__ __forceinline__ void product(const Linear &p) {
    constexpr bool normed = stage != RESIDUAL;
    constexpr u32 slice_bytes = X_BYTES + (normed ? SLICE * 2 : 0);
    __shared__ __align__(16) u8 slices[WARPS][DEPTH][slice_bytes];  // tokens and norm
    // Two of each, so that one barrier per tile is enough.
    __shared__ __align__(16) float sums[2][TOKENS][TOKEN_STRIDE];  // [][token][warp x row of the tile]
    __shared__ float squares[2][TOKENS][WARPS + 1];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 tiles = tiles_of<stage>(p);
    u32 rounds = (p.k + ROUND - 1) / ROUND;

    let_next_start();
    Slice ahead[DEPTH];
    u32 own_slices = shared_address(slices[warp]);
    Next next = next_of<stage>(p, blockIdx.x, tiles, warp * SLICE);
#pragma unroll
    for (u32 i = 0; i < DEPTH; i++) {
        load_weights(ahead[i], next, i * STRIDE);
        if (normed) {
            copy_norm(own_slices + i * slice_bytes, next, i * STRIDE);
        }
    }
    wait_for_inputs();
#pragma unroll
    for (u32 i = 0; i < DEPTH; i++) {
        copy_x(own_slices + i * slice_bytes, next, i * STRIDE);
        copy_commit();
    }

    u64 best = 0;
    u32 parity = 0;
    for (u32 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        float a[4] = {}, b[4] = {};  // [0], [1]: token g, rows 2t, 2t+1 of the halves; the others are of no token
        float square = 0;
        for (u32 round = rounds; round > 0; round--) {
            if (round > 1) {
                next.a += ROUND;
                next.b += ROUND;
                next.x += ROUND;
                next.norm += ROUND;
                next.left_a -= ROUND;
                next.left_b -= ROUND;
                next.left_x -= ROUND;
                next.left -= ROUND;
            } else {
                u32 following = tile + gridDim.x;
                asm volatile("" : "+r"(following));  // else all this is worked out, and kept, a whole tile early
                next = next_of<stage>(p, following, tiles, warp * SLICE);
            }
#pragma unroll
            for (u32 i = 0; i < DEPTH; i++) {
                u32 slice = own_slices + i * slice_bytes;
                copy_wait<DEPTH - 1>();
                __syncwarp();
#pragma unroll
                for (u32 j = 0; j < 2; j++) {
                    uint4 v = load16_shared(slice + j * 512 + lane * 16);
                    if (normed) {
                        square = add_squares(add_squares(square, v.x), v.y);
                        square = add_squares(add_squares(square, v.z), v.w);
                        v = multiplied(v, load16_shared(slice + X_BYTES + j * 64 + t * 16));
                    }
                    u32 low[4] = {v.x, 0, v.y, 0}, high[4] = {v.z, 0, v.w, 0};
                    mma_bf16(a, low, ahead[i].a[j].x, ahead[i].a[j].y);
                    mma_bf16(b, low, ahead[i].b[j].x, ahead[i].b[j].y);
                    mma_bf16(a, high, ahead[i].a[j].z, ahead[i].a[j].w);
                    mma_bf16(b, high, ahead[i].b[j].z, ahead[i].b[j].w);
                }
                __syncwarp();
                load_weights(ahead[i], next, i * STRIDE);
                copy_x(slice, next, i * STRIDE);
                if (normed) {
                    copy_norm(slice, next, i * STRIDE);
                }
                copy_commit();
            }
        }
        float2 *mine = (float2 *)&sums[parity][g][warp * 16 + 2 * t];
        mine[0] = make_float2(a[0], a[1]);
        mine[4] = make_float2(b[0], b[1]);
        if (normed) {
            square += __shfl_xor_sync(0xffffffff, square, 1);
            square += __shfl_xor_sync(0xffffffff, square, 2);
            if (t == 0) {
                squares[parity][g][warp] = square;
            }
        }
        __syncthreads();
        // Warp i finishes token i.
        if (warp < p.rows) {
            float sum = 0;
#pragma unroll
            for (u32 i = 0; i < WARPS / 2; i++) {
                sum += sums[parity][warp][i * 32 + lane];
            }
            sum += __shfl_xor_sync(0xffffffff, sum, 16);
            if (normed) {
                float of_all = squares[parity][warp][lane % WARPS];
#pragma unroll
                for (u32 i = 1; i < WARPS; i *= 2) {
                    of_all += __shfl_xor_sync(0xffffffff, of_all, i);
                }
                sum *= rsqrt_fast(of_all * reciprocal_fast((float)p.k) + p.eps);
            }
            float rows_a[8], rows_b[8];
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                rows_a[i] = __shfl_sync(0xffffffff, sum, i);
                rows_b[i] = __shfl_sync(0xffffffff, sum, i + 8);
            }
            if (lane == 0) {
                finish<stage>(p, tile, warp, rows_a, rows_b, &best);
            }
        }
        parity ^= 1;
    }
    if (stage == LM_HEAD) {
        if (warp < p.rows && lane == 0) {
            atomicMax(&p.best[warp], best);
        }
        if (last_to_arrive(p.arrivals, gridDim.x) && threadIdx.x < p.rows) {
            p.chosen[threadIdx.x] = ~(u32)atomicExch(&p.best[threadIdx.x], 0ull);
        }
    }
}

#define GEMV(name, stage)                                                                                \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) name(const __grid_constant__ Linear p) { \
        product<stage>(p);                                                                               \
    }

GEMV(gemv_qkv, QKV)
GEMV(gemv_residual, RESIDUAL)
GEMV(gemv_gate_up, GATE_UP)
GEMV(gemv_lm_head, LM_HEAD)
