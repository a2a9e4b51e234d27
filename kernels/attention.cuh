// Parameters of attention in both phases. The same struct, field by field, is `AttentionArgs` in
// src/backend/cuda/launch/args.rs.
#pragma once
#include "cache.cuh"

struct Attention {
    const u16 *q;       // [sequence][token][head][head_dim], rotated
    const void *keys;   // as cache.cuh says
    const void *values; // as keys
    u16 *out;           // as q
    const u32 *start;   // [sequence] position of the first new token: token i attends start + i + 1 positions
    float *partial;     // workspace of split attention
    u32 *arrivals;      // counters of split attention, zero before and after
    u32 sequences;
    u32 tokens;         // new tokens per sequence
    u32 heads;
    u32 kv_heads;
    u32 capacity;       // positions that the cache has room for; whole pages
    u32 splits;         // blocks that share the positions of one KV head of one sequence
    float scale;        // log2(e) / sqrt(head_dim): scores are exponents of 2
    u32 page_shift;     // a page has 2^page_shift positions, at least 16
    const u32 *pages;   // [sequence][capacity >> page_shift] page of the pool
    const float *key_scales;  // where the cache is codes
    const float *value_scales;
};

// A running maximum starts here: below every score and finite, so that differences to it are numbers. What is
// masked scores -infinity and so weighs nothing even beside this.
#define NO_SCORE (-1e30f)
#define MASKED __int_as_float(0xff800000)

// Pages are looked up for this many neighbouring positions at a time: every page has a multiple of them.
#define TOGETHER 16u

// A KV head of a sequence whose cache is in pages. Lane i holds the page of the i-th sixteen positions of what is read
// next, so that nobody waits for the table before waiting for the cache.
template <u32 lanes> struct Pages {
    const u32 *table;
    u32 kv_heads, kv_head, shift, entry;

    __device__ __forceinline__ Pages(const Attention &p, u32 sequence, u32 kv_head)
        : table(p.pages + (u64)sequence * (p.capacity >> p.page_shift)), kv_heads(p.kv_heads), kv_head(kv_head),
          shift(p.page_shift) {}

    // Those of the positions from `first` to before `limit`.
    __device__ __forceinline__ void find(u32 first, u32 limit) {
        u32 position = first + threadIdx.x % lanes * TOGETHER;
        entry = load_entry(table + (position >> shift), position < limit);
    }

    // The row of a position that is in the i-th sixteen. All lanes take part.
    __device__ __forceinline__ u64 row(u32 i, u32 position) const {
        u32 page = lanes == 1 ? entry : __shfl_sync(0xffffffff, entry, i);
        return page_row(page, kv_heads, kv_head, shift, position);
    }
};
