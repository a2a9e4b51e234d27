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
//
// Codes of 8 bits become bf16 in registers, exactly. The scale of a key multiplies the finished scores, that of a value
// the weight of its position before it is rounded to bf16.
#pragma once
#include "attention_piece.cuh"

template <u32 D, u32 WARPS, u32 QUERIES, Format FORMAT, bool PAGED> struct Shape {
    static constexpr Format format = FORMAT;
    static constexpr bool codes = FORMAT != BF16, paged = PAGED;
    enum : u32 {
        head_dim = D,
        warps = WARPS,
        threads = 32 * WARPS,
        queries = QUERIES,                // 8 or 16
        tiles = QUERIES / 8,              // of eight queries
        line = codes ? D : 2 * D,         // bytes of a row of the cache
        chunk = 4096 / line,              // positions: 32 registers of keys, 32 of values
        steps = chunk / 16,               // of sixteen positions in a chunk
        eights = Held<FORMAT>::EIGHTS,    // of elements in 16 bytes
        key_loads = line / 64,            // of 16 bytes that a lane takes of a key
        value_load = line < 128 ? 8 : 16, // bytes that a lane takes of a value at once
        value_loads = line / 8 / value_load,
        run = D / 8 / value_loads,        // neighbouring elements in them
        outputs = D / 8,                  // of one query that a lane holds: elements 8 run (x / run) + run g + x % run
        row = D + 4,                      // floats of a query's outputs in shared memory
    };
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

// Where the chunk is that a warp reads next.
template <class S, bool PAGED = S::paged> struct Way {
    u64 at;  // row of its first position

    __device__ __forceinline__ Way(const Attention &p, const Place<S> &place, u32 first)
        : at(((u64)place.sequence * p.kv_heads + place.kv_head) * p.capacity + first) {}

    __device__ __forceinline__ void find(u32, u32) {}
    __device__ __forceinline__ void advance() { at += S::warps * S::chunk; }
    __device__ __forceinline__ u64 step(u32 step, u32) const { return at + 16 * step; }
    __device__ __forceinline__ u64 of_lane(u32 first, u32) const { return at + first + threadIdx.x % 32; }
};

template <class S> struct Way<S, true> {
    Pages<S::steps> pages;

    __device__ __forceinline__ Way(const Attention &p, const Place<S> &place, u32 first)
        : pages(p, place.sequence, place.kv_head) {
        find(first, place.limit);
    }

    // The pages of the chunk at `position`.
    __device__ __forceinline__ void find(u32 position, u32 limit) { pages.find(position, limit); }
    __device__ __forceinline__ void advance() {}

    // Row of the first of sixteen positions of the chunk at `position`.
    __device__ __forceinline__ u64 step(u32 step, u32 position) const { return pages.row(step, position + 16 * step); }

    // Row of a lane's own position, `first` and the lane's number into the chunk.
    __device__ __forceinline__ u64 of_lane(u32 first, u32 position) const {
        u32 own = first + threadIdx.x % 32;
        return pages.row(own / 16, position + own);
    }
};

template <class S> struct Keys {
    uint4 at[S::steps][2][S::key_loads];  // rows g and g + 8: bytes 64 c + 16 t ..

    // Of the chunk at `position`.
    __device__ __forceinline__ void load(const void *keys, const Way<S> &way, u32 position, u32 limit) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (u32 step = 0; step < S::steps; step++) {
            const u8 *from = (const u8 *)keys + (way.step(step, position) + g) * S::line + 16 * t;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                bool valid = position + 16 * step + 8 * half + g < limit;
#pragma unroll
                for (u32 c = 0; c < S::key_loads; c++) {
                    at[step][half][c] = load16_once(from + 8 * half * S::line + 64 * c, valid);
                }
            }
        }
    }
};

template <class S> struct Values {
    u32 at[S::steps][4][S::line / 32];  // rows 2t, 2t + 1, 2t + 8, 2t + 9: bytes value_load (8 c + g) ..

    // Of the chunk at `position`.
    __device__ __forceinline__ void load(const void *values, const Way<S> &way, u32 position, u32 limit) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (u32 step = 0; step < S::steps; step++) {
            const u8 *from = (const u8 *)values + (way.step(step, position) + 2 * t) * S::line + S::value_load * g;
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 row = 8 * (i / 2) + i % 2;
                bool valid = position + 16 * step + row + 2 * t < limit;
#pragma unroll
                for (u32 c = 0; c < S::value_loads; c++) {
                    const u8 *piece = from + row * S::line + 8 * S::value_load * c;
                    if constexpr (S::value_load == 16) {
                        uint4 v = load16_once(piece, valid);
                        u32 *to = at[step][i] + 4 * c;
                        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
                    } else {
                        // A row of 64 bytes has eight for each lane g. Of sixteen it would have half to give away.
                        uint2 v = load8_once(piece, valid);
                        at[step][i][0] = v.x, at[step][i][1] = v.y;
                    }
                }
            }
        }
    }

    // Output x of the rows 2t, 2t + 1 (pair 0) or 2t + 8, 2t + 9 (pair 1).
    __device__ __forceinline__ u32 pair(u32 step, u32 pair, u32 x) const {
        constexpr u32 each = S::codes ? 4 : 2;  // elements in a register
        u32 both = __byte_perm(at[step][2 * pair][x / each], at[step][2 * pair + 1][x / each],
                               x % 2 == 0 ? 0x5410 : 0x7632);
        // Codes: the bytes of elements 0 and 2 of four, or of 1 and 3, of either row.
        bool upper = x / 2 % 2;
        return S::format == INT8  ? two_of_int8(upper ? both >> 8 : both)
               : S::format == FP8 ? two_of_fp8(upper ? both : both << 8)
                                  : both;
    }
};

// Of codes, what scores and weights are multiplied by: 32 positions of a chunk in a register.
template <class S> struct Scales {
    enum : u32 { parts = S::codes ? S::chunk / 32 : 1 };
    float keys[parts], values[parts];

    __device__ __forceinline__ void load(const Attention &p, const Way<S> &way, u32 position, u32 limit) {
        if constexpr (S::codes) {
#pragma unroll
            for (u32 i = 0; i < parts; i++) {
                u64 row = way.of_lane(32 * i, position);
                bool valid = position + 32 * i + threadIdx.x % 32 < limit;
                keys[i] = __uint_as_float(load4_once(p.key_scales + row, valid));
                values[i] = __uint_as_float(load4_once(p.value_scales + row, valid));
            }
        }
    }

    // That of a lane's i-th position, g + 8 i.
    static __device__ __forceinline__ float of(const float scales[parts], u32 i) {
        return __shfl_sync(0xffffffff, scales[i / 4], i % 4 * 8 + threadIdx.x % 32 / 4);
    }
};

// The same where a lane needs them, for its own positions.
template <class S> struct Factors {
    enum : u32 { count = S::codes ? 2 * S::steps : 1 };
    float keys[count], values[count];

    __device__ __forceinline__ Factors(const Scales<S> &scales, float scale) {
        if constexpr (S::codes) {
#pragma unroll
            for (u32 i = 0; i < count; i++) {
                keys[i] = Scales<S>::of(scales.keys, i) * scale;
                values[i] = Scales<S>::of(scales.values, i);
            }
        } else {
            keys[0] = scale;
        }
    }

    __device__ __forceinline__ float key(u32 i) const { return keys[S::codes ? i : 0]; }
    __device__ __forceinline__ float weight(u32 i, float weight) const { return S::codes ? weight * values[S::codes ? i : 0] : weight; }
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
    __device__ __forceinline__ void soften(u32 tile, float scores[S::steps][4], u32 weights[S::steps][2],
                                           const Factors<S> &factors, u32 live, u32 position, u32 limit) {
        float now[2];
#pragma unroll
        for (u32 odd = 0; odd < 2; odd++) {
            float high = MASKED;
#pragma unroll
            for (u32 i = 0; i < 2 * S::steps; i++) {
                float &score = scores[i / 2][2 * (i % 2) + odd];
                score = position + 8 * i < limit ? score * factors.key(i) : MASKED;
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
            u32 pair = to_bf16x2(factors.weight(i, even), factors.weight(i, odd));
            weights[i / 2][i % 2] = transposed8x8(pair & live);
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
                *shared.at(first_row + query, 8 * S::run * (x / S::run) + S::run * g + x % S::run) =
                    make_float4(row[x], row[x + 1], row[x + 2], row[x + 3]);
            }
        }
    }
};

template <class S> __device__ __forceinline__ void read_cache(const Attention &p, Place<S> &place, Shared<S> &shared) {
    u32 warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint4 q[S::tiles][S::key_loads * S::eights];
    u32 live[S::tiles];  // halves of a pair of weights that belong to a query
#pragma unroll
    for (u32 tile = 0; tile < S::tiles; tile++) {
        u32 query = 8 * tile + g, even = 8 * tile + 2 * t;
        live[tile] = (even < place.queries ? 0xffff : 0) | (even + 1 < place.queries ? 0xffff0000 : 0);
#pragma unroll
        for (u32 i = 0; i < S::key_loads * S::eights; i++) {
            u32 element = ((i / S::eights * 4 + t) * S::eights + i % S::eights) * 8;
            q[tile][i] = load16_once(p.q + place.row(p, query) * S::head_dim + element, query < place.queries);
        }
    }

    place.find_positions(p);
    constexpr u32 stride = S::warps * S::chunk;
    u32 first = place.first + warp * S::chunk;
    Way<S> way(p, place, first);
    Keys<S> keys;
    Values<S> values;
    Scales<S> scales;
    keys.load(p.keys, way, first, place.limit);
    scales.load(p, way, first, place.limit);
    values.load(p.values, way, first, place.limit);
    way.find(first + stride, place.limit);

    Sums<S> sums;
    for (u32 position = first; position < place.limit; position += stride) {
        float scores[S::tiles][S::steps][4] = {};
#pragma unroll
        for (u32 i = 0; i < S::steps * S::key_loads * S::eights; i++) {
            u32 step = i / (S::key_loads * S::eights), of_row = i % (S::key_loads * S::eights);
            uint4 low = eight_of<S::format>(keys.at[step][0][of_row / S::eights], of_row % S::eights);
            uint4 high = eight_of<S::format>(keys.at[step][1][of_row / S::eights], of_row % S::eights);
            u32 a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
#pragma unroll
            for (u32 tile = 0; tile < S::tiles; tile++) {
                mma_scores(scores[tile][step], a[0], q[tile][of_row].x, q[tile][of_row].y);
                mma_scores(scores[tile][step], a[1], q[tile][of_row].z, q[tile][of_row].w);
            }
        }
        Factors<S> factors(scales, p.scale);
        // The registers are free again: the next chunk's loads are under way during the rest of this one. The branch
        // keeps ptxas from sinking them below the softmax.
        way.advance();
        if (position + stride < place.limit) {
            keys.load(p.keys, way, position + stride, place.limit);
            scales.load(p, way, position + stride, place.limit);
        }

        u32 weights[S::tiles][S::steps][2];
#pragma unroll
        for (u32 tile = 0; tile < S::tiles; tile++) {
            sums.soften(tile, scores[tile], weights[tile], factors, live[tile], position + g, place.limit);
        }
        sums.weigh(values, weights);
        if (position + stride < place.limit) {
            values.load(p.values, way, position + stride, place.limit);
            way.find(position + 2 * stride, place.limit);
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
#define ATTENTION_DECODE(name, warps, head_dim, queries, format, paged)                                                 \
    extern "C" __global__ void __launch_bounds__(32 * warps, 2) name##_##head_dim##_##queries(                          \
        const __grid_constant__ Attention p) {                                                                          \
        attend<Shape<head_dim, warps, queries, format, paged>>(p);                                                      \
    }
#define ATTENTION_DECODES(name, format, paged)          \
    ATTENTION_DECODE(name, 6, 64, 8, format, paged)     \
    ATTENTION_DECODE(name, 6, 128, 8, format, paged)    \
    ATTENTION_DECODE(name, 4, 64, 16, format, paged)    \
    ATTENTION_DECODE(name, 4, 128, 16, format, paged)
