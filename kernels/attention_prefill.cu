// Causal attention of many new tokens per sequence, after the positions before them. A block has one query head and
// a tile of its tokens, whose rows it keeps in shared memory and whose scores and outputs in registers; the keys and
// values of 64 positions at a time go through a ring of three slots, K0 V0 K1 V1 ..., two of which are under way
// while the third is worked on. A warp has 16 or 32 rows: with 32 every fragment that is read from shared memory
// serves two products, without which shared memory would be as busy as the tensor cores.
//
// The blocks of the last, longest rows start first, those of query heads that share a KV head side by side.
#include "attention.cuh"

template <u32 D, u32 TILES> struct Shape {
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
    __device__ __forceinline__ void soften(float scores[S::tiles][S::positions / 8][4], float scale, int attended,
                                           u32 valid) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
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
            u32 tile = i / (S::positions / 4), n = i / 2 % (S::positions / 8), half = i % 2;
            float even = exp2_fast(scores[tile][n][2 * half] * scale - base[tile][half]);
            float odd = exp2_fast(scores[tile][n][2 * half + 1] * scale - base[tile][half]);
            sum[tile][half] += even + odd;
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

template <class S> __device__ __forceinline__ void attend(const Attention &p) {
    extern __shared__ __align__(128) u8 memory[];  // the rows of q, later of the output, then the ring
    u32 head = blockIdx.x, sequence = blockIdx.y;
    u32 first_row = (gridDim.z - 1 - blockIdx.z) * S::rows;
    u32 rows = min(p.tokens - first_row, S::rows);
    u32 warp_row = threadIdx.x / 32 * S::warp_rows;
    u32 valid = rows > warp_row ? min(rows - warp_row, S::warp_rows) : 0;  // rows of this warp
    u64 stride = (u64)p.heads * S::head_dim;
    u64 offset = ((u64)sequence * p.tokens + first_row) * stride + head * S::head_dim;
    u64 line = ((u64)sequence * p.kv_heads + head / (p.heads / p.kv_heads)) * p.capacity;
    const u16 *keys = p.keys + line * S::head_dim, *values = p.values + line * S::head_dim;
    let_next_start();
    wait_for_inputs();

    u32 attended = p.start[sequence] + first_row + 1;  // by the block's first row
    u32 context = attended + rows - 1;                 // by its last
    u32 q = shared_address(memory);
    u32 ready = q + S::rows * S::line, next = ready + S::slot, spare = next + S::slot;
    copy_rows<S, S::rows>(q, p.q + offset, stride, rows);
    copy_rows<S, S::positions>(ready, keys, S::head_dim, context);
    copy_commit();
    copy_rows<S, S::positions>(next, values, S::head_dim, context);
    copy_commit();

    Rows<S> mine;
    for (u32 position = 0; position < context; position += S::positions) {
        u32 ahead = position + S::positions;
        // What the warp's last row does not attend is not computed.
        bool active = valid > 0 && position < attended + warp_row + valid - 1;
        copy_wait<1>();
        __syncthreads();  // the keys are there, and everybody is through with the spare slot
        if (ahead < context) {
            copy_rows<S, S::positions>(spare, keys + (u64)ahead * S::head_dim, S::head_dim, context - ahead);
        }
        copy_commit();
        if (active) {
            float scores[S::tiles][S::positions / 8][4] = {};
            mine.multiply(scores, q + warp_row * S::line, ready);
            mine.soften(scores, p.scale, (int)(attended + warp_row - position), valid);
        }
        copy_wait<1>();
        __syncthreads();  // the values are there
        if (ahead < context) {
            copy_rows<S, S::positions>(ready, values + (u64)ahead * S::head_dim, S::head_dim, context - ahead);
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
    mine.store(memory + warp_row * S::line, p.out + offset + warp_row * stride, stride, valid);
}

extern "C" __global__ void __launch_bounds__(128, 3)
attention_prefill_64_rows_64(const __grid_constant__ Attention p) {
    attend<Shape<64, 1>>(p);
}

extern "C" __global__ void __launch_bounds__(128, 2)
attention_prefill_64_rows_128(const __grid_constant__ Attention p) {
    attend<Shape<64, 2>>(p);
}

extern "C" __global__ void __launch_bounds__(128, 2)
attention_prefill_128_rows_64(const __grid_constant__ Attention p) {
    attend<Shape<128, 1>>(p);
}

extern "C" __global__ void __launch_bounds__(128, 2)
attention_prefill_128_rows_128(const __grid_constant__ Attention p) {
    attend<Shape<128, 2>>(p);
}
