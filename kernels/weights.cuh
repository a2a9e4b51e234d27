// How the matrices of the linear stages are held, and how a lane makes bf16 of them.
//
// Codes lie row by row in pieces of 16 bytes: 8 columns of bf16, 16 of int8 and fp8, 32 of int4. `mma` does not care in
// which order it sums over k, so a piece goes to one lane, and each eight neighbouring columns of it become, as they
// come, the fragments of two instructions, whose tokens come in pieces of eight columns as well. Within an eight the
// codes are ordered such that the pairs of a fragment are masked out of one register without a shuffle:
//   int8, fp8: columns 0 2 1 3 | 4 6 5 7, a byte each
//   int4:      columns 0 2 4 6 1 3 5 7, four bits each, from the lowest
// All conversions are exact. Scales never touch the codes: sums are multiplied by them, in f32. Activations in int8 are held
// as weights in int8 are, so that neither needs a conversion.
//
// The same layout is in src/backend/cuda/launch/format.rs; quantise.cu makes it.
#pragma once
#include "ptx.cuh"

enum Format { BF16, INT8, INT4, FP8, W8A8 };  // the last: int8 beside activations in int8

#define GROUP_COLUMNS 128u  // that share a scale in int4

template <Format format> struct Held {
    static constexpr u32 COLUMNS = format == BF16 ? 8 : format == INT4 ? 32 : 16;  // of a piece
    static constexpr u32 EIGHTS = COLUMNS / 8;
    static constexpr bool BY_ROW = format == INT8 || format == FP8 || format == W8A8;  // scales: f32 [row]
    static constexpr bool BY_GROUP = format == INT4;                 // bf16 [row / 8][column / 128][row % 8]

    // Bytes from one row to the next: whole pieces.
    static __device__ __forceinline__ u32 row_bytes(u32 k) { return (k + COLUMNS - 1) / COLUMNS * 16; }

    // Where a column that begins a piece is in its row.
    static __device__ __forceinline__ u32 offset(u32 column) { return column / COLUMNS * 16; }

    // What there is of a piece that begins this many columns before the end of its row: all of it or, where eight
    // columns are half a piece, half of it.
    static __device__ __forceinline__ u32 piece_bytes(int left) {
        return BY_ROW ? (u32)min(max(left, 0), 16) : left > 0 ? 16 : 0;
    }
};

// Four columns of int8. The low seven bits are the mantissa of a number from 128 on; 128 is subtracted or, where the
// sign is set, 256.
__device__ __forceinline__ u32 two_of_int8(u32 bytes) {
    return add_bf16x2((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) | 0xc300c300u);
}

// Sign, exponent and mantissa go where bf16 has them. The exponent's bias is then 127 instead of 7; subnormals stay
// subnormal, and the product makes both right.
__device__ __forceinline__ u32 two_of_fp8(u32 bytes) {
    return mul_bf16x2((bytes & 0x80008000u) | (bytes >> 4 & 0x07f007f0u), 0x7b807b80u);  // 2^120
}

// Four bits in two's complement with the sign flipped are the code plus 8: the mantissa of a number from 128 on.
__device__ __forceinline__ u32 two_of_int4(u32 bits) {
    return add_bf16x2((bits & 0x000f000fu) ^ 0x43084308u, 0xc308c308u);  // -136
}

// Eight columns, the `e`th of a piece, as four pairs of bf16: x, y are a fragment's two registers, z, w another's.
template <Format format> __device__ __forceinline__ uint4 eight_of(const uint4 &piece, u32 e) {
    if constexpr (format == BF16) {
        return piece;
    } else if constexpr (format == INT4) {
        u32 eight = e == 0 ? piece.x : e == 1 ? piece.y : e == 2 ? piece.z : piece.w;
        return make_uint4(two_of_int4(eight), two_of_int4(eight >> 4), two_of_int4(eight >> 8), two_of_int4(eight >> 12));
    } else {
        u32 low = e == 0 ? piece.x : piece.z, high = e == 0 ? piece.y : piece.w;
        if constexpr (format == INT8) {
            return make_uint4(two_of_int8(low), two_of_int8(low >> 8), two_of_int8(high), two_of_int8(high >> 8));
        } else {
            return make_uint4(two_of_fp8(low << 8), two_of_fp8(low), two_of_fp8(high << 8), two_of_fp8(high));
        }
    }
}

// Tokens (and norms) beside them lie in shared memory in lines of EIGHTS pieces for each of the four lanes t of a row.
// Lane t reads the `e`th of its pieces while seven others read theirs, of another t or of the next row: the places
// are permuted such that they are in eight different groups of four banks.
template <Format format> __device__ __forceinline__ u32 token_place(u32 row, u32 piece) {
    return piece ^ row % 2 ^ (Held<format>::EIGHTS == 4 ? piece / 8 * 2 : 0);
}

// Place of the first piece of lane t; that of the `e`th is this ^ e.
template <Format format> __device__ __forceinline__ u32 lane_place(u32 row, u32 t) {
    return token_place<format>(row, t * Held<format>::EIGHTS);
}

// Scales of int4 change every 128 columns. Instead of a second set of sums, those there are are kept in units of the
// present group's scale: when it changes they are multiplied by the last over the next. Scales below the least one,
// zeros among them, are taken for it: what their codes then add is still next to nothing.
#define LEAST_SCALE 8.0779356694631609e-28f  // 2^-90

__device__ __forceinline__ float unit_of(float scale) { return fmaxf(scale, LEAST_SCALE); }
