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
//
// The copies from global memory run `stages - 1` steps ahead. Within a step the fragments of the next 16 columns are
// loaded while those at hand are multiplied. The loop has no branches: what lies beyond the rows or columns is
// copied as zeros, and reads nothing.
#include "stages.cuh"

#define TOKENS 128u  // of a block
#define GROUP 16u    // token tiles of a group, at most: see `place`

// Warps along the weights, columns of k in a step, steps that the ring holds.
template <u32 warps, u32 k_step, u32 stages> struct Tile {
    static constexpr u32 WEIGHTS = 64 * warps;
    static constexpr u32 THREADS = 2 * warps * 32;
    static constexpr u32 PIECES = k_step / 8;             // 16-byte pieces of a row
    static constexpr u32 ROW_STEP = THREADS / PIECES;     // rows that the block copies at once; a multiple of 16
    static constexpr u32 X_COPIES = TOKENS / ROW_STEP;    // of one thread in a step
    static constexpr u32 W_COPIES = WEIGHTS / ROW_STEP;
    static constexpr u32 ROW_BYTES = k_step * 2;
    static constexpr u32 X_BYTES = TOKENS * ROW_BYTES;
    static constexpr u32 SLOT_BYTES = (TOKENS + WEIGHTS) * ROW_BYTES;
    static constexpr u32 RING_BYTES = stages * SLOT_BYTES;
    static constexpr u32 SUBSTEPS = k_step / 16;          // mma steps in a step
    static_assert(RING_BYTES >= 2 * warps * 64 * 64 * 4, "the ring is where products are staged at the end");

    // Where a piece of a row lies in a tile of the ring: any eight rows from a multiple of eight on have the same
    // piece in eight different groups of four banks.
    static __device__ __forceinline__ u32 offset(u32 row, u32 piece) {
        u32 swizzle = k_step == 64 ? row % 8 : row / 2 % 4;
        return row * ROW_BYTES + (piece ^ swizzle) * 16;
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

// What one thread copies: one 16-byte piece of every ROW_STEP-th row.
template <Stage stage, class T> struct Copies {
    // Only the rows of QKV are not evenly spaced: heads have halves, and there are three matrices.
    static constexpr u32 POINTERS = stage == QKV ? T::W_COPIES : 1;

    const u8 *x;              // first row, at the thread's piece
    const u8 *w[POINTERS];
    u64 x_step, w_step;       // bytes between the thread's rows
    u32 piece;                // byte of the row's part that a step takes
    u32 to;                   // offset of the first row in a tile
    u32 valid;                // bit i: row i of w is one; bit 16 + i: of x

    __device__ __forceinline__ Copies(const Linear &p, u32 first_token, u32 first_tile) {
        u32 row = threadIdx.x / T::PIECES;
        piece = threadIdx.x % T::PIECES * 16;
        to = T::offset(row, piece / 16);
        x = (const u8 *)(p.x + (u64)(first_token + row) * p.x_stride) + piece;
        x_step = (u64)T::ROW_STEP * p.x_stride * 2;
        w_step = (u64)T::ROW_STEP * p.k * (stage == GATE_UP ? 1 : 2);
        valid = 0;
#pragma unroll
        for (u32 i = 0; i < T::X_COPIES; i++) {
            valid |= (first_token + row + i * T::ROW_STEP < p.rows ? 1u : 0u) << (16 + i);
        }
#pragma unroll
        for (u32 i = 0; i < T::W_COPIES; i++) {
            bool is_row;
            u32 tile = first_tile + (row + i * T::ROW_STEP) / 16;
            const u16 *from = weight_row<stage>(p, tile, row / 8 % 2, row % 8, &is_row);
            valid |= (is_row ? 1u : 0u) << i;
            if (i < POINTERS) {
                w[i] = (const u8 *)from + piece;
            }
        }
    }

    // Rows that are there in a step that starts at byte `at` of the rows.
    __device__ __forceinline__ u32 valid_at(u32 at, u32 end) const { return at + piece < end ? valid : 0; }

    __device__ __forceinline__ void copy_x(u32 i, u32 slot, u32 at, u32 rows) const {
        copy16_async(slot + to + i * T::ROW_STEP * T::ROW_BYTES, x + i * x_step + at, rows & 1u << (16 + i) ? 16 : 0);
    }

    __device__ __forceinline__ void copy_w(u32 i, u32 slot, u32 at, u32 rows) const {
        const u8 *from = stage == QKV ? w[i % POINTERS] : w[0] + i * w_step;
        copy16_async(slot + T::X_BYTES + to + i * T::ROW_STEP * T::ROW_BYTES, from + at, rows & 1u << i ? 16 : 0);
    }
};

// What a warp multiplies at once: 64 tokens and 64 weight rows x 16 columns of k.
struct Fragments {
    u32 x[4][4];  // four m16 k16
    u32 w[4][4];  // four pairs of n8 k16: b0, b1 of the first, b0, b1 of the second

    // `x_at` and `w_at`: the lane's address for the step's first 16 columns; XOR leads to others.
    template <class T> __device__ __forceinline__ void load(u32 x_at, u32 w_at, u32 substep) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            ldmatrix4(x[i], (x_at ^ substep * 32) + i * 16 * T::ROW_BYTES);
            ldmatrix4(w[i], (w_at ^ substep * 32) + i * 16 * T::ROW_BYTES);
        }
    }
};

typedef float Sums[4][8][4];  // [m16][n8][of a thread]

__device__ __forceinline__ void multiply(Sums &sums, const Fragments &f) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            mma_bf16(sums[i][j], f.x[i], f.w[j / 2][j % 2 * 2], f.w[j / 2][j % 2 * 2 + 1]);
        }
    }
}

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

template <Stage stage, u32 warps, u32 k_step, u32 stages> __device__ __forceinline__ void gemm(const Linear &p) {
    typedef Tile<warps, k_step, stages> T;
    extern __shared__ __align__(128) u8 ring[];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 token_tile, weight_tile;
    u32 token_tiles = (p.rows + TOKENS - 1) / TOKENS;
    u32 weight_tiles = (tiles_of<stage>(p) * 16 + T::WEIGHTS - 1) / T::WEIGHTS;
    place(token_tiles, weight_tiles, &token_tile, &weight_tile);
    u32 first_token = token_tile * TOKENS, first_tile = weight_tile * (T::WEIGHTS / 16);

    // The steps of this split; never none.
    u32 all_steps = (p.k + k_step - 1) / k_step;
    u32 first_step = all_steps * blockIdx.y / p.splits;
    u32 steps = all_steps * (blockIdx.y + 1) / p.splits - first_step;
    u32 at = first_step * T::ROW_BYTES;  // byte of the rows
    u32 end = min(p.k * 2, at + steps * T::ROW_BYTES);

    let_next_start();
    Copies<stage, T> copies(p, first_token, first_tile);
    u32 begin = shared_address(ring);
    u32 write = begin;
#pragma unroll
    for (u32 s = 0; s < stages - 1; s++) {
        u32 valid = copies.valid_at(at, end);
#pragma unroll
        for (u32 i = 0; i < T::W_COPIES; i++) {
            copies.copy_w(i, write, at, valid);
        }
        if (s == 0) {
            wait_for_inputs();
        }
#pragma unroll
        for (u32 i = 0; i < T::X_COPIES; i++) {
            copies.copy_x(i, write, at, valid);
        }
        copy_commit();
        at += T::ROW_BYTES;
        write += T::SLOT_BYTES;
    }

    // Matrices 0 and 1 of an ldmatrix are rows 0-7 and 8-15 of x, but both column halves of rows 0-7 of w.
    u32 token = warp / warps * 64, row = warp % warps * 64;
    u32 x_lane = T::offset(token + lane % 16, lane / 16);
    u32 w_lane = T::offset(row + lane / 16 * 8 + lane % 8, lane / 8 % 2) + T::X_BYTES;

    Sums sums = {};
    Fragments fragments[2];
    u32 read = begin;
    copy_wait<stages - 2>();
    __syncthreads();
    fragments[0].load<T>(read + x_lane, read + w_lane, 0);
#pragma unroll 1
    for (u32 step = 0; step < steps; step++) {
        u32 valid = copies.valid_at(at, end);
#pragma unroll
        for (u32 s = 0; s < T::SUBSTEPS; s++) {
            if (s + 1 == T::SUBSTEPS) {
                // Whoever is here has loaded all of this slot: it can be filled again.
                copy_commit();
                copy_wait<stages - 2>();
                __syncthreads();
                u32 next = read + T::SLOT_BYTES;
                next = next == begin + T::RING_BYTES ? begin : next;
                read = step + 1 < steps ? next : read;  // after the last step: fragments that nobody uses
            }
            fragments[(s + 1) % 2].load<T>(read + x_lane, read + w_lane, (s + 1) % T::SUBSTEPS);
            // The copies are spread over all substeps but the last.
            constexpr u32 EACH = (T::X_COPIES + T::W_COPIES) / (T::SUBSTEPS - 1);
#pragma unroll
            for (u32 c = s * EACH; c < (s + 1) * EACH && s + 1 < T::SUBSTEPS; c++) {
                if (c < T::W_COPIES) {
                    copies.copy_w(c, write, at, valid);
                } else {
                    copies.copy_x(c - T::W_COPIES, write, at, valid);
                }
            }
            multiply(sums, fragments[s % 2]);
        }
        at += T::ROW_BYTES;
        write += T::SLOT_BYTES;
        write = write == begin + T::RING_BYTES ? begin : write;
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

#define KERNEL(name, stage, weights, blocks, k_step, stages)                                              \
    extern "C" __global__ void __launch_bounds__(weights, blocks) name(const __grid_constant__ Linear p) { \
        gemm<stage, weights / 64, k_step, stages>(p);                                                      \
    }
#define KERNELS(stage, name)                         \
    KERNEL(gemm_##name##_256, stage, 256, 1, 64, 3)  \
    KERNEL(gemm_##name##_128, stage, 128, 2, 32, 5)  \
    KERNEL(gemm_##name##_64, stage, 64, 4, 32, 3)

KERNELS(QKV, qkv)
KERNELS(RESIDUAL, residual)
KERNELS(GATE_UP, gate_up)
KERNELS(LM_HEAD, lm_head)
