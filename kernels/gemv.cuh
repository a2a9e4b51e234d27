// Linear stages of 1 to 8 token rows, bound by the bandwidth at which weights arrive: tensor cores with the tokens as
// the rows of the first operand and the eight weight rows of half a tile as the columns of the second.
//
// The order of k is free as long as both operands agree on it, so the 16 bytes that a lane takes of a row are
// fragments of instructions as they are (weights.cuh has how): of bf16 lane (g, t) has k 8t .. 8t+7 of a chunk of 32,
// where the instructions take them for 2t, 2t+1, 2t+8, 2t+9 of two chunks of 16. Two chunks side by side make whole
// lines of 128 bytes.
//
// The warps of a block share the k of a tile, and a block takes tile after tile. Each warp has a ring of its own in
// shared memory, of slices of k: 2 KB of weights (int4: 1 KB) with their part of the tokens and the norm. What a lane
// reads of the weights it copied itself, so no block waits for its slowest warp before the tile's end, and the next
// tile's slices are under way while this one is summed up. (Loads to registers would need as many of them as bytes in
// flight, and ptxas has one counter for all of a loop's loads: a warp would wait for the last to use the first.)
//
// In flight are 32 KB of weights and more in each block, and half of that where up to eight tokens take the room
// beside int4; two blocks are resident per multiprocessor where shared memory allows. An A100 needs some 16 KB per
// multiprocessor to saturate its memory, an H200 32 KB.
#pragma once
#include "stages.cuh"

constexpr u32 WARPS = 8;
constexpr u32 TOKEN_STRIDE = WARPS * 16 + 8;  // sums of one token; storing 8 bytes per lane meets no bank twice

// A slice in shared memory, for stages with and without norm, T = 1 or 8 tokens. The same figures are in
// src/backend/cuda/launch/gemv.rs.
template <bool normed, u32 T, Format format> struct Ring {
    typedef Held<format> H;
    static constexpr u32 pieces = format == INT4 ? 1 : 2;  // of weights: of one lane, of each half of the tile
    static constexpr u32 k = pieces * 4 * H::COLUMNS;      // columns: 64 of bf16, 128 of others, a group of int4
    static constexpr u32 stride = WARPS * k;               // from a warp's slice to its next
    static constexpr u32 line = k / 8;                     // pieces of a token
    static constexpr u32 depth = format == BF16 ? (T == 1 ? 4 : 3) : format == INT4 ? (T == 1 ? 5 : 3) : T == 1 ? 3 : 2;

    static constexpr u32 x = 2 * pieces * 512;  // after the weights: [half][piece][lane] 16 bytes
    // Tokens are [piece][lane] 16 bytes. One token is a line, and a line of zeros.
    static constexpr u32 norm = x + (T == 1 ? 2 * line * 16 : pieces * H::EIGHTS * 512);
    static constexpr u32 scales = norm + (normed ? line * 16 : 0);  // [half] 16 bytes, and room to a multiple of 128
    static constexpr u32 bytes = scales + (H::BY_GROUP ? 128 : 0);
};

// What a lane copies next. `left` are the elements from there to the end of a row; none where there is no row.
struct Next {
    const u8 *a, *b;   // of the two halves of a tile
    const u16 *x;      // of its token; of the only token in the lanes that have a part of it
    const u16 *norm;   // in the same lanes
    const u8 *scales;  // int4: of half a in lane 0, of half b in lane 1
    int left_a, left_b, left_x, left;
    u32 scale_bytes;
    u32 tile;
    u32 slices;  // of the tile from here on
};

template <Stage stage, u32 T, Format format>
__device__ __forceinline__ void take_tile(const Linear &p, Next &next, u32 tile, u32 tiles, u32 slices) {
    typedef Held<format> H;
    next.tile = tile;
    next.slices = slices;
    if (tile >= tiles) {
        return;
    }
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    u32 first = warp * Ring<stage != RESIDUAL, T, format>::k;
    u32 at = first + lane % 4 * H::COLUMNS, in_line = first + lane * 8;
    WeightRow a = find_row<stage>(p, tile, 0, g), b = find_row<stage>(p, tile, 1, g);
    next.a = a.begin<format>(p.k) + H::offset(at);
    next.b = b.begin<format>(p.k) + H::offset(at);
    next.left_a = a.valid ? (int)(p.k - at) : 0;
    next.left_b = b.valid ? (int)(p.k - at) : 0;
    next.x = T == 1 ? p.x + in_line : p.x + (u64)g * p.x_stride + at;
    next.left_x = T == 1 ? (int)(p.k - in_line) : g < p.rows ? (int)(p.k - at) : 0;
    next.norm = p.norm + in_line;
    next.left = (int)(p.k - in_line);
    if (H::BY_GROUP) {
        next.scales = find_row<stage>(p, tile, lane % 2, 0).group_scales(p.k) + warp * 16;
        next.scale_bytes = group_scale_bytes<stage>(p, tile, lane % 2);
    }
}

// Weights, and the norm's, which other blocks on this multiprocessor read as well.
template <bool normed, u32 T, Format format> __device__ __forceinline__ void copy_weights(u32 slice, const Next &next) {
    typedef Held<format> H;
    typedef Ring<normed, T, format> Ring;
    u32 lane = threadIdx.x % 32, to = slice + lane * 16;
#pragma unroll
    for (int i = 0; i < Ring::pieces; i++) {
        int columns = i * 4 * H::COLUMNS;
        copy16_async(to + i * 512, next.a + i * 64, H::piece_bytes(next.left_a - columns));
        copy16_async(to + (Ring::pieces + i) * 512, next.b + i * 64, H::piece_bytes(next.left_b - columns));
    }
    if (normed && lane < Ring::line) {
        u32 place = slice + Ring::norm + token_place<format>(0, lane) * 16;
        copy16_async_cached(place, next.norm, 0 < next.left ? 16 : 0);
    }
    if (H::BY_GROUP && lane < 2) {
        copy16_async(to + Ring::scales, next.scales, next.scale_bytes);
    }
}

// A lane's part of the tokens of a slice: 16 bytes of the only one, or what its weights are multiplied with.
template <u32 T, Format format> struct Tokens {
    typedef Ring<false, T, format> Slice;
    static constexpr int pieces = T == 1 ? 1 : Slice::pieces * Held<format>::EIGHTS;

    static __device__ __forceinline__ bool has_part() { return T > 1 || threadIdx.x % 32 < Slice::line; }

    // Its `i`th piece: elements from the first, and where it goes.
    static __device__ __forceinline__ int from(int i) {
        constexpr int EIGHTS = Held<format>::EIGHTS;
        return i / EIGHTS * 4 * EIGHTS * 8 + i % EIGHTS * 8;
    }
    static __device__ __forceinline__ u32 place(int i) {
        u32 lane = threadIdx.x % 32;
        return T == 1 ? token_place<format>(0, lane) * 16 : i * 512 + lane * 16;
    }

    static __device__ __forceinline__ void copy(u32 slice_tokens, const Next &next) {
        if (has_part()) {
#pragma unroll
            for (int i = 0; i < pieces; i++) {
                copy16_async_cached(slice_tokens + place(i), next.x + from(i), from(i) < next.left_x ? 16 : 0);
            }
        }
    }

    uint4 at[pieces];

    __device__ __forceinline__ void load(const Next &next, bool there) {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            at[i] = make_uint4(0, 0, 0, 0);
            if (there && has_part() && from(i) < next.left_x) {
                at[i] = load16(next.x + from(i));
            }
        }
    }

    __device__ __forceinline__ void store(u32 slice_tokens) const {
        if (has_part()) {
#pragma unroll
            for (int i = 0; i < pieces; i++) {
                store16_shared(slice_tokens + place(i), at[i]);
            }
        }
    }
};

template <Stage stage, u32 T, Format format>
__device__ __forceinline__ void advance(const Linear &p, Next &next, u32 tiles, u32 slices) {
    constexpr u32 STRIDE = Ring<stage != RESIDUAL, T, format>::stride;
    next.a += Held<format>::offset(STRIDE);
    next.b += Held<format>::offset(STRIDE);
    next.x += STRIDE;
    next.norm += STRIDE;
    next.left_a -= STRIDE;
    next.left_b -= STRIDE;
    next.left_x -= STRIDE;
    next.left -= STRIDE;
    if (Held<format>::BY_GROUP) {
        next.scales += WARPS * 16;
    }
    if (--next.slices == 0) {
        take_tile<stage, T, format>(p, next, next.tile + gridDim.x, tiles, slices);
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

template <bool normed, u32 T, Format format> __device__ __forceinline__ void multiply(Sums &sums, u32 slice) {
    typedef Held<format> H;
    typedef Ring<normed, T, format> Ring;
    u32 lane = threadIdx.x % 32, t = lane % 4;
    // Where there is no token, zeros are read: such as were copied, or those behind the only token, from places that
    // are not in the same banks.
    u32 x = slice + Ring::x + lane * 16, norm = slice + Ring::norm + lane_place<format>(0, t) * 16;
    if (T == 1) {
        u32 place = lane_place<format>(0, t);
        x = slice + Ring::x + (lane < 4 ? place : Ring::line + (place ^ (H::EIGHTS == 1 ? 4 : 1))) * 16;
    }
    if (normed && T == 1) {
#pragma unroll
        for (u32 i = 0; i < Ring::line / 8; i++) {
            sums.square = add_squares(sums.square, load4_shared(slice + Ring::x + i * 128 + lane * 4));
        }
    }
    Sums of_group = {};
    Sums &to = H::BY_GROUP ? of_group : sums;
#pragma unroll
    for (u32 i = 0; i < Ring::pieces; i++) {
        uint4 piece_a = load16_shared(slice + i * 512 + lane * 16);
        uint4 piece_b = load16_shared(slice + (Ring::pieces + i) * 512 + lane * 16);
#pragma unroll
        for (u32 e = 0; e < H::EIGHTS; e++) {
            // The only token's places differ by bits that are not set in the first.
            u32 next = H::EIGHTS == 1 ? i * 64 : e * 16, further = H::EIGHTS == 1 ? 0 : i * H::EIGHTS * 64;
            uint4 v = load16_shared(T == 1 ? (x ^ next) + further : x + (i * H::EIGHTS + e) * 512);
            if (normed) {
                if (T > 1) {
                    sums.square = add_squares(add_squares(sums.square, v.x), v.y);
                    sums.square = add_squares(add_squares(sums.square, v.z), v.w);
                }
                v = multiplied(v, load16_shared((norm ^ next) + further));
            }
            uint4 a = eight_of<format>(piece_a, e), b = eight_of<format>(piece_b, e);
            u32 low[4] = {v.x, 0, v.y, 0}, high[4] = {v.z, 0, v.w, 0};
            mma_bf16(to.a, low, a.x, a.y);
            mma_bf16(to.b, low, b.x, b.y);
            mma_bf16(to.a, high, a.z, a.w);
            mma_bf16(to.b, high, b.z, b.w);
        }
    }
    if (H::BY_GROUP) {
        u32 scales_a = load4_shared(slice + Ring::scales + t * 4);
        u32 scales_b = load4_shared(slice + Ring::scales + 16 + t * 4);
        sums.a[0] = fmaf(of_group.a[0], bf16_low(scales_a), sums.a[0]);
        sums.a[1] = fmaf(of_group.a[1], bf16_high(scales_a), sums.a[1]);
        sums.b[0] = fmaf(of_group.b[0], bf16_low(scales_b), sums.b[0]);
        sums.b[1] = fmaf(of_group.b[1], bf16_high(scales_b), sums.b[1]);
    }
}

template <Stage stage, u32 T, Format format> __device__ __forceinline__ void product(const Linear &p) {
    constexpr bool normed = stage != RESIDUAL;
    typedef Ring<normed, T, format> Ring;
    extern __shared__ __align__(128) u8 rings[];             // [warp][slice]
    __shared__ __align__(16) float of_warps[T][TOKEN_STRIDE];  // sums: [token][warp x row of the tile]
    __shared__ float squares[T][WARPS + 1];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 ring = shared_address(rings) + warp * Ring::depth * Ring::bytes;
    u32 tiles = tiles_of<stage>(p);
    u32 all_slices = (p.k + Ring::k - 1) / Ring::k;
    u32 slices = (all_slices + WARPS - 1 - warp) / WARPS;  // of each tile, this warp's

    let_next_start();
    Next next;
    take_tile<stage, T, format>(p, next, slices ? blockIdx.x : tiles, tiles, slices);
    Next inputs = next;
#pragma unroll
    for (u32 i = 0; i < Ring::depth; i++) {
        if (T == 1 && lane < Ring::line) {
            store16_shared(ring + i * Ring::bytes + Ring::x + (Ring::line + lane) * 16, make_uint4(0, 0, 0, 0));
        }
        if (next.tile < tiles) {
            copy_weights<normed, T, format>(ring + i * Ring::bytes, next);
            advance<stage, T, format>(p, next, tiles, slices);
        }
        copy_commit();
    }
    wait_for_inputs();
    // The first tokens come by way of registers: copied behind all these weights, they would wait for them.
    Tokens<T, format> tokens[Ring::depth];
#pragma unroll
    for (u32 i = 0; i < Ring::depth; i++) {
        tokens[i].load(inputs, inputs.tile < tiles);
        if (inputs.tile < tiles) {
            advance<stage, T, format>(p, inputs, tiles, slices);
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
        // Lanes i and i + 16 have row i of the tile; its scale is under way while the tile is multiplied.
        float scale = 1;
        if (Held<format>::BY_ROW && warp < p.rows) {
            scale = find_row<stage>(p, tile, lane / 8 % 2, lane % 8).scale();
        }
        for (u32 i = 0; i < slices; i++) {
            copy_wait<Ring::depth - 1>();
            __syncwarp();
            multiply<normed, T, format>(sums, slice);
            __syncwarp();
            if (next.tile < tiles) {
                copy_weights<normed, T, format>(slice, next);
                Tokens<T, format>::copy(slice + Ring::x, next);
                advance<stage, T, format>(p, next, tiles, slices);
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
            if (Held<format>::BY_ROW) {
                sum *= scale;
            }
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

#define GEMV(name, stage, tokens, format)                                                                \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) name(const __grid_constant__ Linear p) { \
        product<stage, tokens, format>(p);                                                               \
    }
#define GEMVS(name, format)                       \
    GEMV(name##_qkv_1, QKV, 1, format)            \
    GEMV(name##_qkv_8, QKV, 8, format)            \
    GEMV(name##_residual_1, RESIDUAL, 1, format)  \
    GEMV(name##_residual_8, RESIDUAL, 8, format)  \
    GEMV(name##_gate_up_1, GATE_UP, 1, format)    \
    GEMV(name##_gate_up_8, GATE_UP, 8, format)    \
    GEMV(name##_lm_head_1, LM_HEAD, 1, format)    \
    GEMV(name##_lm_head_8, LM_HEAD, 8, format)
