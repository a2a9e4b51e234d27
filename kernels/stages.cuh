// What the linear stages have in common, whichever kernel multiplies: their parameters, which rows of the weights
// belong together, and what happens to a product before it is stored.
#pragma once
#include "cache.cuh"

enum Stage { QKV, RESIDUAL, GATE_UP, LM_HEAD };  // RESIDUAL: out_proj and down

// Parameters of every linear stage. Matrices are row-major, weights as weights.cuh says, all else bf16; `rows` are token
// rows, sequence by sequence. The same struct, field by field, is `LinearArgs` in src/backend/cuda/launch/args.rs.
struct Linear {
    const u16 *x;       // [rows][x_stride]: residual stream (normed here), attended heads, or silu(gate) x up
    const u16 *norm;    // [k] weight of the RMS norm; null where x goes in as it is
    const void *w0;     // q [q_width][k] | o or down [n][k] | gate [n][k] | head [n][k]
    const void *w1;     // k [kv_width][k] | - | up [n][k] | -
    const void *w2;     // v [kv_width][k]
    u16 *y;             // q [rows][q_width] | residual [rows][n], added to | [rows][n] | -
    void *keys;         // QKV: as cache.cuh says
    void *values;       // QKV: as keys
    const u64 *turns;   // QKV: [head_dim / 2] turns per position, in 2^-64 of a turn
    const u32 *start;   // QKV: [sequence] position of the sequence's first new token
    float *logits;      // LM_HEAD: [rows][n]; null: not stored
    u32 *chosen;        // LM_HEAD: [rows] argmax, the lowest index among equals
    u64 *best;          // LM_HEAD: [rows], zero before and after
    float *partial;     // sums of tiles that several blocks share; each kernel has its own layout
    u32 *arrivals;      // counters, zero before and after: one for each shared tile, one more for LM_HEAD
    u32 rows;           // token rows
    u32 k;              // columns of the weights; a multiple of 8
    u32 n;              // rows of the weights: q_width + 2 kv_width | n | n (of gate alone) | vocabulary
    u32 x_stride;       // elements from one row of x to the next
    u32 tokens;         // new tokens per sequence, but for the last: it has all rows behind the others'
    u32 head_dim;       // a multiple of 16
    u32 q_width;
    u32 kv_width;
    u32 capacity;       // positions that the cache has room for; whole pages
    u32 splits;         // gemm: blocks that share one tile, each with a part of k
    float eps;          // of the norm
    u32 sequences;      // QKV: see `find_token`
    u32 page_shift;     // QKV: a page has 2^page_shift positions
    u32 reserved;
    const void *s0;     // scales of w0, w1 and w2 where they are quantised
    const void *s1;
    const void *s2;
    const u32 *pages;   // QKV: [sequence][capacity >> page_shift] page of the pool; null: no pages
    float *fresh;       // QKV: [rows][2 kv_width] new keys and values on their way to codes; null: the cache is bf16
    float *key_scales;  // where the cache is codes
    float *value_scales;
    const float *x_scales;  // W8A8: [rows] of x, which is codes, each row in whole pieces
};

// The rows of the weights are taken in tiles of sixteen: eight rows `a` and eight rows `b`, such that the two that
// an epilogue needs at once are in the same place of both halves:
//   QKV       a: elements e .. e+7 of a head, b: e + head_dim/2 ..   (what the rotation pairs)
//   GATE_UP   a: eight rows of gate, b: the same rows of up
//   others    a: eight rows, b: the next eight
template <Stage stage> __device__ __forceinline__ u32 tiles_of(const Linear &p) {
    return stage == GATE_UP ? p.n / 8 : (p.n + 15) / 16;
}

// First row (of the rows `a`, or of `b`) of a tile, as the index of an output.
template <Stage stage> __device__ __forceinline__ u32 first_row(const Linear &p, u32 tile, u32 half) {
    if (stage == QKV) {
        u32 per_head = p.head_dim / 16;
        u32 head = tile / per_head;
        return head * p.head_dim + (tile - head * per_head) * 8 + half * (p.head_dim / 2);
    }
    return stage == GATE_UP ? tile * 8 : tile * 16 + half * 8;
}

// A row of the weights.
struct WeightRow {
    const void *codes, *scales;  // of the matrix that has it
    u32 index;                   // there
    bool valid;

    // Where it begins.
    template <Format format> __device__ __forceinline__ const u8 *begin(u32 k) const {
        return (const u8 *)codes + (u64)index * Held<format>::row_bytes(k);
    }

    // Its scale where every row has one.
    __device__ __forceinline__ float scale() const { return ((const float *)scales)[index]; }

    // Scales of its eight rows' first group: 16 bytes, the next group's behind them.
    __device__ __forceinline__ const u8 *group_scales(u32 k) const {
        return (const u8 *)scales + (u64)(index / 8) * (k / GROUP_COLUMNS) * 16;
    }
};

// Row `row` (0..7) of the tile's half. Rows beyond the last (`valid` false) give the last, so that a load is safe;
// their products are dropped.
template <Stage stage> __device__ __forceinline__ WeightRow find_row(const Linear &p, u32 tile, u32 half, u32 row) {
    u32 index = first_row<stage>(p, tile, half) + row;
    WeightRow found = {p.w0, p.s0, min(index, p.n - 1), index < p.n};
    if (stage == QKV && found.index >= p.q_width) {
        found.index -= p.q_width;
        found.codes = p.w1;
        found.scales = p.s1;
        if (found.index >= p.kv_width) {
            found.index -= p.kv_width;
            found.codes = p.w2;
            found.scales = p.s2;
        }
    }
    if (stage == GATE_UP && half == 1) {
        found.codes = p.w1;
        found.scales = p.s1;
    }
    return found;
}

// Bytes of the scales that a half of a tile has in a group: two for each row that is there.
template <Stage stage> __device__ __forceinline__ u32 group_scale_bytes(const Linear &p, u32 tile, u32 half) {
    return (u32)min(max((int)(p.n - first_row<stage>(p, tile, half)), 0), 8) * 2;
}

__device__ __forceinline__ uint4 eight_to_bf16(const float v[8]) {
    return make_uint4(to_bf16x2(v[0], v[1]), to_bf16x2(v[2], v[3]), to_bf16x2(v[4], v[5]), to_bf16x2(v[6], v[7]));
}

__device__ __forceinline__ void add_eight(u16 *to, uint4 old, const float v[8]) {
    float sum[8] = {bf16_low(old.x) + v[0], bf16_high(old.x) + v[1], bf16_low(old.y) + v[2], bf16_high(old.y) + v[3],
                    bf16_low(old.z) + v[4], bf16_high(old.z) + v[5], bf16_low(old.w) + v[6], bf16_high(old.w) + v[7]};
    store16(to, eight_to_bf16(sum));
}

// Order of floats as order of integers, the lower index winning among equals; never 0.
__device__ __forceinline__ u64 ranked(float value, u32 index) {
    u32 bits = __float_as_uint(value);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | (u32)~index;
}

// The last block of an LM_HEAD, all having raised `best`, writes what was chosen and zeroes `best` again.
__device__ __forceinline__ void choose(const Linear &p, u32 *arrivals) {
    if (last_to_arrive(arrivals, gridDim.x)) {
        for (u32 row = threadIdx.x; row < p.rows; row += blockDim.x) {
            p.chosen[row] = ~(u32)atomicExch(&p.best[row], 0ull);
        }
    }
}

// A pair's squares added to the sum that an RMS norm needs.
__device__ __forceinline__ float add_squares(float sum, u32 pair) {
    sum = fmaf(bf16_low(pair), bf16_low(pair), sum);
    return fmaf(bf16_high(pair), bf16_high(pair), sum);
}

// Turns the pair (a, b) of a head by `turns` (2^-64 of a turn for each position) times `position`. Multiplying in 64
// bits drops the whole turns and keeps the fraction exactly.
__device__ __forceinline__ void rotate(u64 turns, u32 position, float a, float b, float *low, float *high) {
    int fraction = (int)(u32)((turns * position) >> 32);
    float sin, cos;
    sin_cos_fast((float)fraction * 1.4629180792671596e-9f, &sin, &cos);  // 2 pi / 2^32
    *low = a * cos - b * sin;
    *high = b * cos + a * sin;
}

// Where a token row belongs.
struct TokenPlace {
    u32 sequence, position;
};

// Every sequence has `tokens` rows, the last all that follow: in a mixed step a chunk of a prompt, behind one row of each
// sequence before it.
__device__ __forceinline__ TokenPlace find_token(const Linear &p, u32 token) {
    u32 sequence = min(token / p.tokens, p.sequences - 1);
    return {sequence, p.start[sequence] + (token - sequence * p.tokens)};
}

// The row of the cache that a position of a KV head has.
__device__ __forceinline__ u64 cache_row(const Linear &p, u32 sequence, u32 kv_head, u32 position) {
    u32 kv_heads = p.kv_width / p.head_dim;
    if (p.pages) {
        u32 page = p.pages[sequence * (p.capacity >> p.page_shift) + (position >> p.page_shift)];
        return page_row(page, kv_heads, kv_head, p.page_shift, position);
    }
    return ((u64)sequence * kv_heads + kv_head) * p.capacity + position;
}

__device__ __forceinline__ void store_eight(float *to, const float v[8]) {
    store16(to, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])));
    store16(to + 4, make_uint4(__float_as_uint(v[4]), __float_as_uint(v[5]), __float_as_uint(v[6]), __float_as_uint(v[7])));
}

// Stores the products of one tile with one token row: a[i] and b[i] are those of rows i of the two halves, scaled
// by the norm already. For LM_HEAD `best` grows to the rank of the best logit. All accesses are 16 bytes wide but
// the logits', which exist for verification.
template <Stage stage>
__device__ __forceinline__ void finish(const Linear &p, u32 tile, u32 token, const float a[8], const float b[8], u64 *best) {
    u32 row_a = first_row<stage>(p, tile, 0);
    u32 row_b = first_row<stage>(p, tile, 1);
    if (stage == QKV) {
        auto [sequence, position] = find_token(p, token);
        u32 element = row_a % p.head_dim;
        float low[8], high[8];
        if (row_a < p.q_width + p.kv_width) {
#pragma unroll
            for (u32 i = 0; i < 8; i += 2) {
                uint4 two = *(const uint4 *)(p.turns + element + i);
                rotate((u64)two.y << 32 | two.x, position, a[i], b[i], &low[i], &high[i]);
                rotate((u64)two.w << 32 | two.z, position, a[i + 1], b[i + 1], &low[i + 1], &high[i + 1]);
            }
        } else {
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                low[i] = a[i];
                high[i] = b[i];
            }
        }
        if (p.fresh && row_a >= p.q_width) {
            // A scale is the whole head's, which other warps have parts of: elementwise.cu goes on.
            float *to = p.fresh + (u64)token * (2 * p.kv_width) + row_a - p.q_width;
            store_eight(to, low);
            store_eight(to + p.head_dim / 2, high);
            return;
        }
        u16 *to;
        if (row_a < p.q_width) {
            to = p.y + (u64)token * p.q_width + row_a;
        } else {
            u32 row = row_a - p.q_width;
            void *cache = p.keys;
            if (row >= p.kv_width) {
                row -= p.kv_width;
                cache = p.values;
            }
            to = (u16 *)cache + cache_row(p, sequence, row / p.head_dim, position) * p.head_dim + element;
        }
        store16(to, eight_to_bf16(low));
        store16(to + p.head_dim / 2, eight_to_bf16(high));
    } else if (stage == RESIDUAL) {
        u16 *to = p.y + (u64)token * p.n + row_a;
        uint4 old_a = load16(to), old_b = make_uint4(0, 0, 0, 0);
        if (row_b < p.n) {
            old_b = load16(to + 8);  // before the first store, so that both are under way at once
        }
        add_eight(to, old_a, a);
        if (row_b < p.n) {
            add_eight(to + 8, old_b, b);
        }
    } else if (stage == GATE_UP) {
        float gated[8];
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            gated[i] = a[i] * reciprocal_fast(1.0f + exp2_fast(-1.4426950408889634f * a[i])) * b[i];
        }
        store16(p.y + (u64)token * p.n + row_a, eight_to_bf16(gated));
    } else {
#pragma unroll
        for (u32 i = 0; i < 16; i++) {
            u32 row = i < 8 ? row_a + i : row_b + i - 8;
            float logit = i < 8 ? a[i % 8] : b[i % 8];
            if (row < p.n) {
                u64 rank = ranked(logit, row);
                *best = rank > *best ? rank : *best;
                if (p.logits) {
                    p.logits[(u64)token * p.n + row] = logit;
                }
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
