// Parameters of attention in both phases. The same struct, field by field, is `AttentionArgs` in
// src/backend/cuda/args.rs.
#pragma once
#include "ptx.cuh"

struct Attention {
    const u16 *q;       // [sequence][token][head][head_dim], rotated
    const u16 *keys;    // [sequence][kv_head][capacity][head_dim]
    const u16 *values;  // as keys
    u16 *out;           // as q
    const u32 *start;   // [sequence] position of the first new token: token i attends start + i + 1 positions
    float *partial;     // workspace of split attention
    u32 *arrivals;      // counters of split attention, zero before and after
    u32 sequences;
    u32 tokens;         // new tokens per sequence
    u32 heads;
    u32 kv_heads;
    u32 capacity;       // positions that the cache has room for
    u32 splits;         // blocks that share the positions of one KV head of one sequence
    float scale;        // log2(e) / sqrt(head_dim): scores are exponents of 2
    u32 reserved;
};

// A running maximum starts here: below every score and finite, so that differences to it are numbers. What is
// masked scores -infinity and so weighs nothing even beside this.
#define NO_SCORE (-1e30f)
#define MASKED __int_as_float(0xff800000)
