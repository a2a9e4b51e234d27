// Attention of one new token per sequence over its cache, which is read once, straight into the registers that the
// tensor cores take. A block has a part (split) of the positions of one KV head of one sequence and up to sixteen
// of the query heads that share it; its warps take the part's chunks of positions in turn.
//
//   scores^T [16 positions][8 queries] = K [16][head_dim] Q^T            the rows of K are operand a as they lie
//   out^T    [16 of head_dim][8 queries] += V^T [16][16 positions] P^T   pairs of rows of V are packed to operand a
//
// Eight queries are one operand b, so that nothing is padded up to sixteen, and a lane holds the same queries in
// both results. In which order the elements of head_dim are multiplied, and which of them a row of out^T is, is
// free, so lane (g, t) loads 16 bytes wherever it needs 2. `effective` FLOPs are those of the ledger: what is
// beyond the context or the group is zero.
#include "attention.cuh"

template <u32 D, u32 WARPS, u32 QUERIES> struct Shape {
    enum : u32 {
        head_dim = D,
        warps = WARPS,
        threads = 32 * WARPS,
        queries = QUERIES,    // 8 or 16
        tiles = QUERIES / 8,  // of eight queries
        chunk = 2048 / D,     // positions: 32 registers of keys, 32 of values
        steps = chunk / 16,   // of sixteen positions in a chunk
        outputs = D / 8,      // of one query that a lane holds: elements 64 (x / 8) + 8 g + x % 8
        row = D + 4,          // floats of a query's outputs in shared memory
    };
};

__device__ __forceinline__ float4 as_floats(uint4 v) {
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

// Eight outputs of one query over a part of the positions: values weighted by 2^(score - most), to be divided by the
// sum of the weights.
struct Piece {
    float most = NO_SCORE, sum = 0.0f;
    float4 low = make_float4(0.0f, 0.0f, 0.0f, 0.0f), high = low;

    __device__ __forceinline__ void add(float2 state, float4 other_low, float4 other_high) {
        float both = fmaxf(most, state.x);
        float mine = exp2_fast(most - both), its = exp2_fast(state.x - both);
        most = both;
        sum = sum * mine + state.y * its;
        low = mixed(low, mine, other_low, its);
        high = mixed(high, mine, other_high, its);
    }

    static __device__ __forceinline__ float4 mixed(float4 a, float by_a, float4 b, float by_b) {
        return make_float4(a.x * by_a + b.x * by_b, a.y * by_a + b.y * by_b,
                           a.z * by_a + b.z * by_b, a.w * by_a + b.w * by_b);
    }

    __device__ __forceinline__ void store(u16 *to) const {
        float by = reciprocal_fast(sum);
        store16(to, make_uint4(to_bf16x2(low.x * by, low.y * by), to_bf16x2(low.z * by, low.w * by),
                               to_bf16x2(high.x * by, high.y * by), to_bf16x2(high.z * by, high.w * by)));
    }
};

// Sums of several sources, warps or splits, in rows [source][query].
template <class S> struct Shared {
    __align__(16) float out[S::warps * S::queries * S::row];
    float2 state[S::warps * S::queries];  // most, sum

    __device__ __forceinline__ float4 *at(u32 row, u32 element) { return (float4 *)(out + row * S::row + element); }

    // Over all sources in their order.
    __device__ __forceinline__ Piece merged(u32 sources, u32 queries, u32 query, u32 element) {
        Piece all;
        for (u32 source = 0; source < sources; source++) {
            u32 row = source * queries + query;
            all.add(state[row], at(row, element)[0], at(row, element)[1]);
        }
        return all;
    }
};

// Where a block stands: the positions, `first` to before `limit`, and the queries.
template <class S> struct Place {
    u32 sequence, kv_head, first_query, queries, first, limit;

    __device__ __forceinline__ Place(const Attention &p) {
        u32 group = p.heads / p.kv_heads;
        u32 blocks_of_group = (group + S::queries - 1) / S::queries;
        sequence = blockIdx.z;
        kv_head = blockIdx.y / blocks_of_group;
        u32 in_group = (blockIdx.y - kv_head * blocks_of_group) * S::queries;
        first_query = kv_head * group + in_group;
        queries = min(group - in_group, S::queries);
    }

    // Only the device knows the context; the launch chose no more than how many splits there are.
    __device__ __forceinline__ void find_positions(const Attention &p) {
        u32 context = p.start[sequence] + 1;
        u32 chunks = (context + S::chunk - 1) / S::chunk;
        u32 each = chunks / p.splits, more = chunks - each * p.splits, split = blockIdx.x;
        u32 start = split * each + min(split, more);
        first = start * S::chunk;
        limit = min((start + each + (split < more)) * S::chunk, context);
    }

    __device__ __forceinline__ u64 row(const Attention &p, u32 query) const {
        return (u64)sequence * p.heads + first_query + query;
    }
};

template <class S> struct Keys {
    uint4 at[S::steps][2][S::head_dim / 32];  // rows g and g + 8: elements 32 c + 8 t ..

    // `position` is that of row g, to which `from` points.
    __device__ __forceinline__ void load(const u16 *from, u32 position, u32 limit) {
#pragma unroll
        for (u32 step = 0; step < S::steps; step++) {
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                u32 row = 16 * step + 8 * half;
#pragma unroll
                for (u32 c = 0; c < S::head_dim / 32; c++) {
                    at[step][half][c] = load16_once(from + row * S::head_dim + 32 * c, position + row < limit);
                }
            }
        }
    }
};

template <class S> struct Values {
    uint4 at[S::steps][4][S::head_dim / 64];  // rows 2t, 2t + 1, 2t + 8, 2t + 9: elements 64 c + 8 g ..

    // `position` is that of row 2t, to which `from` points.
    __device__ __forceinline__ void load(const u16 *from, u32 position, u32 limit) {
#pragma unroll
        for (u32 step = 0; step < S::steps; step++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 row = 16 * step + 8 * (i / 2) + i % 2;
#pragma unroll
                for (u32 c = 0; c < S::head_dim / 64; c++) {
                    at[step][i][c] = load16_once(from + row * S::head_dim + 64 * c, position + row < limit);
                }
            }
        }
    }

    // Output x of the rows 2t, 2t + 1 (pair 0) or 2t + 8, 2t + 9 (pair 1).
    __device__ __forceinline__ u32 pair(u32 step, u32 pair, u32 x) const {
        const uint4 &even = at[step][2 * pair][x / 8], &odd = at[step][2 * pair + 1][x / 8];
        u32 low = x / 2 % 4 == 0 ? even.x : x / 2 % 4 == 1 ? even.y : x / 2 % 4 == 2 ? even.z : even.w;
        u32 high = x / 2 % 4 == 0 ? odd.x : x / 2 % 4 == 1 ? odd.y : x / 2 % 4 == 2 ? odd.z : odd.w;
        return __byte_perm(low, high, x % 2 == 0 ? 0x5410 : 0x7632);
    }
};

// What one warp has summed up. Lane (g, t) holds queries 8 tile + 2 t and, odd, the next.
template <class S> struct Sums {
    float most[S::tiles][2];
    float sum[S::tiles][2];                     // of this lane's positions
    float out[S::tiles][S::outputs / 2][4];     // x and odd query: [x % (outputs / 2)][2 (x / (outputs / 2)) + odd]

    __device__ __forceinline__ Sums() {
#pragma unroll
        for (u32 tile = 0; tile < S::tiles; tile++) {
            most[tile][0] = most[tile][1] = NO_SCORE;
            sum[tile][0] = sum[tile][1] = 0.0f;
#pragma unroll
            for (u32 i = 0; i < 2 * S::outputs; i++) {
                out[tile][i / 4][i % 4] = 0.0f;
            }
        }
    }

    // Turns the scores of one tile of queries into weights, operand b of `weigh`. `position` is that of row g.
    __device__ __forceinline__ void soften(u32 tile, float scores[S::steps][4], u32 weights[S::steps][2], float scale,
                                           u32 live, u32 position, u32 limit) {
        float now[2];
#pragma unroll
        for (u32 odd = 0; odd < 2; odd++) {
            float high = MASKED;
#pragma unroll
            for (u32 i = 0; i < 2 * S::steps; i++) {
                float &score = scores[i / 2][2 * (i % 2) + odd];
                score = position + 8 * i < limit ? score * scale : MASKED;
                high = fmaxf(high, score);
            }
#pragma unroll
            for (u32 lanes = 4; lanes < 32; lanes *= 2) {
                high = fmaxf(high, __shfl_xor_sync(0xffffffff, high, lanes));
            }
            now[odd] = fmaxf(most[tile][odd], high);
            float rescale = exp2_fast(most[tile][odd] - now[odd]);
            most[tile][odd] = now[odd];
            sum[tile][odd] *= rescale;
#pragma unroll
            for (u32 i = 0; i < S::outputs; i++) {
                out[tile][i / 2][2 * (i % 2) + odd] *= rescale;
            }
        }
#pragma unroll
        for (u32 i = 0; i < 2 * S::steps; i++) {
            float even = exp2_fast(scores[i / 2][2 * (i % 2)] - now[0]);
            float odd = exp2_fast(scores[i / 2][2 * (i % 2) + 1] - now[1]);
            sum[tile][0] += even;
            sum[tile][1] += odd;
            weights[i / 2][i % 2] = transposed8x8(to_bf16x2(even, odd) & live);
        }
    }

    __device__ __forceinline__ void weigh(const Values<S> &values, u32 weights[S::tiles][S::steps][2]) {
#pragma unroll
        for (u32 step = 0; step < S::steps; step++) {
#pragma unroll
            for (u32 x = 0; x < S::outputs / 2; x++) {
                u32 a[4] = {values.pair(step, 0, x), values.pair(step, 0, x + S::outputs / 2),
                            values.pair(step, 1, x), values.pair(step, 1, x + S::outputs / 2)};
#pragma unroll
                for (u32 tile = 0; tile < S::tiles; tile++) {
                    mma_values(out[tile][x], a, weights[tile][step][0], weights[tile][step][1]);
                }
            }
        }
    }

    __device__ __forceinline__ void publish(Shared<S> &shared, u32 first_row, u32 queries) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (u32 i = 0; i < 2 * S::tiles; i++) {
            u32 tile = i / 2, odd = i % 2, query = 8 * tile + 2 * t + odd;
            float all = sum[tile][odd];
#pragma unroll
            for (u32 lanes = 4; lanes < 32; lanes *= 2) {
                all += __shfl_xor_sync(0xffffffff, all, lanes);
            }
            if (query >= queries) {
                continue;
            }
            if (g == 0) {
                shared.state[first_row + query] = make_float2(most[tile][odd], all);
            }
            float row[S::outputs];
#pragma unroll
            for (u32 x = 0; x < S::outputs; x++) {
                row[x] = out[tile][x % (S::outputs / 2)][2 * (x / (S::outputs / 2)) + odd];
            }
#pragma unroll
            for (u32 x = 0; x < S::outputs; x += 4) {
                *shared.at(first_row + query, 64 * (x / 8) + 8 * g + x % 8) =
                    make_float4(row[x], row[x + 1], row[x + 2], row[x + 3]);
            }
        }
    }
};

template <class S> __device__ __forceinline__ void read_cache(const Attention &p, Place<S> &place, Shared<S> &shared) {
    u32 warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint4 q[S::tiles][S::head_dim / 32];
    u32 live[S::tiles];  // halves of a pair of weights that belong to a query
#pragma unroll
    for (u32 tile = 0; tile < S::tiles; tile++) {
        u32 query = 8 * tile + g, even = 8 * tile + 2 * t;
        live[tile] = (even < place.queries ? 0xffff : 0) | (even + 1 < place.queries ? 0xffff0000 : 0);
#pragma unroll
        for (u32 c = 0; c < S::head_dim / 32; c++) {
            const u16 *from = p.q + place.row(p, query) * S::head_dim + 32 * c + 8 * t;
            q[tile][c] = load16_once(from, query < place.queries);
        }
    }

    place.find_positions(p);
    constexpr u32 stride = S::warps * S::chunk;
    u32 first = place.first + warp * S::chunk;
    u64 line = ((u64)place.sequence * p.kv_heads + place.kv_head) * p.capacity + first;
    const u16 *keys_at = p.keys + (line + g) * S::head_dim + 8 * t;
    const u16 *values_at = p.values + (line + 2 * t) * S::head_dim + 8 * g;
    Keys<S> keys;
    Values<S> values;
    keys.load(keys_at, first + g, place.limit);
    values.load(values_at, first + 2 * t, place.limit);

    Sums<S> sums;
    for (u32 position = first; position < place.limit; position += stride) {
        float scores[S::tiles][S::steps][4] = {};
#pragma unroll
        for (u32 i = 0; i < S::steps * (S::head_dim / 32); i++) {
            u32 step = i / (S::head_dim / 32), c = i % (S::head_dim / 32);
            const uint4 &low = keys.at[step][0][c], &high = keys.at[step][1][c];
            u32 a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
#pragma unroll
            for (u32 tile = 0; tile < S::tiles; tile++) {
                mma_scores(scores[tile][step], a[0], q[tile][c].x, q[tile][c].y);
                mma_scores(scores[tile][step], a[1], q[tile][c].z, q[tile][c].w);
            }
        }
        // The registers are free again: the next chunk's loads are under way during the rest of this one. The branch
        // keeps ptxas from sinking them below the softmax.
        keys_at += stride * S::head_dim;
        if (position + stride < place.limit) {
            keys.load(keys_at, position + stride + g, place.limit);
        }

        u32 weights[S::tiles][S::steps][2];
#pragma unroll
        for (u32 tile = 0; tile < S::tiles; tile++) {
            sums.soften(tile, scores[tile], weights[tile], p.scale, live[tile], position + g, place.limit);
        }
        sums.weigh(values, weights);
        values_at += stride * S::head_dim;
        if (position + stride < place.limit) {
            values.load(values_at, position + stride + 2 * t, place.limit);
        }
    }
    sums.publish(shared, warp * place.queries, place.queries);
    __syncthreads();
}

template <class S> __device__ __forceinline__ void attend(const Attention &p) {
    __shared__ Shared<S> shared;
    Place<S> place(p);
    let_next_start();
    wait_for_inputs();
    read_cache(p, place, shared);

    constexpr u32 per_query = S::head_dim / 8;
    u32 pieces = place.queries * per_query;
    // Workspace: outputs [split][sequence][head][head_dim], then states [split][sequence][head][most, sum].
    u64 rows = (u64)p.sequences * p.heads;
    float2 *states = (float2 *)(p.partial + p.splits * rows * S::head_dim);
    for (u32 i = threadIdx.x; i < pieces; i += S::threads) {
        u32 query = i / per_query, element = i % per_query * 8;
        Piece all = shared.merged(S::warps, place.queries, query, element);
        u64 row = place.row(p, query);
        if (p.splits == 1) {
            all.store(p.out + row * S::head_dim + element);
            continue;
        }
        row += blockIdx.x * rows;
        float4 *to = (float4 *)(p.partial + row * S::head_dim + element);
        to[0] = all.low;
        to[1] = all.high;
        if (element == 0) {
            states[row] = make_float2(all.most, all.sum);
        }
    }
    if (p.splits == 1 || !last_to_arrive(p.arrivals + blockIdx.z * gridDim.y + blockIdx.y, p.splits)) {
        return;
    }

    // As many threads as there are take a piece of some of the splits each.
    u32 parts = min(max(S::threads / pieces, 1), p.splits);
    for (u32 i = threadIdx.x; i < parts * pieces; i += S::threads) {
        u32 part = i / pieces, query = (i - part * pieces) / per_query, element = i % per_query * 8;
        Piece some;
        for (u32 first = part; first < p.splits; first += 8 * parts) {
            float2 state[8];
            float4 low[8], high[8];
#pragma unroll
            for (u32 j = 0; j < 8; j++) {  // all loads before the first use
                u32 split = first + j * parts;
                u64 row = split * rows + place.row(p, query);
                const float *from = p.partial + row * S::head_dim + element;
                state[j] = split < p.splits ? states[row] : make_float2(NO_SCORE, 0.0f);
                low[j] = as_floats(load16_once(from, split < p.splits));
                high[j] = as_floats(load16_once(from + 4, split < p.splits));
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                some.add(state[j], low[j], high[j]);
            }
        }
        u32 row = part * place.queries + query;
        shared.at(row, element)[0] = some.low;
        shared.at(row, element)[1] = some.high;
        if (element == 0) {
            shared.state[row] = make_float2(some.most, some.sum);
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < pieces; i += S::threads) {
        u32 query = i / per_query, element = i % per_query * 8;
        shared.merged(parts, place.queries, query, element).store(p.out + place.row(p, query) * S::head_dim + element);
    }
}

// Twelve warps per multiprocessor, or eight where the group is large, each with 8 KiB of loads under way.
extern "C" __global__ void __launch_bounds__(192, 2) attention_decode_64_8(const __grid_constant__ Attention p) {
    attend<Shape<64, 6, 8>>(p);
}

extern "C" __global__ void __launch_bounds__(192, 2) attention_decode_128_8(const __grid_constant__ Attention p) {
    attend<Shape<128, 6, 8>>(p);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_64_16(const __grid_constant__ Attention p) {
    attend<Shape<64, 4, 16>>(p);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_decode_128_16(const __grid_constant__ Attention p) {
    attend<Shape<128, 4, 16>>(p);
}
