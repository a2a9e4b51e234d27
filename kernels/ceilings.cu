// What the hardware gives at most: memory, L2 cache, arithmetic units. Nothing here computes a result that is
// wanted; results are stored where the parameter says where, so that the tests can see that all work is done.
#include "ptx.cuh"

// ---------------------------------------------------------------- memory

// A block takes tiles of 32 KiB, eight loads of 16 bytes for each of its threads before the first is used. With
// four blocks on a multiprocessor up to 128 KiB are in flight there.
constexpr u32 THREADS = 256;
constexpr u32 LOADS = 8;
constexpr u32 TILE = THREADS * LOADS;  // lines

struct Stream {
    const uint4 *from;
    uint4 *to;      // copy: as long as `from`
    u32 *sum;       // reads: grows by all words read, modulo 2^32; null in measurements
    u64 lines;      // of 16 bytes
    u64 tiles;      // read_cache: tiles to read in total, all rounds together
};

__device__ __forceinline__ void give(const Stream &p, u32 sum) {
    if (p.sum) {
        atomicAdd(p.sum, sum);
    }
}

// Reads every line once.
extern "C" __global__ void __launch_bounds__(THREADS, 4) read_memory(const __grid_constant__ Stream p) {
    u32 sum = 0;
    for (u64 first = (u64)blockIdx.x * TILE; first < p.lines; first += (u64)gridDim.x * TILE) {
        const uint4 *from = p.from + first + threadIdx.x;
        uint4 v[LOADS];
        if (first + TILE <= p.lines) {
#pragma unroll
            for (u32 i = 0; i < LOADS; i++) {
                v[i] = load16_streamed(from + i * THREADS);
            }
        } else {
#pragma unroll
            for (u32 i = 0; i < LOADS; i++) {
                bool there = first + threadIdx.x + i * THREADS < p.lines;
                v[i] = there ? load16_streamed(from + i * THREADS) : make_uint4(0, 0, 0, 0);
            }
        }
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            sum += v[i].x + v[i].y + v[i].z + v[i].w;
        }
    }
    give(p, sum);
}

// Copies every line once.
extern "C" __global__ void __launch_bounds__(THREADS, 4) copy_memory(const __grid_constant__ Stream p) {
    for (u64 first = (u64)blockIdx.x * TILE; first < p.lines; first += (u64)gridDim.x * TILE) {
        u64 line = first + threadIdx.x;
        uint4 v[LOADS];
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            if (line + i * THREADS < p.lines) {
                v[i] = load16_streamed(p.from + line + i * THREADS);
            }
        }
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            if (line + i * THREADS < p.lines) {
                store16(p.to + line + i * THREADS, v[i]);
            }
        }
    }
}

// Reads whole tiles of a buffer that stays in L2 over and over. At any moment the blocks are at different tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 4) read_cache(const __grid_constant__ Stream p) {
    u32 held = (u32)(p.lines / TILE);
    u32 sum = 0;
    for (u64 tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const uint4 *from = p.from + (u64)((u32)tile % held) * TILE + threadIdx.x;
        uint4 v[LOADS];
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            v[i] = load16_l2(from + i * THREADS);
        }
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            sum += v[i].x + v[i].y + v[i].z + v[i].w;
        }
    }
    give(p, sum);
}

// ---------------------------------------------------------------- arithmetic

struct Peak {
    const u32 *operands;  // random, none zero: [warp][24][lane] fragments, or floats for peak_f32
    u32 *out;             // [block][warp][64][lane] accumulators (peak_f32: 16 of them); null in measurements
    u32 rounds;
    u32 reserved;
};

enum Type { BF16, F16, INT8 };

// c += a b for fragments of 16 x 32 bytes and 32 bytes x 8.
template <Type type> __device__ __forceinline__ void multiply(u32 c[4], const u32 a[4], const u32 b[2]) {
    if (type == BF16) {
        mma_bf16(c, a, b[0], b[1]);
    } else if (type == F16) {
        mma_f16(c, a, b[0], b[1]);
    } else {
        mma_int8(c, a, b[0], b[1]);
    }
}

// Every pair of four left and four right fragments: sixteen accumulators that do not wait for each other, and four
// warps for each of a multiprocessor's matrix units.
template <Type type> __device__ __forceinline__ void peak(const Peak &p) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 a[4][4], b[4][2], c[4][4][4] = {};
    const u32 *from = p.operands + warp * 24 * 32 + lane;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            a[i][j] = from[(i * 4 + j) * 32];
        }
        b[i][0] = from[(16 + i * 2) * 32];
        b[i][1] = from[(17 + i * 2) * 32];
    }
#pragma unroll 1
    for (u32 round = 0; round < p.rounds; round++) {
#pragma unroll
        for (u32 i = 0; i < 16; i++) {
            multiply<type>(c[i / 4][i % 4], a[i / 4], b[i % 4]);
        }
    }
    if (p.out) {
        u32 *to = p.out + ((u64)blockIdx.x * (THREADS / 32) + warp) * 64 * 32 + lane;
#pragma unroll
        for (u32 i = 0; i < 64; i++) {
            to[i * 32] = c[i / 16][i / 4 % 4][i % 4];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) peak_bf16(const __grid_constant__ Peak p) { peak<BF16>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) peak_f16(const __grid_constant__ Peak p) { peak<F16>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) peak_int8(const __grid_constant__ Peak p) { peak<INT8>(p); }

// The ordinary units: c = c a + b with |a| < 1, so that c stays bounded. Sixteen chains in each of 32 warps.
extern "C" __global__ void __launch_bounds__(THREADS, 4) peak_f32(const __grid_constant__ Peak p) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *from = (const float *)p.operands + warp * 24 * 32 + lane;
    float a = from[16 * 32], b = from[17 * 32], c[16];
#pragma unroll
    for (u32 i = 0; i < 16; i++) {
        c[i] = from[i * 32];
    }
#pragma unroll 1
    for (u32 round = 0; round < p.rounds; round += 32) {
#pragma unroll
        for (u32 i = 0; i < 32 * 16; i++) {
            c[i % 16] = fmaf(c[i % 16], a, b);
        }
    }
    if (p.out) {
        float *to = (float *)p.out + ((u64)blockIdx.x * (THREADS / 32) + warp) * 16 * 32 + lane;
#pragma unroll
        for (u32 i = 0; i < 16; i++) {
            to[i * 32] = c[i];
        }
    }
}
