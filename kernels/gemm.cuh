// The linear stages for many token rows (prefill, decode of large batches): y[rows][n] = x[rows][k] w[n][k]^T.
// x goes in as it is; where a stage norms its input, elementwise.cu has done it before.
//
// A block computes 128 tokens x 64, 128 or 256 weight rows. Tokens are the M operand of the mma, so that what one
// thread holds of a token are neighbours in the output. Every warp computes 64 x 64; two warps lie along the tokens,
// one, two or four along the weights:
//
//   tile       k step x stages   shared memory   blocks an SM   shared bytes read + copied for each FLOP
//   128 x 256  64 x 3            144 KB          1              1/32 + 1/85 = 0.043
//   128 x 128  32 x 5             80 KB          2              1/32 + 1/64 = 0.047
//   128 x  64  32 x 3             36 KB          4              1/32 + 1/43 = 0.055
//
// An SM of an A100 does 2048 FLOP and moves 128 shared bytes a cycle, 0.0625 for each FLOP.
// Quantised weights go through the ring as they are and become bf16 on their way to the mma, so a tile's ring has fewer
// steps, or longer ones:
//
//   int8, fp8  128 x 256: 64 x 4, 128 KB      128 x 128: 64 x 3, 72 KB
//   int4       128 x 256: 128 x 3, 145.5 KB   128 x 128: 128 x 2, 80.5 KB
//
// With activations in int8 as well (W8A8) both go to the mma as they are: two codes take the place of one bf16, steps are
// twice as long in as many bytes, and every multiply-add takes half the shared bytes. Sums are integers, exact up to
// 2^31 / 127^2 = 133,000 columns, and become numbers when all of a split are there.
//
// The copies from global memory run `stages - 1` steps ahead. Within a step the fragments of the next 16 columns are
// loaded while those at hand are multiplied. The loop has no branches: what lies beyond the rows or columns is
// copied as zeros, and reads nothing.
#pragma once
#include "staged.cuh"

#define TOKENS 128u  // of a block
#define GROUP 16u    // token tiles of a group, at most: see `place`

// Warps along the weights, columns of k in a step, steps that the ring holds.
template <u32 warps, u32 k_step, u32 stages, Format format> struct Tile {
    typedef Held<format> H;
    static constexpr u32 WEIGHTS = 64 * warps;
    static constexpr u32 THREADS = 2 * warps * 32;
    // Whether x is held as the weights are, and neither is converted.
    static constexpr bool ALIKE = format == BF16 || format == W8A8;
    // 16-byte pieces of a row, bytes of a row, rows that the block copies at once; copies of one thread in a step.
    static constexpr u32 W_PIECES = k_step / H::COLUMNS, X_PIECES = ALIKE ? W_PIECES : k_step / 8;
    static constexpr u32 X_ROW_BYTES = X_PIECES * 16, W_ROW_BYTES = W_PIECES * 16;
    static constexpr u32 X_STEP = THREADS / X_PIECES, W_STEP = THREADS / W_PIECES;  // the latter a multiple of 16
    static constexpr u32 X_COPIES = TOKENS / X_STEP, W_COPIES = WEIGHTS / W_STEP;
    // A slot of the ring: x, weights, scales of the weights' group ([eight rows] 16 bytes).
    static constexpr u32 X_BYTES = TOKENS * X_ROW_BYTES;
    static constexpr u32 SCALES = X_BYTES + WEIGHTS * W_ROW_BYTES;
    static constexpr u32 SLOT_BYTES = SCALES + (H::BY_GROUP ? WEIGHTS / 8 * 16 : 0);
    static constexpr u32 RING_BYTES = stages * SLOT_BYTES;
    static constexpr u32 SUBSTEPS = X_ROW_BYTES / 32;  // mma steps in a step
    static constexpr u32 STAGES = stages;
    static constexpr Format FORMAT = format;
    static_assert(RING_BYTES >= 2 * warps * 64 * 64 * 4, "the ring is where products are staged at the end");
    static_assert(ALIKE || W_PIECES == 4, "a piece for each of four lanes");

    // Bytes from one row of x to the next, and those of them that are columns.
    static __device__ __forceinline__ u64 x_stride(const Linear &p) { return format == W8A8 ? H::row_bytes(p.k) : (u64)p.x_stride * 2; }
    static __device__ __forceinline__ u32 x_bytes(u32 k) { return format == W8A8 ? k : k * 2; }

    // Where a piece of a row of x lies in a slot: any eight rows from a multiple of eight on have the same piece in eight
    // different groups of four banks; beside weights that are converted weights.cuh says it.
    static __device__ __forceinline__ u32 x_offset(u32 row, u32 piece) {
        u32 swizzle = X_PIECES == 8 ? row % 8 : row / 2 % 4;
        return row * X_ROW_BYTES + (ALIKE ? piece ^ swizzle : token_place<format>(row, piece)) * 16;
    }

    // Of weights: four rows of quantised ones fill the banks.
    static __device__ __forceinline__ u32 w_offset(u32 row, u32 piece) {
        return ALIKE ? x_offset(row, piece) : row * W_ROW_BYTES + piece * 16;
    }
};

// Tile of tokens and tile of weights of a block. Blocks run in the order of their index; groups of up to 16 token
// tiles go through all weights, token tiles first, so that the blocks that run at once read about as many rows of x
// as of w: sqrt(108 SMs x 256 / 128) = 15 token tiles.
__device__ __forceinline__ void place(u32 token_tiles, u32 weight_tiles, u32 *token_tile, u32 *weight_tile) {
    u32 groups = (token_tiles + GROUP - 1) / GROUP;
    u32 height = (token_tiles + groups - 1) / groups;
    u32 first = blockIdx.x / (height * weight_tiles) * height;
    u32 rest = blockIdx.x - first * weight_tiles;
    height = min(height, token_tiles - first);
    *weight_tile = rest / height;
    *token_tile = first + rest - *weight_tile * height;
}

// What one thread copies: a 16-byte piece of every X_STEPth row of x and every W_STEPth of the weights.
template <Stage stage, class T> struct Copies {
    typedef typename T::H H;
    // Only the rows of QKV are not evenly spaced: heads have halves, and there are three matrices. Beside quantised
    // weights there are no registers for a pointer to each: they are found again for every copy.
    static constexpr bool FOUND_AGAIN = stage == QKV && T::FORMAT != BF16;
    static constexpr u32 POINTERS = stage == QKV && !FOUND_AGAIN ? T::W_COPIES : 1;

    const u8 *x;              // first row, at the thread's piece
    const u8 *w[POINTERS];
    u64 x_step, w_step;       // bytes between the thread's rows
    u32 x_piece, w_column;    // byte of a row of x, column of the weights, of those that a step takes
    u32 x_to, w_to;           // offsets of the first rows in a slot
    u32 valid;                // bit i: row i of w is one; bit 16 + i: of x
    const u8 *scales;         // of eight rows, in the first WEIGHTS / 8 threads
    u32 scale_bytes;

    const Linear &p;
    u32 first_tile;

    __device__ __forceinline__ Copies(const Linear &p, u32 first_token, u32 first_tile) : p(p), first_tile(first_tile) {
        u32 row = threadIdx.x / T::X_PIECES, piece = threadIdx.x % T::X_PIECES;
        x_piece = piece * 16;
        x_to = T::x_offset(row, piece);
        x = (const u8 *)p.x + (first_token + row) * T::x_stride(p) + x_piece;
        x_step = T::X_STEP * T::x_stride(p);
        valid = 0;
#pragma unroll
        for (u32 i = 0; i < T::X_COPIES; i++) {
            valid |= (first_token + row + i * T::X_STEP < p.rows ? 1u : 0u) << (16 + i);
        }
        row = threadIdx.x / T::W_PIECES, piece = threadIdx.x % T::W_PIECES;
        w_column = piece * H::COLUMNS;
        w_to = T::X_BYTES + T::w_offset(row, piece);
        w_step = (u64)(stage == GATE_UP ? T::W_STEP / 2 : T::W_STEP) * H::row_bytes(p.k);
#pragma unroll
        for (u32 i = 0; i < T::W_COPIES; i++) {
            u32 tile = first_tile + (row + i * T::W_STEP) / 16;
            WeightRow found = find_row<stage>(p, tile, row / 8 % 2, row % 8);
            valid |= (found.valid ? 1u : 0u) << i;
            if (i < POINTERS) {
                w[i] = found.begin<T::FORMAT>(p.k) + piece * 16;
            }
        }
        if (H::BY_GROUP && threadIdx.x < T::WEIGHTS / 8) {
            u32 tile = first_tile + threadIdx.x / 2, half = threadIdx.x % 2;
            scales = find_row<stage>(p, tile, half, 0).group_scales(p.k);
            scale_bytes = group_scale_bytes<stage>(p, tile, half);
        }
    }

    // What is there of a step that starts at byte `at` of the rows of x: rows, and bytes of a piece of them.
    struct There {
        u32 rows, x_bytes, w_rows, w_bytes;
    };
    __device__ __forceinline__ There there(u32 at, u32 end) const {
        u32 rows = at + x_piece < end ? valid : 0;
        if constexpr (T::FORMAT == W8A8) {
            u32 bytes = H::piece_bytes((int)(end - at) - (int)x_piece);
            return {rows, bytes, rows, bytes};
        } else if constexpr (H::BY_ROW) {
            return {rows, 16, valid, H::piece_bytes((int)(end - at) / 2 - (int)w_column)};
        }
        return {rows, 16, T::FORMAT == BF16 ? rows : at < end ? valid : 0, 16};
    }

    __device__ __forceinline__ void copy_x(u32 i, u32 slot, u32 at, const There &there) const {
        u32 to = slot + x_to + i * T::X_STEP * T::X_ROW_BYTES;
        copy16_async(to, x + i * x_step + at, there.rows & 1u << (16 + i) ? there.x_bytes : 0);
    }

    __device__ __forceinline__ void copy_w(u32 i, u32 slot, u32 at, const There &there) const {
        const u8 *from = stage == QKV ? w[i % POINTERS] : w[0] + i * w_step;
        if constexpr (FOUND_AGAIN) {
            u32 row = threadIdx.x / T::W_PIECES + i * T::W_STEP;
            asm volatile("" : "+r"(row));  // or the compiler would find it before the loop
            from = find_row<stage>(p, first_tile + row / 16, row / 8 % 2, row % 8).template begin<T::FORMAT>(p.k);
            from += threadIdx.x % T::W_PIECES * 16;
        }
        u32 to = slot + w_to + i * T::W_STEP * T::W_ROW_BYTES;
        copy16_async(to, from + (T::ALIKE ? at : at / H::EIGHTS), there.w_rows & 1u << i ? there.w_bytes : 0);
    }

    __device__ __forceinline__ void copy_scales(u32 slot, u32 at, const There &there) const {
        if (H::BY_GROUP && threadIdx.x < T::WEIGHTS / 8) {
            const u8 *from = scales + at / (2 * GROUP_COLUMNS) * 16;
            copy16_async(slot + T::SCALES + threadIdx.x * 16, from, there.w_rows ? scale_bytes : 0);
        }
    }
};

// What a warp multiplies at once: 64 tokens and 64 weight rows x 32 bytes of k, 16 columns of bf16 or 32 of codes.
struct Fragments {
    u32 x[4][4];  // four m16
    u32 w[4][4];  // four pairs of n8: b0, b1 of the first, b0, b1 of the second

    // `x_at` and `w_at`: the lane's address for the step's first 32 bytes; XOR leads to others.
    template <class T> __device__ __forceinline__ void load(u32 x_at, u32 w_at, u32 substep) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            ldmatrix4(x[i], (x_at ^ substep * 32) + i * 16 * T::X_ROW_BYTES);
            ldmatrix4(w[i], (w_at ^ substep * 32) + i * 16 * T::W_ROW_BYTES);
        }
    }
};

__device__ __forceinline__ void mma(float c[4], const u32 a[4], u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); }
__device__ __forceinline__ void mma(u32 c[4], const u32 a[4], u32 b0, u32 b1) { mma_int8(c, a, b0, b1); }

template <class S> __device__ __forceinline__ void multiply(S &sums, const Fragments &f) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            mma(sums[i][j], f.x[i], f.w[j / 2][j % 2 * 2], f.w[j / 2][j % 2 * 2 + 1]);
        }
    }
}

// Multiplies the sums of each weight row; lane i has the factors of rows 2i and 2i + 1.
__device__ __forceinline__ void scale(Sums &sums, float2 factors) {
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
        u32 lane = j * 4 + threadIdx.x % 4;
        float low = __shfl_sync(~0u, factors.x, lane), high = __shfl_sync(~0u, factors.y, lane);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            sums[i][j][0] *= low, sums[i][j][1] *= high, sums[i][j][2] *= low, sums[i][j][3] *= high;
        }
    }
}

// Scales of the weight rows that `scale` wants in this lane, of the 64 from a row of the block's on.
template <Stage stage> __device__ __forceinline__ float2 row_scales(const Linear &p, u32 first_tile, u32 row) {
    u32 two = row + threadIdx.x % 32 * 2, tile = first_tile + two / 16;
    return make_float2(find_row<stage>(p, tile, two / 8 % 2, two % 8).scale(),
                       find_row<stage>(p, tile, two / 8 % 2, two % 8 + 1).scale());
}

// Sums of products of codes as numbers without the weights' scales.
__device__ __forceinline__ void to_numbers(Sums &sums, const IntegerSums &integers, const Linear &p, u32 first_token) {
    u32 lane = threadIdx.x % 32;
    float of_tokens[2];  // of tokens `lane` and 32 + `lane`
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 token = first_token + i * 32 + lane;
        of_tokens[i] = token < p.rows ? p.x_scales[token] : 0.0f;
    }
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        float of_token = __shfl_sync(~0u, of_tokens[i / 4], i % 4 * 8 + lane / 4);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
#pragma unroll
            for (u32 c = i % 2 * 2; c < i % 2 * 2 + 2; c++) {
                sums[i / 2][j][c] = (float)(int)integers[i / 2][j][c] * of_token;
            }
        }
    }
}

// A step with quantised weights. `x_at` and `w_at`: the lane's first pieces; `scales`: of two rows, which the sums are
// brought into units of.
template <class T>
__device__ __forceinline__ void multiply_quantised(Sums &sums, float2 &units, u32 x_at, u32 w_at, u32 scales) {
    typedef typename T::H H;
    if constexpr (H::BY_GROUP) {
        u32 two = load4_shared(scales);
        float2 next = make_float2(unit_of(bf16_low(two)), unit_of(bf16_high(two)));
        scale(sums, make_float2(units.x * reciprocal_fast(next.x), units.y * reciprocal_fast(next.y)));
        units = next;
    }
    uint4 pieces[8];
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
        pieces[j] = load16_shared(w_at + j * 8 * T::W_ROW_BYTES);
    }
#pragma unroll 1  // registers are few
    for (u32 e = 0; e < H::EIGHTS; e++) {
        uint4 x[8];  // rows g of eight times eight tokens
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            x[i] = load16_shared((x_at ^ e * 16) + i * 8 * T::X_ROW_BYTES);
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            uint4 w = eight_of<T::FORMAT>(pieces[j], e);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 low[4] = {x[2 * i].x, x[2 * i + 1].x, x[2 * i].y, x[2 * i + 1].y};
                u32 high[4] = {x[2 * i].z, x[2 * i + 1].z, x[2 * i].w, x[2 * i + 1].w};
                mma_bf16(sums[i][j], low, w.x, w.y);
                mma_bf16(sums[i][j], high, w.z, w.w);
            }
        }
    }
}

// The steps of a split. `at` is the byte of x's rows that is copied next, `write` the slot that it goes to; the first slots
// are on their way.
struct Steps {
    u32 at, end, count;
    u32 begin, write;  // addresses of the ring and of a slot
};

// With the fragments of the next 32 bytes loaded while those at hand are multiplied. S: `Sums`, or `IntegerSums` of codes.
template <Stage stage, class T, class S>
__device__ __forceinline__ void multiply_steps(S &sums, const Copies<stage, T> &copies, Steps s, u32 token, u32 row) {
    // Matrices 0 and 1 of an ldmatrix are rows 0-7 and 8-15 of x, but both column halves of rows 0-7 of w.
    u32 lane = threadIdx.x % 32;
    u32 x_lane = T::x_offset(token + lane % 16, lane / 16);
    u32 w_lane = T::w_offset(row + lane / 16 * 8 + lane % 8, lane / 8 % 2) + T::X_BYTES;
    Fragments fragments[2];
    u32 read = s.begin;
    copy_wait<T::STAGES - 2>();
    __syncthreads();
    fragments[0].load<T>(read + x_lane, read + w_lane, 0);
#pragma unroll 1
    for (u32 step = 0; step < s.count; step++) {
        auto there = copies.there(s.at, s.end);
#pragma unroll
        for (u32 sub = 0; sub < T::SUBSTEPS; sub++) {
            if (sub + 1 == T::SUBSTEPS) {
                // Whoever is here has loaded all of this slot: it can be filled again.
                copy_commit();
                copy_wait<T::STAGES - 2>();
                __syncthreads();
                u32 next = read + T::SLOT_BYTES;
                next = next == s.begin + T::RING_BYTES ? s.begin : next;
                read = step + 1 < s.count ? next : read;  // after the last step: fragments that nobody uses
            }
            fragments[(sub + 1) % 2].load<T>(read + x_lane, read + w_lane, (sub + 1) % T::SUBSTEPS);
            // The copies are spread over all substeps but the last.
            constexpr u32 EACH = (T::X_COPIES + T::W_COPIES) / (T::SUBSTEPS - 1);
#pragma unroll
            for (u32 c = sub * EACH; c < (sub + 1) * EACH && sub + 1 < T::SUBSTEPS; c++) {
                if (c < T::W_COPIES) {
                    copies.copy_w(c, s.write, s.at, there);
                } else {
                    copies.copy_x(c - T::W_COPIES, s.write, s.at, there);
                }
            }
            multiply(sums, fragments[sub % 2]);
        }
        s.at += T::X_ROW_BYTES;
        s.write += T::SLOT_BYTES;
        s.write = s.write == s.begin + T::RING_BYTES ? s.begin : s.write;
    }
}

// Fragments of quantised weights take the registers that a second set would need.
template <Stage stage, class T>
__device__ __forceinline__ void multiply_quantised_steps(
    Sums &sums, float2 &units, const Copies<stage, T> &copies, Steps s, u32 token, u32 row) {
    u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    u32 x_lane = T::X_ROW_BYTES * (token + g) + lane_place<T::FORMAT>(g, t) * 16;
    u32 w_lane = T::X_BYTES + T::w_offset(row + g, t), scales = T::SCALES + row * 2 + threadIdx.x % 32 * 4;
    u32 read = s.begin;
#pragma unroll 1
    for (u32 step = 0; step < s.count; step++) {
        copy_wait<T::STAGES - 2>();
        __syncthreads();  // whoever is here is through with the slot before this: it can be filled again
        auto there = copies.there(s.at, s.end);
#pragma unroll
        for (u32 i = 0; i < T::W_COPIES; i++) {
            copies.copy_w(i, s.write, s.at, there);
        }
        copies.copy_scales(s.write, s.at, there);
#pragma unroll
        for (u32 i = 0; i < T::X_COPIES; i++) {
            copies.copy_x(i, s.write, s.at, there);
        }
        copy_commit();
        multiply_quantised<T>(sums, units, read + x_lane, read + w_lane, read + scales);
        read += T::SLOT_BYTES;
        read = read == s.begin + T::RING_BYTES ? s.begin : read;
        s.at += T::X_ROW_BYTES;
        s.write += T::SLOT_BYTES;
        s.write = s.write == s.begin + T::RING_BYTES ? s.begin : s.write;
    }
}

template <Stage stage, u32 warps, class T> __device__ __forceinline__ void gemm(const Linear &p) {
    extern __shared__ __align__(128) u8 ring[];
    u32 warp = threadIdx.x / 32;
    u32 token_tile, weight_tile;
    u32 token_tiles = (p.rows + TOKENS - 1) / TOKENS;
    u32 weight_tiles = (tiles_of<stage>(p) * 16 + T::WEIGHTS - 1) / T::WEIGHTS;
    place(token_tiles, weight_tiles, &token_tile, &weight_tile);
    u32 first_token = token_tile * TOKENS, first_tile = weight_tile * (T::WEIGHTS / 16);

    // The steps of this split; never none.
    u32 x_bytes = T::x_bytes(p.k);
    u32 all_steps = (x_bytes + T::X_ROW_BYTES - 1) / T::X_ROW_BYTES;
    u32 first_step = all_steps * blockIdx.y / p.splits;
    Steps steps;
    steps.count = all_steps * (blockIdx.y + 1) / p.splits - first_step;
    steps.at = first_step * T::X_ROW_BYTES;
    steps.end = min(x_bytes, steps.at + steps.count * T::X_ROW_BYTES);
    steps.begin = steps.write = shared_address(ring);

    let_next_start();
    Copies<stage, T> copies(p, first_token, first_tile);
#pragma unroll
    for (u32 s = 0; s < T::STAGES - 1; s++) {
        auto there = copies.there(steps.at, steps.end);
#pragma unroll
        for (u32 i = 0; i < T::W_COPIES; i++) {
            copies.copy_w(i, steps.write, steps.at, there);
        }
        copies.copy_scales(steps.write, steps.at, there);
        if (s == 0) {
            wait_for_inputs();
        }
#pragma unroll
        for (u32 i = 0; i < T::X_COPIES; i++) {
            copies.copy_x(i, steps.write, steps.at, there);
        }
        copy_commit();
        steps.at += T::X_ROW_BYTES;
        steps.write += T::SLOT_BYTES;
    }

    u32 token = warp / warps * 64, row = warp % warps * 64;
    Sums sums = {};
    if constexpr (T::FORMAT == BF16) {
        multiply_steps<stage, T>(sums, copies, steps, token, row);
    } else if constexpr (T::FORMAT == W8A8) {
        IntegerSums integers = {};
        multiply_steps<stage, T>(integers, copies, steps, token, row);
        to_numbers(sums, integers, p, first_token + token);
        scale(sums, row_scales<stage>(p, first_tile, row));
    } else {
        float2 units = make_float2(1, 1);
        multiply_quantised_steps<stage, T>(sums, units, copies, steps, token, row);
        scale(sums, T::H::BY_ROW ? row_scales<stage>(p, first_tile, row) : units);
    }
    copy_wait<0>();
    __syncthreads();

    Staged staged = {ring + warp * (64 * 64 * 4)};
    staged.put(sums);
    if (stage != LM_HEAD && p.splits > 1 && !add_splits<T>(p, staged)) {
        return;
    }
    if (stage == RESIDUAL) {
        add_to_residual(p, staged, first_token + token, first_tile * 16 + row);
    } else {
        finish_all<stage>(p, staged, first_token + token, first_tile + row / 16);
    }
    if (stage == LM_HEAD) {
        choose(p, p.arrivals);
    }
}

#define KERNEL(name, stage, weights, blocks, k_step, stages, format)                                       \
    extern "C" __global__ void __launch_bounds__(weights, blocks) name(const __grid_constant__ Linear p) { \
        gemm<stage, weights / 64, Tile<weights / 64, k_step, stages, format>>(p);                          \
    }
