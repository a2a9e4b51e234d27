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
#include "stages.cuh"

constexpr u32 WARPS = 8;
constexpr u32 DEPTH = 4;                      // slices under way in each warp
constexpr u32 SLICE = 64;                     // k of a warp's loads: two of 16 bytes per lane and row
constexpr u32 STRIDE = WARPS * SLICE;         // from a warp's slice to its next
constexpr u32 ROUND = DEPTH * STRIDE;         // k of all slices under way in a block
constexpr u32 TOKENS = 8;
constexpr u32 TOKEN_STRIDE = WARPS * 16 + 8;  // sums of one token; storing 8 bytes per lane meets no bank twice

// What a lane loads next of the two halves of a tile, and the elements left from there to the end of the row; none
// where there is no row.
struct Rows {
    const u16 *a, *b;
    int left_a, left_b;
};

// The weights of one slice: [chunk].
struct Slice {
    uint4 a[2], b[2];
};

template <Stage stage>
__device__ __forceinline__ Rows rows_of(const Linear &p, u32 tile, u32 tiles, u32 row, u32 first) {
    Rows rows;
    bool valid_a, valid_b, there = tile < tiles;
    tile = there ? tile : 0;
    rows.a = weight_row<stage>(p, tile, 0, row, &valid_a) + first;
    rows.b = weight_row<stage>(p, tile, 1, row, &valid_b) + first;
    rows.left_a = there && valid_a ? (int)(p.k - first) : 0;
    // Where one test would do, there is only one.
    rows.left_b = stage == QKV || stage == GATE_UP ? rows.left_a : there && valid_b ? (int)(p.k - first) : 0;
    return rows;
}

__device__ __forceinline__ void load(Slice &slice, const Rows &rows, int at) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        slice.a[i] = load16_streamed(rows.a + at + 32 * i, at + 32 * i < rows.left_a);
        slice.b[i] = load16_streamed(rows.b + at + 32 * i, at + 32 * i < rows.left_b);
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
    // Two of each, so that one barrier per tile is enough.
    __shared__ float sums[2][TOKENS][TOKEN_STRIDE];  // [][token][warp x row of the tile]
    __shared__ float squares[2][TOKENS][WARPS];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 first = warp * SLICE + t * 8;
    u32 tiles = tiles_of<stage>(p);
    u32 rounds = (p.k + ROUND - 1) / ROUND;

    let_next_start();
    Slice ahead[DEPTH];
    Rows rows = rows_of<stage>(p, blockIdx.x, tiles, g, first);
#pragma unroll
    for (u32 i = 0; i < DEPTH; i++) {
        load(ahead[i], rows, i * STRIDE);
    }
    wait_for_inputs();

    u64 best = 0;
    u32 parity = 0;
    for (u32 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const u16 *x = p.x + (u64)g * p.x_stride + first;
        const u16 *norm = p.norm + first;
        int left = (int)(p.k - first);
        float a[4] = {}, b[4] = {};  // [0], [1]: token g, rows 2t, 2t+1 of the halves; the others are of no token
        float square = 0;
        for (u32 round = rounds; round > 0; round--) {
            if (round > 1) {
                rows.a += ROUND;
                rows.b += ROUND;
                rows.left_a -= ROUND;
                rows.left_b -= ROUND;
            } else {
                u32 following = tile + gridDim.x;
                asm volatile("" : "+r"(following));  // else the rows are worked out, and kept, a whole tile early
                rows = rows_of<stage>(p, following, tiles, g, first);
            }
#pragma unroll
            for (u32 i = 0; i < DEPTH; i++) {
#pragma unroll
                for (u32 j = 0; j < 2; j++) {
                    int at = i * STRIDE + j * 32;
                    uint4 v = load16(x + at, at < left && g < p.rows);
                    if (normed) {
                        square = add_squares(add_squares(square, v.x), v.y);
                        square = add_squares(add_squares(square, v.z), v.w);
                        v = multiplied(v, load16(norm + at, at < left));
                    }
                    u32 low[4] = {v.x, 0, v.y, 0}, high[4] = {v.z, 0, v.w, 0};
                    mma_bf16(a, low, ahead[i].a[j].x, ahead[i].a[j].y);
                    mma_bf16(b, low, ahead[i].b[j].x, ahead[i].b[j].y);
                    mma_bf16(a, high, ahead[i].a[j].z, ahead[i].a[j].w);
                    mma_bf16(b, high, ahead[i].b[j].z, ahead[i].b[j].w);
                }
                load(ahead[i], rows, i * STRIDE);
                __syncwarp();
            }
            x += ROUND;
            norm += ROUND;
            left -= ROUND;
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
