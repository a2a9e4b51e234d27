// Causal attention of many new tokens per sequence, after the positions before them. A block has one query head and
// a tile of its tokens, whose rows it keeps in shared memory and whose scores and outputs in registers; the keys and
// values of 64 positions at a time go through a ring of three slots, K0 V0 K1 V1 ..., two of which are under way
// while the third is worked on. A warp has 16 or 32 rows: with 32 every fragment that is read from shared memory
// serves two products, without which shared memory would be as busy as the tensor cores.
//
// A cache of codes goes through two slots of codes instead, for keys and for values, and each thread makes bf16 of the
// pieces that it copied, in two slots that are multiplied: neither needs a barrier more. The scales of 64 positions
// multiply the scores and the weights on their way from one product to the other.
//
// The blocks of the last, longest rows start first, those of query heads that share a KV head side by side.
#pragma once
#include "attention.cuh"

template <u32 D, u32 TILES, Format FORMAT, bool PAGED> struct Shape {
    static constexpr Format format = FORMAT;
    static constexpr bool codes = FORMAT != BF16, paged = PAGED;
    enum : u32 {
        head_dim = D,
        threads = 128,
        tiles = TILES,              // of 16 rows in a warp
        warp_rows = 16 * TILES,
        rows = 4 * warp_rows,       // of a block
        positions = 64,             // of a slot
        line = 2 * D,               // bytes of a row
        slot = positions * line,
        columns = D / 8,            // 16-byte pieces of a row; piece c of row r lies at c ^ (r % 8)
        cache_line = codes ? D : 2 * D,  // bytes of a row of the cache
        cache_columns = cache_line / 16,
        code_slot = positions * D,  // of codes, and of its scales
        scale_slot = 2 * positions * 4,
    };
};

// Rows `stride` elements apart to shared memory; those from `valid` on are filled with zeros.
template <class S, u32 rows> __device__ __forceinline__ void copy_rows(u32 to, const u16 *from, u64 stride, u32 valid) {
    constexpr u32 each = S::threads / S::columns;  // rows at a time, a multiple of 8
    u32 row = threadIdx.x / S::columns, column = threadIdx.x % S::columns;
    to += row * S::line + ((column ^ row % 8) * 16);
    from += row * stride + column * 8;
#pragma unroll
    for (u32 i = 0; i < rows / each; i++) {
        copy16_async(to + i * each * S::line, from + i * each * stride, row + i * each < valid ? 16 : 0);
    }
}

// Where the positions of a KV head lie.
template <class S, bool PAGED = S::paged> struct Way {
    u64 first;

    __device__ __forceinline__ Way(const Attention &p, u32 sequence, u32 kv_head)
        : first(((u64)sequence * p.kv_heads + kv_head) * p.capacity) {}

    __device__ __forceinline__ void find(u32, u32) {}
    __device__ __forceinline__ u64 row(u32 position, u32 i) const { return first + position + i; }
};

template <class S> struct Way<S, true> {
    Pages<S::positions / TOGETHER> pages;

    __device__ __forceinline__ Way(const Attention &p, u32 sequence, u32 kv_head) : pages(p, sequence, kv_head) {}

    // The pages of the 64 positions from `position` on.
    __device__ __forceinline__ void find(u32 position, u32 limit) { pages.find(position, limit); }

    // Row of position `i` of the 64. All lanes take part.
    __device__ __forceinline__ u64 row(u32 position, u32 i) const { return pages.row(i / TOGETHER, position + i); }
};

// The piece of 64 rows of the cache that a thread copies, and the rows that it has it of: every `each`th from `row` on.
template <class S> struct Copier {
    enum : u32 { each = S::threads / S::cache_columns, count = S::positions / each };
    u32 row, column;

    __device__ __forceinline__ Copier() : row(threadIdx.x / S::cache_columns), column(threadIdx.x % S::cache_columns) {}

    // Where the i-th piece goes, in bytes: bf16 as it is read, codes as they came.
    __device__ __forceinline__ u32 place(u32 i) const {
        u32 swizzled = S::codes ? column : column ^ row % 8;
        return (row + i * each) * S::cache_line + swizzled * 16;
    }

    // 64 positions; those from `valid` on are filled with zeros.
    __device__ __forceinline__ void copy(u32 to, const void *cache, const Way<S> &way, u32 position, u32 valid) const {
        if constexpr (S::paged) {
#pragma unroll
            for (u32 i = 0; i < count; i++) {
                u64 at = way.row(position, row + i * each);
                copy16_async(to + place(i), (const u8 *)cache + at * S::cache_line + column * 16, row + i * each < valid ? 16 : 0);
            }
        } else {
            const u8 *from = (const u8 *)cache + way.row(position, row) * S::cache_line + column * 16;
#pragma unroll
            for (u32 i = 0; i < count; i++) {
                copy16_async(to + place(i), from + i * each * S::cache_line, row + i * each < valid ? 16 : 0);
            }
        }
    }

    // The scales of 64 positions: of keys by the first threads, then of values.
    static __device__ __forceinline__ void copy_scales(u32 to, const Attention &p, const Way<S> &way, u32 position, u32 valid) {
        u32 own = threadIdx.x % S::positions;
        const float *scales = threadIdx.x < S::positions ? p.key_scales : p.value_scales;
        copy4_async(to + threadIdx.x * 4, scales + way.row(position, own), own < valid);
    }

    // This thread's codes become bf16 in a slot as `multiply` and `weigh` read it. Four neighbours in a row take the other
    // half of their pieces first, so that eight lanes store to eight different groups of banks.
    __device__ __forceinline__ void widen(u32 slot, u32 codes) const {
#pragma unroll
        for (u32 i = 0; i < count; i++) {
            uint4 piece = load16_shared(codes + place(i));
            u32 other = S::cache_columns == 8 ? column / 4 : 0;
            if (other) {
                piece = make_uint4(piece.z, piece.w, piece.x, piece.y);
            }
            u32 line = slot + (row + i * each) * S::line;
            store16_shared(line + ((2 * column + other) ^ row % 8) * 16, eight_of<S::format>(piece, 0));
            store16_shared(line + ((2 * column + (other ^ 1)) ^ row % 8) * 16, eight_of<S::format>(piece, 1));
        }
    }

    // Its scale to where all read it.
    static __device__ __forceinline__ void publish_scale(u32 to, u32 from) {
        store4_shared(to + threadIdx.x * 4, load4_shared(from + threadIdx.x * 4));
    }
};

// A warp's rows: lane (g, t) has rows 16 tile + 8 half + g, in registers [tile][..][2 half ..].
template <class S> struct Rows {
    float base[S::tiles][2];  // weights are 2^(score - base); no score is more than 8 above it
    float sum[S::tiles][2];  // of this lane's positions
    float out[S::tiles][S::columns][4];
    u32 weights[S::tiles][S::positions / 8][2];  // pairs of positions: [..][eight positions][half]

    __device__ __forceinline__ Rows() {
#pragma unroll
        for (u32 tile = 0; tile < S::tiles; tile++) {
            base[tile][0] = base[tile][1] = NO_SCORE;
            sum[tile][0] = sum[tile][1] = 0.0f;
#pragma unroll
            for (u32 i = 0; i < 4 * S::columns; i++) {
                out[tile][i / 4][i % 4] = 0.0f;
            }
        }
    }

    // `q` and `keys` are shared addresses: of this warp's rows, and of a slot.
    __device__ __forceinline__ void multiply(float scores[S::tiles][S::positions / 8][4], u32 q, u32 keys) {
        u32 lane = threadIdx.x % 32;
        u32 q_lane = lane % 16 * S::line + ((lane / 16 ^ lane % 8) * 16);
        u32 keys_lane = (lane % 8 + lane / 16 * 8) * S::line + ((lane / 8 % 2 ^ lane % 8) * 16);
#pragma unroll
        for (u32 k = 0; k < S::head_dim / 16; k++) {
            u32 a[S::tiles][4];
#pragma unroll
            for (u32 tile = 0; tile < S::tiles; tile++) {
                ldmatrix4(a[tile], q + (q_lane ^ 32 * k) + 16 * tile * S::line);
            }
#pragma unroll
            for (u32 n = 0; n < S::positions / 8; n += 2) {
                u32 b[4];
                ldmatrix4(b, keys + (keys_lane ^ 32 * k) + 8 * n * S::line);
#pragma unroll
                for (u32 tile = 0; tile < S::tiles; tile++) {
                    mma_scores(scores[tile][n], a[tile], b[0], b[1]);
                    mma_scores(scores[tile][n + 1], a[tile], b[2], b[3]);
                }
            }
        }
    }

    // Scores become weights. The base follows the greatest score only when it must, which is rare but for a row's
    // first positions: what is summed up so far then has to be rescaled. Row 0 attends `attended` of these 64
    // positions, every further row one more; rows from `valid` on do not exist and attend none.
    // `scales` is a shared address: of codes, the scales of the 64 keys, then of the values.
    __device__ __forceinline__ void soften(float scores[S::tiles][S::positions / 8][4], float scale, int attended,
                                           u32 valid, u32 scales) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        if constexpr (S::codes) {
#pragma unroll
            for (u32 n = 0; n < S::positions / 8; n++) {
                float2 by = load8_shared(scales + (8 * n + 2 * t) * 4);
#pragma unroll
                for (u32 i = 0; i < 4 * S::tiles; i++) {
                    scores[i / 4][n][i % 4] *= i % 2 ? by.y : by.x;
                }
            }
        }
        if (attended < (int)S::positions || valid < S::warp_rows) {
#pragma unroll
            for (u32 i = 0; i < S::tiles * S::positions / 2; i++) {
                u32 tile = i / (S::positions / 2), n = i / 4 % (S::positions / 8);
                u32 half = i % 4 / 2, odd = i % 2;
                u32 row = 16 * tile + 8 * half + g;
                if ((int)(8 * n + 2 * t + odd) >= attended + (int)row || row >= valid) {
                    scores[tile][n][i % 4] = MASKED;
                }
            }
        }
        float high[S::tiles][2];
        bool grown = false;
#pragma unroll
        for (u32 i = 0; i < 2 * S::tiles; i++) {
            u32 tile = i / 2, half = i % 2;
            float of_row = MASKED;
#pragma unroll
            for (u32 n = 0; n < S::positions / 8; n++) {
                of_row = fmaxf(of_row, fmaxf(scores[tile][n][2 * half], scores[tile][n][2 * half + 1]));
            }
            of_row = fmaxf(of_row, __shfl_xor_sync(0xffffffff, of_row, 1));
            of_row = fmaxf(of_row, __shfl_xor_sync(0xffffffff, of_row, 2));
            high[tile][half] = of_row * scale;
            grown |= high[tile][half] > base[tile][half] + 8.0f;
        }
        if (__any_sync(0xffffffff, grown)) {
            rescale(high);
        }
#pragma unroll
        for (u32 i = 0; i < S::tiles * S::positions / 4; i++) {
            u32 n = i / (2 * S::tiles), tile = i / 2 % S::tiles, half = i % 2;
            float even = exp2_fast(scores[tile][n][2 * half] * scale - base[tile][half]);
            float odd = exp2_fast(scores[tile][n][2 * half + 1] * scale - base[tile][half]);
            sum[tile][half] += even + odd;
            if constexpr (S::codes) {
                float2 by = load8_shared(scales + (S::positions + 8 * n + 2 * t) * 4);
                even *= by.x;
                odd *= by.y;
            }
            weights[tile][n][half] = to_bf16x2(even, odd);
        }
    }

    __device__ __forceinline__ void rescale(const float high[S::tiles][2]) {
#pragma unroll
        for (u32 i = 0; i < 2 * S::tiles; i++) {
            u32 tile = i / 2, half = i % 2;
            float now = fmaxf(base[tile][half], high[tile][half]);
            float factor = exp2_fast(base[tile][half] - now);
            base[tile][half] = now;
            sum[tile][half] *= factor;
#pragma unroll
            for (u32 column = 0; column < S::columns; column++) {
                out[tile][column][2 * half] *= factor;
                out[tile][column][2 * half + 1] *= factor;
            }
        }
    }

    __device__ __forceinline__ void weigh(u32 values) {
        u32 lane = threadIdx.x % 32;
        u32 values_lane = lane % 16 * S::line + ((lane / 16 ^ lane % 8) * 16);
#pragma unroll
        for (u32 k = 0; k < S::positions / 16; k++) {
#pragma unroll
            for (u32 n = 0; n < S::columns; n += 2) {
                u32 b[4];
                ldmatrix4_transposed(b, values + (values_lane ^ 16 * n) + 16 * k * S::line);
#pragma unroll
                for (u32 tile = 0; tile < S::tiles; tile++) {
                    u32 a[4] = {weights[tile][2 * k][0], weights[tile][2 * k][1],
                                weights[tile][2 * k + 1][0], weights[tile][2 * k + 1][1]};
                    mma_values(out[tile][n], a, b[0], b[1]);
                    mma_values(out[tile][n + 1], a, b[2], b[3]);
                }
            }
        }
    }

    // Through this warp's rows in shared memory, for wide stores.
    __device__ __forceinline__ void store(u8 *shared, u16 *to, u64 stride, u32 valid) {
        u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        __syncwarp();
#pragma unroll
        for (u32 i = 0; i < 2 * S::tiles; i++) {
            u32 tile = i / 2, half = i % 2;
            float all = sum[tile][half];
            all += __shfl_xor_sync(0xffffffff, all, 1);
            all += __shfl_xor_sync(0xffffffff, all, 2);
            float scale = reciprocal_fast(all);
            u8 *row = shared + (16 * tile + 8 * half + g) * S::line;
#pragma unroll
            for (u32 column = 0; column < S::columns; column++) {
                *(u32 *)(row + (column ^ g) * 16 + 4 * t) =
                    to_bf16x2(out[tile][column][2 * half] * scale, out[tile][column][2 * half + 1] * scale);
            }
        }
        __syncwarp();
        u32 row = lane / S::columns, column = lane % S::columns;
#pragma unroll
        for (u32 i = 0; i < S::warp_rows * S::columns / 32; i++, row += 32 / S::columns) {
            if (row < valid) {
                const uint4 *piece = (const uint4 *)(shared + row * S::line + (column ^ row % 8) * 16);
                store16(to + row * stride + column * 8, *piece);
            }
        }
    }
};

// What a block has to do.
template <class S> struct Work {
    u32 rows;       // of the block
    u32 warp_row;   // this warp's first
    u32 valid;      // rows of this warp
    u32 attended;   // positions that the block's first row attends
    u32 context;    // and its last
    u64 stride, offset;  // of rows in q and out, and of the first
    u32 sequence, kv_head;

    __device__ __forceinline__ Work(const Attention &p) {
        u32 head = blockIdx.x;
        u32 first_row = (gridDim.z - 1 - blockIdx.z) * S::rows;
        sequence = blockIdx.y;
        kv_head = head / (p.heads / p.kv_heads);
        rows = min(p.tokens - first_row, S::rows);
        warp_row = threadIdx.x / 32 * S::warp_rows;
        valid = rows > warp_row ? min(rows - warp_row, S::warp_rows) : 0;
        stride = (u64)p.heads * S::head_dim;
        offset = ((u64)sequence * p.tokens + first_row) * stride + head * S::head_dim;
        let_next_start();
        wait_for_inputs();
        attended = p.start[sequence] + first_row + 1;
        context = attended + rows - 1;
    }

    // What the warp's last row does not attend is not computed.
    __device__ __forceinline__ bool active(u32 position) const {
        return valid > 0 && position < attended + warp_row + valid - 1;
    }
};

template <class S> __device__ __forceinline__ void attend_bf16(const Attention &p, u8 *memory) {
    Work<S> work(p);
    Way<S> way(p, work.sequence, work.kv_head);
    Copier<S> copier;
    u32 q = shared_address(memory);
    u32 ready = q + S::rows * S::line, next = ready + S::slot, spare = next + S::slot;
    way.find(0, work.context);
    copy_rows<S, S::rows>(q, p.q + work.offset, work.stride, work.rows);
    copier.copy(ready, p.keys, way, 0, work.context);
    copy_commit();
    copier.copy(next, p.values, way, 0, work.context);
    copy_commit();
    way.find(S::positions, work.context);

    Rows<S> mine;
    for (u32 position = 0; position < work.context; position += S::positions) {
        u32 ahead = position + S::positions;
        bool active = work.active(position);
        copy_wait<1>();
        __syncthreads();  // the keys are there, and everybody is through with the spare slot
        if (ahead < work.context) {
            copier.copy(spare, p.keys, way, ahead, work.context - ahead);
        }
        copy_commit();
        if (active) {
            float scores[S::tiles][S::positions / 8][4] = {};
            mine.multiply(scores, q + work.warp_row * S::line, ready);
            mine.soften(scores, p.scale, (int)(work.attended + work.warp_row - position), work.valid, 0);
        }
        copy_wait<1>();
        __syncthreads();  // the values are there
        if (ahead < work.context) {
            copier.copy(ready, p.values, way, ahead, work.context - ahead);
            way.find(ahead + S::positions, work.context);
        }
        copy_commit();
        if (active) {
            mine.weigh(next);
        }
        u32 free = next;
        next = ready;
        ready = spare;
        spare = free;
    }
    mine.store(memory + work.warp_row * S::line, p.out + work.offset + work.warp_row * work.stride, work.stride, work.valid);
}

template <class S> __device__ __forceinline__ void attend_codes(const Attention &p, u8 *memory) {
    Work<S> work(p);
    Way<S> way(p, work.sequence, work.kv_head);
    Copier<S> copier;
    u32 q = shared_address(memory);
    u32 keys = q + S::rows * S::line, values = keys + S::slot, scales = values + S::slot;
    u32 key_codes = scales + S::scale_slot, value_codes = key_codes + S::code_slot;
    u32 new_scales = value_codes + S::code_slot;
    way.find(0, work.context);
    copy_rows<S, S::rows>(q, p.q + work.offset, work.stride, work.rows);
    copier.copy(key_codes, p.keys, way, 0, work.context);
    copier.copy_scales(new_scales, p, way, 0, work.context);
    copy_commit();
    copier.copy(value_codes, p.values, way, 0, work.context);
    copy_commit();
    way.find(S::positions, work.context);

    Rows<S> mine;
    for (u32 position = 0; position < work.context; position += S::positions) {
        u32 ahead = position + S::positions;
        bool active = work.active(position);
        copy_wait<1>();
        // Everybody is past the barrier at the values, so nobody needs these keys and scales any more.
        copier.widen(keys, key_codes);
        copier.publish_scale(scales, new_scales);
        if (ahead < work.context) {
            copier.copy(key_codes, p.keys, way, ahead, work.context - ahead);
            copier.copy_scales(new_scales, p, way, ahead, work.context - ahead);
        }
        copy_commit();
        __syncthreads();  // the keys are there, and everybody is through with the values
        if (active) {
            float scores[S::tiles][S::positions / 8][4] = {};
            mine.multiply(scores, q + work.warp_row * S::line, keys);
            mine.soften(scores, p.scale, (int)(work.attended + work.warp_row - position), work.valid, scales);
        }
        copy_wait<1>();
        copier.widen(values, value_codes);
        if (ahead < work.context) {
            copier.copy(value_codes, p.values, way, ahead, work.context - ahead);
            way.find(ahead + S::positions, work.context);
        }
        copy_commit();
        __syncthreads();  // the values are there, and everybody is through with the keys
        if (active) {
            mine.weigh(values);
        }
    }
    mine.store(memory + work.warp_row * S::line, p.out + work.offset + work.warp_row * work.stride, work.stride, work.valid);
}

template <class S> __device__ __forceinline__ void attend(const Attention &p) {
    extern __shared__ __align__(128) u8 memory[];  // the rows of q, later of the output, then the slots
    if constexpr (S::codes) {
        attend_codes<S>(p, memory);
    } else {
        attend_bf16<S>(p, memory);
    }
}

#define ATTENTION_PREFILL(name, head_dim, tile, blocks, format, paged)                                                  \
    extern "C" __global__ void __launch_bounds__(128, blocks) name##_##head_dim##_rows_##tile(                          \
        const __grid_constant__ Attention p) {                                                                          \
        attend<Shape<head_dim, tile / 64, format, paged>>(p);                                                           \
    }
#define ATTENTION_PREFILLS(name, format, paged)             \
    ATTENTION_PREFILL(name, 64, 64, 3, format, paged)       \
    ATTENTION_PREFILL(name, 64, 128, 2, format, paged)      \
    ATTENTION_PREFILL(name, 128, 64, 2, format, paged)      \
    ATTENTION_PREFILL(name, 128, 128, 2, format, paged)
