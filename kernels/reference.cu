// The stages again, as plainly as they can be written: one thread for each output, sums in f32 from the first term
// to the last, no matrix units, no shared memory. The other kernels are checked against these on the device, at
// sizes that a CPU would take too long for. Values are rounded to bf16 where src/reference rounds them.
#include "stages.cuh"
#include "attention.cuh"

// 1 / rms of a token's row.
__device__ __forceinline__ float norm_scale(const Linear &p, const u16 *x) {
    float sum = 0;
    for (u32 i = 0; i < p.k; i++) {
        float value = from_bf16(x[i]);
        sum = fmaf(value, value, sum);
    }
    return 1.0f / sqrtf(sum / (float)p.k + p.eps);
}

// A token's row, normed where the stage has a norm, times a row of weights.
__device__ __forceinline__ float product(const Linear &p, const u16 *x, float scale, const u16 *w) {
    float sum = 0;
    for (u32 i = 0; i < p.k; i++) {
        u16 value = p.norm ? to_bf16(from_bf16(x[i]) * scale * from_bf16(p.norm[i])) : x[i];
        sum = fmaf(from_bf16(w[i]), from_bf16(value), sum);
    }
    return sum;
}

// Which token and which output a thread has; false beyond the last.
__device__ __forceinline__ bool find(const Linear &p, u32 outputs, u32 *token, u32 *output) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    *token = (u32)(i / outputs);
    *output = (u32)(i % outputs);
    return *token < p.rows;
}

// An output here is a pair of a head's elements: e and e + head_dim / 2, which the rotation mixes.
extern "C" __global__ void __launch_bounds__(256) reference_qkv(const __grid_constant__ Linear p) {
    u32 token, pair;
    if (!find(p, p.n / 2, &token, &pair)) {
        return;
    }
    u32 half = p.head_dim / 2;
    u32 head = pair / half, e = pair % half;
    u32 q_heads = p.q_width / p.head_dim, kv_heads = p.kv_width / p.head_dim;
    const u16 *w = (const u16 *)p.w0;
    u32 head_of_part = head;
    if (head >= q_heads + kv_heads) {
        w = (const u16 *)p.w2;
        head_of_part = head - q_heads - kv_heads;
    } else if (head >= q_heads) {
        w = (const u16 *)p.w1;
        head_of_part = head - q_heads;
    }
    w += ((u64)head_of_part * p.head_dim + e) * p.k;
    const u16 *x = p.x + (u64)token * p.x_stride;
    float scale = p.norm ? norm_scale(p, x) : 1.0f;
    float a = product(p, x, scale, w);
    float b = product(p, x, scale, w + (u64)half * p.k);
    // In a mixed step the last sequence has more rows than the others.
    u32 sequence = min(token / p.tokens, p.sequences - 1);
    u32 position = p.start[sequence] + token - sequence * p.tokens;
    if (head < q_heads + kv_heads) {
        // Whole turns drop out of the product of 64 bits; what is left is the fraction of a turn.
        float turn = (float)(long long)(p.turns[e] * position) * 5.421010862427522e-20f;  // 2^-64
        float sin, cos;
        sincospif(2.0f * turn, &sin, &cos);
        float low = a * cos - b * sin;
        b = b * cos + a * sin;
        a = low;
    }
    u16 *to = p.y + (u64)token * p.q_width + (u64)head * p.head_dim + e;
    if (head >= q_heads) {
        u16 *cache = (u16 *)(head >= q_heads + kv_heads ? p.values : p.keys);
        to = cache + (((u64)sequence * kv_heads + head_of_part) * p.capacity + position) * p.head_dim + e;
    }
    to[0] = to_bf16(a);
    to[half] = to_bf16(b);
}

extern "C" __global__ void __launch_bounds__(256) reference_residual(const __grid_constant__ Linear p) {
    u32 token, row;
    if (find(p, p.n, &token, &row)) {
        u16 *y = p.y + (u64)token * p.n + row;
        *y = to_bf16(from_bf16(*y) + product(p, p.x + (u64)token * p.x_stride, 1.0f, (const u16 *)p.w0 + (u64)row * p.k));
    }
}

extern "C" __global__ void __launch_bounds__(256) reference_gate_up(const __grid_constant__ Linear p) {
    u32 token, row;
    if (find(p, p.n, &token, &row)) {
        const u16 *x = p.x + (u64)token * p.x_stride;
        float scale = p.norm ? norm_scale(p, x) : 1.0f;
        float gate = product(p, x, scale, (const u16 *)p.w0 + (u64)row * p.k);
        float up = product(p, x, scale, (const u16 *)p.w1 + (u64)row * p.k);
        p.y[(u64)token * p.n + row] = to_bf16(gate / (1.0f + expf(-gate)) * up);
    }
}

extern "C" __global__ void __launch_bounds__(256) reference_lm_head(const __grid_constant__ Linear p) {
    u32 token, row;
    if (find(p, p.n, &token, &row)) {
        const u16 *x = p.x + (u64)token * p.x_stride;
        float scale = p.norm ? norm_scale(p, x) : 1.0f;
        p.logits[(u64)token * p.n + row] = product(p, x, scale, (const u16 *)p.w0 + (u64)row * p.k);
    }
}

// The first of the largest logits of each token.
extern "C" __global__ void __launch_bounds__(256) reference_argmax(const __grid_constant__ Linear p) {
    u32 token, only;
    if (find(p, 1, &token, &only)) {
        const float *logits = p.logits + (u64)token * p.n;
        u32 best = 0;
        for (u32 row = 1; row < p.n; row++) {
            best = logits[row] > logits[best] ? row : best;
        }
        p.chosen[token] = best;
    }
}

// Both phases: a block is one head of one token, and has as many threads as the head has elements. Every thread
// computes all scores for itself, twice: for their maximum, and for the weights relative to it.
extern "C" __global__ void __launch_bounds__(256) reference_attention(const __grid_constant__ Attention p) {
    u32 head_dim = blockDim.x;
    u32 token = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
    u32 sequence = token / p.tokens;
    u32 attended = p.start[sequence] + token % p.tokens + 1;
    u64 line = ((u64)sequence * p.kv_heads + head / (p.heads / p.kv_heads)) * p.capacity;
    const u16 *q = p.q + (u64)blockIdx.x * head_dim;
    const u16 *keys = (const u16 *)p.keys + line * head_dim;
    const u16 *values = (const u16 *)p.values + line * head_dim;
    auto score = [&](u32 position) {
        float sum = 0;
        for (u32 i = 0; i < head_dim; i++) {
            sum = fmaf(from_bf16(q[i]), from_bf16(keys[(u64)position * head_dim + i]), sum);
        }
        return sum * p.scale;
    };
    float most = score(0);
    for (u32 position = 1; position < attended; position++) {
        most = fmaxf(most, score(position));
    }
    float weights = 0, mixed = 0;
    for (u32 position = 0; position < attended; position++) {
        float weight = exp2f(score(position) - most);
        weights += weight;
        mixed = fmaf(from_bf16(to_bf16(weight)), from_bf16(values[(u64)position * head_dim + threadIdx.x]), mixed);
    }
    p.out[(u64)blockIdx.x * head_dim + threadIdx.x] = to_bf16(mixed / weights);
}
