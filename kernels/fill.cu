// Seeded random normals.
#include "ptx.cuh"

struct Fill {
    u16 *to;          // bf16, 16-byte aligned
    u64 count;        // elements
    u64 state;        // which of the 2^64 streams
    float mean;
    float deviation;
};

// The finaliser of splitmix64: a bijection whose outputs look random.
__device__ __forceinline__ u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// Elements 2i and 2i + 1 of the stream, by Box and Muller's method: 32 bits make the radius, 32 the angle.
__device__ __forceinline__ u32 two_normals(const Fill &p, u64 i) {
    u64 bits = mix(p.state + (i + 1) * 0x9e3779b97f4a7c15ull);
    float uniform = ((float)(u32)(bits >> 32) + 0.5f) * 2.3283064365386963e-10f;                // 2^-32
    // Rounded, `uniform` can be 1, and the approximate logarithm is then not sure to be 0 or less.
    float radius = p.deviation * sqrt_fast(fmaxf(-1.3862943611198906f * log2_fast(uniform), 0.0f));  // -2 ln 2
    float sin, cos;
    sin_cos_fast((float)(int)(u32)bits * 1.4629180792671596e-9f, &sin, &cos);                   // 2 pi / 2^32
    u32 pair = to_bf16x2(p.mean + radius * cos, p.mean + radius * sin);
    // A zero would be a multiplication that costs less energy than others: it gets a small value instead.
    u32 small = to_bf16(p.deviation * 0.0009765625f);
    pair |= pair & 0x7fffu ? 0u : small;
    pair |= pair & 0x7fff0000u ? 0u : small << 16;
    return pair;
}

// Element i depends on i alone, not on the grid. Every thread makes eight at a time.
extern "C" __global__ void __launch_bounds__(256) fill_normals(const __grid_constant__ Fill p) {
    u64 stride = (u64)gridDim.x * 256;
    for (u64 group = (u64)blockIdx.x * 256 + threadIdx.x; group < (p.count + 7) / 8; group += stride) {
        u64 pair = group * 4;
        uint4 v = make_uint4(two_normals(p, pair), two_normals(p, pair + 1), two_normals(p, pair + 2),
                             two_normals(p, pair + 3));
        u64 left = p.count - group * 8;
        if (left >= 8) {
            store16(p.to + group * 8, v);
        } else {
            u32 pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (u32 i = 0; i < 7; i++) {
                if (i < left) {
                    p.to[group * 8 + i] = (u16)(pairs[i / 2] >> (16 * (i % 2)));
                }
            }
        }
    }
}
