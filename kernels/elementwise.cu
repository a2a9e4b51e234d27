// What lies between the products: the look-up of the embedding and, before the products of many rows, the RMS norm
// (those of few rows norm what they read themselves). Behind products that are not our own, which store what they
// multiply, also what our own do before they store. Before a cache in 8 bits, what makes codes of new keys and values. The
// structs are those of src/backend/cuda/launch/elementwise.rs.
#include "stages.cuh"

struct Embed {
    const u16 *table;   // [vocabulary][k]
    const u32 *tokens;  // [rows]
    u16 *residual;      // [rows][k]
    u32 k;              // a multiple of 8
    u32 reserved;
};

// Block x is a row, y a part of 4096 elements: two pieces of 16 bytes a thread. Reading the tokens has to wait as
// well: an earlier kernel may have chosen them.
extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ Embed p) {
    let_next_start();
    u64 row = blockIdx.x;
    u32 element = blockIdx.y * 4096 + threadIdx.x * 8;
    wait_for_inputs();
    const u16 *from = p.table + (u64)p.tokens[row] * p.k + element;
    uint4 held[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (element + i * 2048 < p.k) {
            held[i] = load16_streamed(from + i * 2048);
        }
    }
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (element + i * 2048 < p.k) {
            store16(p.residual + row * p.k + element + i * 2048, held[i]);
        }
    }
}

struct RmsNorm {
    const u16 *x;     // [rows][x_stride]
    const u16 *norm;  // [k]
    u16 *normed;      // [rows][k]
    u32 k;            // a multiple of 8
    u32 x_stride;     // elements from one row of x to the next
    float eps;
    u32 reserved;
};

__device__ __forceinline__ float sum_of_squares(uint4 v) {
    u32 pairs[4] = {v.x, v.y, v.z, v.w};
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        sum += bf16_low(pairs[i]) * bf16_low(pairs[i]) + bf16_high(pairs[i]) * bf16_high(pairs[i]);
    }
    return sum;
}

__device__ __forceinline__ uint4 normalised(uint4 x, uint4 norm, float scale) {
    u32 xs[4] = {x.x, x.y, x.z, x.w}, norms[4] = {norm.x, norm.y, norm.z, norm.w}, out[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        out[i] = to_bf16x2(bf16_low(xs[i]) * scale * bf16_low(norms[i]),
                           bf16_high(xs[i]) * scale * bf16_high(norms[i]));
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
}

// One block a row. Each thread holds up to four pieces of 16 bytes in registers between the two passes, which is
// all of a row of up to 32768 elements; of longer rows the rest is read again. normed = x norm / rms(x), rounded once.
extern "C" __global__ void __launch_bounds__(1024) rms_norm(const __grid_constant__ RmsNorm p) {
    __shared__ float sums[32];
    let_next_start();
    u32 pieces = p.k / 8;
    u64 row = blockIdx.x;
    const u16 *x = p.x + row * p.x_stride;
    u16 *to = p.normed + row * p.k;
    uint4 held[4] = {}, norm[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            norm[i] = load16(p.norm + piece * 8);
        }
    }
    wait_for_inputs();
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            held[i] = load16(x + piece * 8);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        sum += sum_of_squares(held[i]);
    }
    for (u32 piece = 4 * blockDim.x + threadIdx.x; piece < pieces; piece += blockDim.x) {
        sum += sum_of_squares(load16(x + piece * 8));
    }

#pragma unroll
    for (u32 lanes = 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(~0u, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    sum = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) {
        sum += sums[warp];
    }
    float scale = rsqrt_fast(sum * reciprocal_fast((float)p.k) + p.eps);

#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 piece = i * blockDim.x + threadIdx.x;
        if (piece < pieces) {
            store16(to + piece * 8, normalised(held[i], norm[i], scale));
        }
    }
    for (u32 piece = 4 * blockDim.x + threadIdx.x; piece < pieces; piece += blockDim.x) {
        store16(to + piece * 8, normalised(load16(x + piece * 8), load16(p.norm + piece * 8), scale));
    }
}

// The products of a row are taken in pieces of 8 + 8 that belong together, one a thread: block x is a row, y a part of
// its pieces. `p.x` [rows][x_stride] holds the products, rounded to bf16; the rest of `p` is what gemm.cu is given.
template <Stage stage> __device__ __forceinline__ void finish_stored(const Linear &p) {
    let_next_start();
    u32 token = blockIdx.x, piece = blockIdx.y * 128 + threadIdx.x;
    wait_for_inputs();
    if (piece < tiles_of<stage>(p)) {
        // gate and up lie side by side
        const u16 *row = p.x + (u64)token * p.x_stride;
        u32 first = first_row<stage>(p, piece, 0);
        u32 second = stage == GATE_UP ? p.n + first : first_row<stage>(p, piece, 1);
        uint4 a = load16(row + first), b = load16(row + second);
        float low[8] = {bf16_low(a.x), bf16_high(a.x), bf16_low(a.y), bf16_high(a.y),
                        bf16_low(a.z), bf16_high(a.z), bf16_low(a.w), bf16_high(a.w)};
        float high[8] = {bf16_low(b.x), bf16_high(b.x), bf16_low(b.y), bf16_high(b.y),
                         bf16_low(b.z), bf16_high(b.z), bf16_low(b.w), bf16_high(b.w)};
        finish<stage>(p, piece, token, low, high, nullptr);
    }
}

// New keys and values, f32 at `p.fresh`, as codes into the cache. Block x is a row, y a part of its heads: a thread has
// eight elements and head_dim / 8 neighbours, 8 or 16, the head that shares a scale.
template <Format format> __device__ __forceinline__ void append_codes(const Linear &p) {
    let_next_start();
    u32 token = blockIdx.x, first = (blockIdx.y * 128 + threadIdx.x) * 8;
    u32 row = first, element = first % p.head_dim;
    bool valid = first < 2 * p.kv_width;
    wait_for_inputs();
    const float *from = p.fresh + (u64)token * (2 * p.kv_width) + first;
    uint4 low = load16_once(from, valid), high = load16_once(from + 4, valid);
    float v[8] = {__uint_as_float(low.x), __uint_as_float(low.y), __uint_as_float(low.z), __uint_as_float(low.w),
                  __uint_as_float(high.x), __uint_as_float(high.y), __uint_as_float(high.z), __uint_as_float(high.w)};
    float most = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        most = fmaxf(most, fabsf(v[i]));
    }
    for (u32 lanes = 1; lanes < p.head_dim / 8; lanes *= 2) {
        most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
    }
    if (!valid) {
        return;
    }
    float scale = scale_of<format>(most), inverse = scale > 0 ? 1.0f / scale : 0.0f;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        v[i] *= inverse;
    }
    u8 *codes = (u8 *)p.keys;
    float *scales = p.key_scales;
    if (row >= p.kv_width) {
        row -= p.kv_width;
        codes = (u8 *)p.values;
        scales = p.value_scales;
    }
    auto [sequence, position] = find_token(p, token);
    u64 at = cache_row(p, sequence, row / p.head_dim, position);
    *(uint2 *)(codes + at * p.head_dim + element) = eight_codes<format>(v);
    if (element == 0) {
        scales[at] = scale;
    }
}

extern "C" __global__ void __launch_bounds__(128) append_int8(const __grid_constant__ Linear p) { append_codes<INT8>(p); }

extern "C" __global__ void __launch_bounds__(128) append_fp8(const __grid_constant__ Linear p) { append_codes<FP8>(p); }

// x: q, k and v of each row, [q_width + 2 kv_width]. Rotates q and k; q goes to y, k and v to the caches.
extern "C" __global__ void __launch_bounds__(128) rotate_append(const __grid_constant__ Linear p) {
    finish_stored<QKV>(p);
}

// x: gate and up of each row, [2 n]. y = silu(gate) up.
extern "C" __global__ void __launch_bounds__(128) silu_multiply(const __grid_constant__ Linear p) {
    finish_stored<GATE_UP>(p);
}
