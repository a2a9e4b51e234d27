// Linear stages of 9 to 64 token rows, bound by the bandwidth at which weights arrive: 128 weight rows (eight tiles of
// stages.cuh) times N tokens, N = 16, 32 or 64, in steps of 64 of k through a pipeline of cp.async.
//
// All blocks are resident at once and share the steps of all tiles evenly, whatever the number of tiles: block i of
// `count` takes steps total * i / count up to total * (i + 1) / count, tile after tile, and its copies run ahead
// across the tiles' borders. The sums of a tile that several blocks share go to `partial`, and the last of them to
// arrive adds them up in the order of the blocks, so that the result does not depend on which that is.
//
// A step's rows of 128 bytes lie in shared memory with their 16-byte chunks permuted by the row (chunk ^ row % 8):
// neither the copies nor ldmatrix meet a bank twice. A warp multiplies 32 of the weight rows with all tokens, so
// weights are read from shared memory once and tokens four times: 289 + 5 N clocks for 16 KB of weights, which is 44
// bytes a clock at N = 16 and 27 at N = 64. An H200's memory gives each multiprocessor 20, an A100's 13.
//
// In flight are 48 KB of weights a block (32 KB at N = 64), in two blocks per multiprocessor or, where shared memory
// allows, three.
#include "stages.cuh"

constexpr u32 THREADS = 128;
constexpr u32 TILES = 8;                         // tiles of stages.cuh in a block's tile
constexpr u32 STEP = 64;                         // k
constexpr u32 ROW_BYTES = STEP * 2;
constexpr u32 WEIGHT_BYTES = TILES * 16 * ROW_BYTES;

// The same figures are in src/backend/cuda/skinny.rs.
template <u32 N> struct Shape {
    static constexpr u32 stages = N == 64 ? 3 : 4;
    static constexpr u32 stage_bytes = WEIGHT_BYTES + N * ROW_BYTES + ROW_BYTES;  // weights, tokens, norm
    static constexpr u32 piece = TILES * 16 * N + N;                              // f32: products, sums of squares
};

// What a thread copies: 16 bytes of a row in each of the eight tiles, of every sixteenth token, of the norm.
struct Copies {
    const u16 *rows[TILES];
    u32 valid;  // bit i: rows[i] is there
};

template <Stage stage> __device__ __forceinline__ void take_tile(const Linear &p, Copies &copies, u32 tile) {
    u32 row = threadIdx.x / 8;
    copies.valid = 0;
#pragma unroll
    for (u32 i = 0; i < TILES; i++) {
        bool valid;
        copies.rows[i] = weight_row<stage>(p, tile * TILES + i, row / 8, row % 8, &valid);
        copies.valid |= (u32)valid << i;
    }
}

// Where this thread's chunk of row `threadIdx.x / 8` goes, and from which element of a step's 64 it comes.
__device__ __forceinline__ u32 own_chunk() {
    u32 row = threadIdx.x / 8;
    return row * ROW_BYTES + (threadIdx.x % 8 ^ row % 8) * 16;
}

template <Stage stage, u32 N>
__device__ __forceinline__ void copy_weights(const Linear &p, const Copies &copies, u32 step, u32 stage_memory) {
    u32 k = step * STEP + threadIdx.x % 8 * 8;
    u32 to = stage_memory + own_chunk();
#pragma unroll
    for (u32 i = 0; i < TILES; i++) {
        copy16_async(to + i * 16 * ROW_BYTES, copies.rows[i] + k, k < p.k && copies.valid >> i & 1 ? 16 : 0);
    }
    if (stage != RESIDUAL && threadIdx.x < 8) {
        copy16_async(stage_memory + WEIGHT_BYTES + N * ROW_BYTES + threadIdx.x * 16, p.norm + k, k < p.k ? 16 : 0);
    }
}

template <u32 N> __device__ __forceinline__ void copy_tokens(const Linear &p, u32 step, u32 stage_memory) {
    u32 k = step * STEP + threadIdx.x % 8 * 8;
    u32 to = stage_memory + WEIGHT_BYTES + own_chunk();
#pragma unroll
    for (u32 i = 0; i < N / 16; i++) {
        u32 token = threadIdx.x / 8 + i * 16;
        copy16_async(to + i * 16 * ROW_BYTES, p.x + (u64)token * p.x_stride + k, k < p.k && token < p.rows ? 16 : 0);
    }
}

// The same by way of registers.
template <u32 N> struct Tokens {
    uint4 at[N / 16];

    __device__ __forceinline__ void load(const Linear &p, u32 step, bool there) {
        u32 k = step * STEP + threadIdx.x % 8 * 8;
#pragma unroll
        for (u32 i = 0; i < N / 16; i++) {
            u32 token = threadIdx.x / 8 + i * 16;
            at[i] = make_uint4(0, 0, 0, 0);
            if (there && k < p.k && token < p.rows) {
                at[i] = load16(p.x + (u64)token * p.x_stride + k);
            }
        }
    }

    __device__ __forceinline__ void store(u32 stage_memory) const {
#pragma unroll
        for (u32 i = 0; i < N / 16; i++) {
            store16_shared(stage_memory + WEIGHT_BYTES + own_chunk() + i * 16 * ROW_BYTES, at[i]);
        }
    }
};

// Of one warp: products [m][n][], m the two tiles of its rows, n eight tokens each, as mma leaves them, and squares
// of its quarter of k. Lane (g, t) has those of tokens 8 n + g, and of every fourth pair of k.
template <u32 N> struct Sums {
    float c[2][N / 8][4];
    float squares[N / 8];
};

template <Stage stage, u32 N> __device__ __forceinline__ void multiply(Sums<N> &sums, u32 stage_memory) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 tokens = stage_memory + WEIGHT_BYTES;
    u32 norm[8];  // elements 2t, 2t+1 of the step's eight chunks: every row of the matrices is the same chunk
    if (stage != RESIDUAL) {
        u32 from = tokens + N * ROW_BYTES + lane / 8 * 16;
        ldmatrix4(norm, from);
        ldmatrix4(norm + 4, from + 64);
    }
    u32 weights_row = stage_memory + (warp * 32 + lane % 16) * ROW_BYTES;
    u32 weights_chunk = (lane / 16 ^ lane % 8) * 16;
    u32 tokens_row = tokens + (lane / 16 * 8 + lane % 8) * ROW_BYTES;
    u32 tokens_chunk = (lane / 8 % 2 ^ lane % 8) * 16;
#pragma unroll
    for (u32 k = 0; k < STEP / 16; k++) {
        u32 a[2][4];
#pragma unroll
        for (u32 m = 0; m < 2; m++) {
            ldmatrix4(a[m], weights_row + m * 16 * ROW_BYTES + (weights_chunk ^ k * 32));
        }
#pragma unroll
        for (u32 n = 0; n < N / 8; n += 2) {
            u32 b[4];
            ldmatrix4(b, tokens_row + n * 8 * ROW_BYTES + (tokens_chunk ^ k * 32));
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

// Lane (g, t) gives v[i] = element i of row g and takes element g of rows 0..7; separately for each t.
__device__ __forceinline__ void transpose8(float v[8]) {
    u32 g = threadIdx.x % 32 / 4;
#pragma unroll
    for (u32 bit = 1; bit < 8; bit *= 2) {
        bool upper = g & bit;
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            if (!(i & bit)) {
                float other = __shfl_xor_sync(0xffffffff, upper ? v[i] : v[i | bit], bit * 4);
                v[i] = upper ? other : v[i];
                v[i | bit] = upper ? v[i | bit] : other;
            }
        }
    }
}

// Adds this block's piece of a tile to `partial` and says whether all pieces are there, `sums` then being their sum.
// With `first` and `last` the blocks that have a part of the tile; a block has the beginning of at most one tile that
// it does not end (stored as its second piece) and the rest of at most one that it did not begin (its first).
template <Stage stage, u32 N>
__device__ __forceinline__ bool gather(const Linear &p, u32 tile, u32 first, u32 last, Sums<N> &sums, float scales[N]) {
    constexpr u32 piece = Shape<N>::piece;
    u32 lane_at = threadIdx.x / 32 * (2 * N / 8 * 128) + threadIdx.x % 32 * 4;
    float *own = p.partial + (u64)(2 * blockIdx.x + (blockIdx.x == first)) * piece;
#pragma unroll
    for (u32 i = 0; i < 2 * N / 8; i++) {
        float *c = sums.c[i / (N / 8)][i % (N / 8)];
        *(float4 *)(own + lane_at + i * 128) = make_float4(c[0], c[1], c[2], c[3]);
        c[0] = c[1] = c[2] = c[3] = 0;
    }
    if (stage != RESIDUAL && threadIdx.x < N) {
        own[TILES * 16 * N + threadIdx.x] = scales[threadIdx.x];
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
            squares += from[TILES * 16 * N + threadIdx.x];
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

template <Stage stage, u32 N> __device__ __forceinline__ void product(const Linear &p) {
    constexpr u32 stages = Shape<N>::stages;
    extern __shared__ __align__(128) u8 memory[];
    u32 tiles = (tiles_of<stage>(p) + TILES - 1) / TILES;
    u32 steps = (p.k + STEP - 1) / STEP;
    u32 total = tiles * steps, count = gridDim.x;
    u32 begin = (u32)((u64)total * blockIdx.x / count), end = (u32)((u64)total * (blockIdx.x + 1) / count);
    u32 tile = begin / steps, step = begin - tile * steps;

    let_next_start();
    Copies copies;
    u32 next = begin, next_tile = tile, next_step = step;  // what is copied next
    take_tile<stage>(p, copies, next_tile);
    auto advance = [&] {
        next++;
        if (++next_step == steps) {
            next_step = 0;
            next_tile++;
            take_tile<stage>(p, copies, next_tile);
        }
    };
    u32 base = shared_address(memory);
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        if (next < end) {
            copy_weights<stage, N>(p, copies, next_step, base + i * Shape<N>::stage_bytes);
            advance();
        }
        copy_commit();
    }
    wait_for_inputs();
    // The first tokens come by way of registers: copied behind all these weights, they would wait for them.
    Tokens<N> tokens[stages - 1];
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        tokens[i].load(p, (step + i) % steps, begin + i < end);
    }
#pragma unroll
    for (u32 i = 0; i < stages - 1; i++) {
        tokens[i].store(base + i * Shape<N>::stage_bytes);
    }

    u64 best[N / 16] = {};
    Sums<N> sums = {};
    u32 from = step;                 // where this block's part of the tile begins
    u32 now = 0, free = stages - 1;  // stage that is multiplied, stage that is copied to
    for (u32 at = begin; at < end; at++) {
        copy_wait<stages - 2>();
        __syncthreads();
        if (next < end) {
            copy_weights<stage, N>(p, copies, next_step, base + free * Shape<N>::stage_bytes);
            copy_tokens<N>(p, next_step, base + free * Shape<N>::stage_bytes);
            advance();
        }
        copy_commit();
        multiply<stage, N>(sums, base + now * Shape<N>::stage_bytes);
        free = now;
        now = now + 1 == stages ? 0 : now + 1;
        step++;
        if (step < steps && at + 1 < end) {
            continue;
        }
        // Sums of squares of the tokens: of each warp, then of all in the first row. They lie where the last step
        // was, which is not copied to before all threads meet again.
        auto scales = (float(*)[N])(memory + free * Shape<N>::stage_bytes);
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

#define SKINNY(name, stage, n)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 3) name(const __grid_constant__ Linear p) { \
        product<stage, n>(p);                                                                        \
    }

SKINNY(skinny_qkv_16, QKV, 16)
SKINNY(skinny_qkv_32, QKV, 32)
SKINNY(skinny_qkv_64, QKV, 64)
SKINNY(skinny_residual_16, RESIDUAL, 16)
SKINNY(skinny_residual_32, RESIDUAL, 32)
SKINNY(skinny_residual_64, RESIDUAL, 64)
SKINNY(skinny_gate_up_16, GATE_UP, 16)
SKINNY(skinny_gate_up_32, GATE_UP, 32)
SKINNY(skinny_gate_up_64, GATE_UP, 64)
SKINNY(skinny_lm_head_16, LM_HEAD, 16)
SKINNY(skinny_lm_head_32, LM_HEAD, 32)
SKINNY(skinny_lm_head_64, LM_HEAD, 64)
