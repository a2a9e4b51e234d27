// Linear stages of 9 to 64 token rows, bound by the bandwidth at which weights arrive: 128 weight rows (eight tiles of
// stages.cuh) times N tokens, N = 16, 32 or 64, in steps of 64 of k (int4: 128) through a pipeline of cp.async.
//
// All blocks are resident at once and share the steps of all tiles evenly, whatever the number of tiles: block i of
// `count` takes steps total * i / count up to total * (i + 1) / count, tile after tile, and its copies run ahead
// across the tiles' borders. The sums of a tile that several blocks share go to `partial`, and the last of them to
// arrive adds them up in the order of the blocks, so that the result does not depend on which that is.
//
// A step's rows of bf16, 128 bytes, lie in shared memory with their 16-byte chunks permuted by the row (chunk ^ row % 8):
// neither the copies nor ldmatrix meet a bank twice. A warp multiplies 32 of the weight rows with all tokens, so
// weights are read from shared memory once and tokens four times: 289 + 5 N clocks for 16 KB of weights, which is 44
// bytes a clock at N = 16 and 27 at N = 64. An H200's memory gives each multiprocessor 20, an A100's 13. Of quantised
// weights a step has 64 bytes of a row; lanes take their pieces, and the tokens', as weights.cuh says.
//
// In flight are 48 KB of weights per multiprocessor and more, 32 KB of int4 beside 64 tokens, in two blocks or, where
// shared memory allows, three.
#pragma once
#include "stages.cuh"

constexpr u32 THREADS = 128;
constexpr u32 TILES = 8;  // tiles of stages.cuh in a block's tile
constexpr u32 ROWS = TILES * 16;

// The same figures are in src/backend/cuda/launch/skinny.rs.
template <u32 N, Format format> struct Shape {
    typedef Held<format> H;
    static constexpr u32 STEP = format == BF16 ? 64 : 4 * H::COLUMNS;  // k
    static constexpr u32 ROW_BYTES = STEP / H::COLUMNS * 16;           // of weights
    static constexpr u32 TOKEN_BYTES = STEP * 2;
    // A step in shared memory: weights, tokens, norm, and the scales of its groups, [tile][half] 16 bytes.
    static constexpr u32 TOKENS = ROWS * ROW_BYTES;
    static constexpr u32 NORM = TOKENS + N * TOKEN_BYTES;
    static constexpr u32 SCALES = NORM + TOKEN_BYTES;
    static constexpr u32 stage_bytes = SCALES + (H::BY_GROUP ? TILES * 2 * 16 : 0);
    static constexpr u32 stages = format == BF16 ? (N == 64 ? 3 : 4) : format == INT4 ? (N == 16 ? 4 : 3)
                                  : N == 16 ? 5 : N == 32 ? 4 : 3;
    static constexpr u32 piece = ROWS * N + N;  // f32: products, sums of squares
    static constexpr u32 blocks = format == INT4 && N == 64 ? 2 : 3;  // of a multiprocessor, that registers have room for

    // What a thread copies: a piece of every WEIGHT_STEPth row of the weights, of every TOKEN_STEPth token.
    static constexpr u32 WEIGHT_PIECES = ROW_BYTES / 16, WEIGHT_STEP = THREADS / WEIGHT_PIECES;
    static constexpr u32 TOKEN_PIECES = TOKEN_BYTES / 16, TOKEN_STEP = THREADS / TOKEN_PIECES;
    static constexpr u32 WEIGHT_COPIES = ROWS / WEIGHT_STEP, TOKEN_COPIES = N / TOKEN_STEP;

    // Where pieces of a row of weights, and of tokens, go.
    static __device__ __forceinline__ u32 weight_place(u32 row, u32 piece) {
        return row * ROW_BYTES + (format == BF16 ? piece ^ row % 8 : piece) * 16;
    }
    static __device__ __forceinline__ u32 place(u32 row, u32 piece) {
        return row * TOKEN_BYTES + (format == BF16 ? piece ^ row % 8 : token_place<format>(row, piece)) * 16;
    }
};

// Of the weights.
template <class S> struct Copies {
    const u8 *rows[S::WEIGHT_COPIES];
    u32 valid;         // bit i: rows[i] is there
    const u8 *scales;  // int4: of a half of a tile, in the first threads
    u32 scale_bytes;
};

template <Stage stage, u32 N, Format format, class S>
__device__ __forceinline__ void take_tile(const Linear &p, Copies<S> &copies, u32 tile) {
    copies.valid = 0;
#pragma unroll
    for (u32 i = 0; i < S::WEIGHT_COPIES; i++) {
        u32 row = threadIdx.x / S::WEIGHT_PIECES;
        u32 of = tile * TILES + i * S::WEIGHT_STEP / 16 + (S::WEIGHT_STEP > 16 ? row / 16 : 0);
        WeightRow found = find_row<stage>(p, of, row / 8 % 2, row % 8);
        copies.rows[i] = found.begin<format>(p.k);
        copies.valid |= (u32)found.valid << i;
    }
    if (Held<format>::BY_GROUP && threadIdx.x < TILES * 2) {
        u32 of = tile * TILES + threadIdx.x / 2, half = threadIdx.x % 2;
        copies.scales = find_row<stage>(p, of, half, 0).group_scales(p.k);
        copies.scale_bytes = group_scale_bytes<stage>(p, of, half);
    }
}

template <Stage stage, u32 N, Format format, class S>
__device__ __forceinline__ void copy_weights(const Linear &p, const Copies<S> &copies, u32 step, u32 stage_memory) {
    typedef Held<format> H;
    u32 piece = threadIdx.x % S::WEIGHT_PIECES, k = step * S::STEP + piece * H::COLUMNS;
    u32 to = stage_memory + S::weight_place(threadIdx.x / S::WEIGHT_PIECES, piece);
    u32 bytes = H::piece_bytes((int)(p.k - k));
#pragma unroll
    for (u32 i = 0; i < S::WEIGHT_COPIES; i++) {
        u32 there = copies.valid >> i & 1 ? bytes : 0;
        copy16_async(to + i * S::WEIGHT_STEP * S::ROW_BYTES, copies.rows[i] + H::offset(k), there);
    }
    if (stage != RESIDUAL && threadIdx.x < S::TOKEN_PIECES) {
        u32 column = step * S::STEP + threadIdx.x * 8;
        copy16_async(stage_memory + S::NORM + S::place(0, threadIdx.x), p.norm + column, column < p.k ? 16 : 0);
    }
    if (H::BY_GROUP && threadIdx.x < TILES * 2) {
        copy16_async(stage_memory + S::SCALES + threadIdx.x * 16, copies.scales + step * 16, copies.scale_bytes);
    }
}

template <class S> __device__ __forceinline__ void copy_tokens(const Linear &p, u32 step, u32 stage_memory) {
    u32 k = step * S::STEP + threadIdx.x % S::TOKEN_PIECES * 8;
#pragma unroll
    for (u32 i = 0; i < S::TOKEN_COPIES; i++) {
        u32 token = threadIdx.x / S::TOKEN_PIECES + i * S::TOKEN_STEP;
        u32 to = stage_memory + S::TOKENS + S::place(token, threadIdx.x % S::TOKEN_PIECES);
        copy16_async(to, p.x + (u64)token * p.x_stride + k, k < p.k && token < p.rows ? 16 : 0);
    }
}

// The same by way of registers.
template <class S> struct Tokens {
    uint4 at[S::TOKEN_COPIES];

    __device__ __forceinline__ void load(const Linear &p, u32 step, bool there) {
        u32 k = step * S::STEP + threadIdx.x % S::TOKEN_PIECES * 8;
#pragma unroll
        for (u32 i = 0; i < S::TOKEN_COPIES; i++) {
            u32 token = threadIdx.x / S::TOKEN_PIECES + i * S::TOKEN_STEP;
            at[i] = make_uint4(0, 0, 0, 0);
            if (there && k < p.k && token < p.rows) {
                at[i] = load16(p.x + (u64)token * p.x_stride + k);
            }
        }
    }

    __device__ __forceinline__ void store(u32 stage_memory) const {
#pragma unroll
        for (u32 i = 0; i < S::TOKEN_COPIES; i++) {
            u32 token = threadIdx.x / S::TOKEN_PIECES + i * S::TOKEN_STEP;
            store16_shared(stage_memory + S::TOKENS + S::place(token, threadIdx.x % S::TOKEN_PIECES), at[i]);
        }
    }
};

// Of one warp: products [m][n][], m the two tiles of its rows, n eight tokens each, as mma leaves them, and squares
// of its quarter of k. Lane (g, t) has those of tokens 8 n + g, and of every fourth pair of k.
template <u32 N> struct Sums {
    float c[2][N / 8][4];
    float squares[N / 8];
};

template <Stage stage, u32 N, class S> __device__ __forceinline__ void multiply(Sums<N> &sums, u32 stage_memory) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 tokens = stage_memory + S::TOKENS;
    u32 norm[8];  // elements 2t, 2t+1 of the step's eight chunks: every row of the matrices is the same chunk
    if (stage != RESIDUAL) {
        u32 from = stage_memory + S::NORM + lane / 8 * 16;
        ldmatrix4(norm, from);
        ldmatrix4(norm + 4, from + 64);
    }
    u32 weights_row = stage_memory + (warp * 32 + lane % 16) * S::ROW_BYTES;
    u32 weights_chunk = (lane / 16 ^ lane % 8) * 16;
    u32 tokens_row = tokens + (lane / 16 * 8 + lane % 8) * S::TOKEN_BYTES;
    u32 tokens_chunk = (lane / 8 % 2 ^ lane % 8) * 16;
#pragma unroll
    for (u32 k = 0; k < S::STEP / 16; k++) {
        u32 a[2][4];
#pragma unroll
        for (u32 m = 0; m < 2; m++) {
            ldmatrix4(a[m], weights_row + m * 16 * S::ROW_BYTES + (weights_chunk ^ k * 32));
        }
#pragma unroll
        for (u32 n = 0; n < N / 8; n += 2) {
            u32 b[4];
            ldmatrix4(b, tokens_row + n * 8 * S::TOKEN_BYTES + (tokens_chunk ^ k * 32));
            if (stage != RESIDUAL) {
                if (warp == k) {
                    sums.squares[n] = add_squares(add_squares(sums.squares[n], b[0]), b[1]);
                    sums.squares[n + 1] = add_squares(add_squares(sums.squares[n + 1], b[2]), b[3]);
                }
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    b[i] = mul_bf16x2(b[i], norm[2 * k + i % 2]);
                }
            }
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                mma_bf16(sums.c[m][n], a[m], b[0], b[1]);
                mma_bf16(sums.c[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Multiplies the sums of a lane's rows, g of each half of its warp's two tiles.
template <u32 N> __device__ __forceinline__ void scale(Sums<N> &sums, const float (&by)[2][2]) {
#pragma unroll
    for (u32 i = 0; i < 2 * N / 8; i++) {
        float *c = sums.c[i / (N / 8)][i % (N / 8)];
        c[0] *= by[i / (N / 8)][0];
        c[1] *= by[i / (N / 8)][0];
        c[2] *= by[i / (N / 8)][1];
        c[3] *= by[i / (N / 8)][1];
    }
}

// What the sums are in units of: the rows' scales, or those of the present group.
struct Units {
    float of[2][2];

    // Of a tile that is begun. Where scales are the rows', they are under way while the tile is multiplied.
    template <Stage stage, Format format> __device__ __forceinline__ void begin(const Linear &p, u32 tile) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            of[i / 2][i % 2] = 1;
            if (Held<format>::BY_ROW) {
                u32 of_warp = tile * TILES + threadIdx.x / 32 * 2 + i / 2;
                of[i / 2][i % 2] = find_row<stage>(p, of_warp, i % 2, threadIdx.x % 32 / 4).scale();
            }
        }
    }

    // The next group's, which the sums are brought to.
    template <u32 N> __device__ __forceinline__ void change(Sums<N> &sums, u32 scales) {
        float ratio[2][2];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 at = scales + (threadIdx.x / 32 * 4 + i) * 16 + threadIdx.x % 32 / 4 * 2;
            float next = unit_of(from_bf16(load2_shared(at)));
            ratio[i / 2][i % 2] = of[i / 2][i % 2] * reciprocal_fast(next);
            of[i / 2][i % 2] = next;
        }
        scale(sums, ratio);
    }
};

// The same with quantised weights.
template <Stage stage, u32 N, Format format, class S>
__device__ __forceinline__ void multiply_quantised(Sums<N> &sums, Units &units, u32 stage_memory) {
    typedef Held<format> H;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    if constexpr (H::BY_GROUP) {
        units.change(sums, stage_memory + S::SCALES);
    }
    uint4 pieces[2][2];  // rows g of the halves of two tiles
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        pieces[i / 2][i % 2] = load16_shared(stage_memory + S::weight_place(warp * 32 + i * 8 + g, t));
    }
    u32 tokens = stage_memory + S::TOKENS + g * S::TOKEN_BYTES + lane_place<format>(g, t) * 16;
    u32 norm = stage_memory + S::NORM + lane_place<format>(0, t) * 16;
#pragma unroll
    for (u32 e = 0; e < H::EIGHTS; e++) {
        u32 low[2][4], high[2][4];
#pragma unroll
        for (u32 m = 0; m < 2; m++) {
            uint4 a = eight_of<format>(pieces[m][0], e), b = eight_of<format>(pieces[m][1], e);
            low[m][0] = a.x, low[m][1] = b.x, low[m][2] = a.y, low[m][3] = b.y;
            high[m][0] = a.z, high[m][1] = b.z, high[m][2] = a.w, high[m][3] = b.w;
        }
        uint4 by;
        if (stage != RESIDUAL) {
            by = load16_shared(norm ^ e * 16);
        }
#pragma unroll
        for (u32 n = 0; n < N / 8; n++) {
            uint4 v = load16_shared((tokens ^ e * 16) + n * 8 * S::TOKEN_BYTES);
            if (stage != RESIDUAL) {
                // Each warp has the squares of a quarter: of its own e, and where there are two, of every other n.
                if (warp % H::EIGHTS == e && n % (4 / H::EIGHTS) == warp / H::EIGHTS) {
                    sums.squares[n] = add_squares(add_squares(sums.squares[n], v.x), v.y);
                    sums.squares[n] = add_squares(add_squares(sums.squares[n], v.z), v.w);
                }
                v = make_uint4(mul_bf16x2(v.x, by.x), mul_bf16x2(v.y, by.y), mul_bf16x2(v.z, by.z), mul_bf16x2(v.w, by.w));
            }
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                mma_bf16(sums.c[m][n], low[m], v.x, v.y);
            }
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                mma_bf16(sums.c[m][n], high[m], v.z, v.w);
            }
        }
    }
}

// Adds this block's piece of a tile to `partial` and says whether all pieces are there, `sums` then being their sum.
// With `first` and `last` the blocks that have a part of the tile; a block has the beginning of at most one tile that
// it does not end (stored as its second piece) and the rest of at most one that it did not begin (its first).
template <Stage stage, u32 N>
__device__ __forceinline__ bool gather(const Linear &p, u32 tile, u32 first, u32 last, Sums<N> &sums, float scales[N]) {
    constexpr u32 piece = Shape<N, BF16>::piece;
    u32 lane_at = threadIdx.x / 32 * (2 * N / 8 * 128) + threadIdx.x % 32 * 4;
    float *own = p.partial + (u64)(2 * blockIdx.x + (blockIdx.x == first)) * piece;
#pragma unroll
    for (u32 i = 0; i < 2 * N / 8; i++) {
        float *c = sums.c[i / (N / 8)][i % (N / 8)];
        *(float4 *)(own + lane_at + i * 128) = make_float4(c[0], c[1], c[2], c[3]);
        c[0] = c[1] = c[2] = c[3] = 0;
    }
    if (stage != RESIDUAL && threadIdx.x < N) {
        own[ROWS * N + threadIdx.x] = scales[threadIdx.x];
    }
    if (!last_to_arrive(p.arrivals + tile, last - first + 1)) {
        return false;
    }
    float squares = 0;
    for (u32 block = first; block <= last; block++) {
        const float *from = p.partial + (u64)(2 * block + (block == first)) * piece;
#pragma unroll
        for (u32 i = 0; i < 2 * N / 8; i++) {
            float *c = sums.c[i / (N / 8)][i % (N / 8)];
            uint4 add = load16(from + lane_at + i * 128);
            c[0] += __uint_as_float(add.x);
            c[1] += __uint_as_float(add.y);
            c[2] += __uint_as_float(add.z);
            c[3] += __uint_as_float(add.w);
        }
        if (stage != RESIDUAL && threadIdx.x < N) {
            squares += from[ROWS * N + threadIdx.x];
        }
    }
    if (stage != RESIDUAL && threadIdx.x < N) {
        scales[threadIdx.x] = squares;
    }
    __syncthreads();
    return true;
}

template <Stage stage, u32 N>
__device__ __forceinline__ void finish_tile(const Linear &p, u32 tile, const Sums<N> &sums, const float scales[N], u64 best[N / 16]) {
    u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 tiles = tiles_of<stage>(p);
    // Lane (g, t) finishes one of the warp's two tiles (bit 2 of g) for one token (its bits 1 and 0 and t) of sixteen.
    u32 own_tile = tile * TILES + threadIdx.x / 32 * 2 + g / 4;
#pragma unroll
    for (u32 n = 0; n < N / 16; n++) {
        float a[8], b[8];
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            a[i] = sums.c[i / 4][2 * n + i / 2 % 2][i % 2];
            b[i] = sums.c[i / 4][2 * n + i / 2 % 2][i % 2 + 2];
        }
        transpose8(a);
        transpose8(b);
        u32 token = n * 16 + g / 2 % 2 * 8 + t * 2 + g % 2;
        if (token < p.rows && own_tile < tiles) {
            if (stage != RESIDUAL) {
                float scale = rsqrt_fast(scales[token] * reciprocal_fast((float)p.k) + p.eps);
#pragma unroll
                for (u32 i = 0; i < 8; i++) {
                    a[i] *= scale;
                    b[i] *= scale;
                }
            }
            finish<stage>(p, own_tile, token, a, b, &best[n]);
        }
    }
}

template <Stage stage, u32 N, Format format> __device__ __forceinline__ void product(const Linear &p) {
    typedef Shape<N, format> S;
    constexpr u32 stages = S::stages;
    extern __shared__ __align__(128) u8 memory[];
    u32 tiles = (tiles_of<stage>(p) + TILES - 1) / TILES;
    u32 steps = (p.k + S::STEP - 1) / S::STEP;
    u32 total = tiles * steps, count = gridDim.x;
    u32 begin = (u32)((u64)total * blockIdx.x / count), end = (u32)((u64)total * (blockIdx.x + 1) / count);
    u32 tile = begin / steps, step = begin - tile * steps;

    let_next_start();
    Copies<S> copies;
    u32 next = begin, next_tile = tile, next_step = step;  // what is copied next
    take_tile<stage, N, format>(p, copies, next_tile);
    auto advance = [&] {
        next++;
        if (++next_step == steps) {
            next_step = 0;
            next_tile++;
            take_tile<stage, N, format>(p, copies, next_tile);
        }
    };
    u32 base = shared_address(memory);
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        if (next < end) {
            copy_weights<stage, N, format>(p, copies, next_step, base + i * S::stage_bytes);
            advance();
        }
        copy_commit();
    }
    wait_for_inputs();
    // The first tokens come by way of registers: copied behind all these weights, they would wait for them.
    Tokens<S> tokens[stages - 1];
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        tokens[i].load(p, (step + i) % steps, begin + i < end);
    }
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        tokens[i].store(base + i * S::stage_bytes);
    }

    u64 best[N / 16] = {};
    Sums<N> sums = {};
    Units units;
    units.begin<stage, format>(p, tile);
    u32 from = step;                 // where this block's part of the tile begins
    u32 now = 0, free = stages - 1;  // stage that is multiplied, stage that is copied to
    for (u32 at = begin; at < end; at++) {
        copy_wait<stages - 2>();
        __syncthreads();
        if (next < end) {
            copy_weights<stage, N, format>(p, copies, next_step, base + free * S::stage_bytes);
            copy_tokens<S>(p, next_step, base + free * S::stage_bytes);
            advance();
        }
        copy_commit();
        if constexpr (format == BF16) {
            multiply<stage, N, S>(sums, base + now * S::stage_bytes);
        } else {
            multiply_quantised<stage, N, format, S>(sums, units, base + now * S::stage_bytes);
        }
        free = now;
        now = now + 1 == stages ? 0 : now + 1;
        step++;
        if (step < steps && at + 1 < end) {
            continue;
        }
        if (format != BF16) {
            scale(sums, units.of);
        }
        // Sums of squares of the tokens: of each warp, then of all in the first row. They lie where the last step
        // was, which is not copied to before all threads meet again.
        auto scales = (float(*)[N])(memory + free * S::stage_bytes);
        if (stage != RESIDUAL) {
            __syncthreads();
#pragma unroll
            for (u32 n = 0; n < N / 8; n++) {
                float sum = sums.squares[n];
                sum += __shfl_xor_sync(0xffffffff, sum, 1);
                sum += __shfl_xor_sync(0xffffffff, sum, 2);
                if (threadIdx.x % 4 == 0) {
                    scales[threadIdx.x / 32][n * 8 + threadIdx.x % 32 / 4] = sum;
                }
            }
            __syncthreads();
            if (threadIdx.x < N) {
                u32 token = threadIdx.x;
                scales[0][token] = scales[0][token] + scales[1][token] + scales[2][token] + scales[3][token];
            }
            __syncthreads();
        }
        bool whole = from == 0 && step == steps;
        // Block i has step s where total * i / count <= s, rounded down: the last such i.
        u32 first = (u32)(((u64)(tile * steps + 1) * count - 1) / total);
        u32 last = (u32)(((u64)(tile + 1) * steps * count - 1) / total);
        if (whole || gather<stage, N>(p, tile, first, last, sums, scales[0])) {
            finish_tile<stage, N>(p, tile, sums, scales[0], best);
        }
        sums = {};
        from = step = 0;
        tile++;
        units.begin<stage, format>(p, tile);
    }

    if (stage == LM_HEAD) {
        copy_wait<0>();
        __syncthreads();
        u64(*of_warp)[N] = (u64(*)[N])memory;
        u32 lane = threadIdx.x % 32;
#pragma unroll
        for (u32 n = 0; n < N / 16; n++) {
            u64 other = __shfl_xor_sync(0xffffffff, best[n], 16);
            if (lane < 16) {
                of_warp[threadIdx.x / 32][n * 16 + lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2] = max(best[n], other);
            }
        }
        __syncthreads();
        if (threadIdx.x < p.rows) {
            u32 token = threadIdx.x;
            atomicMax(&p.best[token], max(max(of_warp[0][token], of_warp[1][token]), max(of_warp[2][token], of_warp[3][token])));
        }
        choose(p, p.arrivals + tiles);
    }
}

#define SKINNY(name, stage, n, format)                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, Shape<n, format>::blocks)             \
        name(const __grid_constant__ Linear p) {                                                      \
        product<stage, n, format>(p);                                                                 \
    }
#define SKINNY_STAGE(name, stage, format)  \
    SKINNY(name##_16, stage, 16, format)   \
    SKINNY(name##_32, stage, 32, format)   \
    SKINNY(name##_64, stage, 64, format)
#define SKINNIES(name, format)                       \
    SKINNY_STAGE(name##_qkv, QKV, format)            \
    SKINNY_STAGE(name##_residual, RESIDUAL, format)  \
    SKINNY_STAGE(name##_gate_up, GATE_UP, format)    \
    SKINNY_STAGE(name##_lm_head, LM_HEAD, format)
