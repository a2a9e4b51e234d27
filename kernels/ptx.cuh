// Inline PTX and the few types that the kernels share. No headers are included anywhere, so that the sources
// compile with NVRTC alone. bf16 is kept as 16 bits: shifting left by 16 widens it to f32 exactly.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// ---------------------------------------------------------------- bf16

__device__ __forceinline__ float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float from_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Two f32 rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ u32 to_bf16x2(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ u16 to_bf16(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Elementwise product. Before sm_90 there is no mul.bf16x2; adding -0 leaves every product as it is.
__device__ __forceinline__ u32 mul_bf16x2(u32 a, u32 b) {
    u32 out;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(0x80008000u));
    return out;
}

// Elementwise sum; exact where the sum has no more than eight bits.
__device__ __forceinline__ u32 add_bf16x2(u32 a, u32 b) {
    u32 out;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return out;
}

// ---------------------------------------------------------------- arithmetic

// 2^x, within 2 units in the last place.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float rsqrt_fast(float x) {
    float y;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float sqrt_fast(float x) {
    float y;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// For |x| <= pi the absolute error is below 2^-20.
__device__ __forceinline__ void sin_cos_fast(float x, float *sin, float *cos) {
    asm("sin.approx.f32 %0, %1;" : "=f"(*sin) : "f"(x));
    asm("cos.approx.f32 %0, %1;" : "=f"(*cos) : "f"(x));
}

// ---------------------------------------------------------------- global memory

// 16 bytes of what is read once and by nobody else: stays out of L1. Only for data that no kernel running at the
// same time writes (weights); inputs that an earlier kernel wrote take `load16`.
__device__ __forceinline__ uint4 load16_streamed(const void *from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

__device__ __forceinline__ uint4 load16(const void *from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}

// 16 bytes from the L2 cache, whatever this multiprocessor has read before.
__device__ __forceinline__ uint4 load16_l2(const void *from) {
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

__device__ __forceinline__ void store16(void *to, uint4 v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// 16 bytes of what is read once and by nobody else but was written by an earlier kernel; zeros, and no access, where
// `valid` is false.
__device__ __forceinline__ uint4 load16_once(const void *from, bool valid) {
    uint4 v = make_uint4(0, 0, 0, 0);
    asm volatile("{ .reg .pred valid; setp.ne.u32 valid, %5, 0; "
                 "@valid ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4]; }"
                 : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(from), "r"((u32)valid) : "memory");
    return v;
}

// The same of 8 and of 4 bytes.
__device__ __forceinline__ uint2 load8_once(const void *from, bool valid) {
    uint2 v = make_uint2(0, 0);
    asm volatile("{ .reg .pred valid; setp.ne.u32 valid, %3, 0; "
                 "@valid ld.global.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2]; }"
                 : "+r"(v.x), "+r"(v.y) : "l"(from), "r"((u32)valid) : "memory");
    return v;
}

__device__ __forceinline__ u32 load4_once(const void *from, bool valid) {
    u32 v = 0;
    asm volatile("{ .reg .pred valid; setp.ne.u32 valid, %2, 0; "
                 "@valid ld.global.L1::no_allocate.L2::128B.u32 %0, [%1]; }"
                 : "+r"(v) : "l"(from), "r"((u32)valid) : "memory");
    return v;
}

// An entry of a table that no kernel writes, by way of L1: its neighbours are wanted next. 0 where `valid` is false.
__device__ __forceinline__ u32 load_entry(const u32 *from, bool valid) {
    u32 v = 0;
    asm volatile("{ .reg .pred valid; setp.ne.u32 valid, %2, 0; @valid ld.global.nc.u32 %0, [%1]; }"
                 : "+r"(v) : "l"(from), "r"((u32)valid));
    return v;
}

// ---------------------------------------------------------------- shared memory

// The 32-bit address that shared-memory instructions take.
__device__ __forceinline__ u32 shared_address(const void *pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ uint4 load16_shared(u32 shared) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ u32 load4_shared(u32 shared) {
    u32 v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ float2 load8_shared(u32 shared) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ void store4_shared(u32 shared, u32 v) {
    asm volatile("st.shared.u32 [%0], %1;" :: "r"(shared), "r"(v) : "memory");
}

__device__ __forceinline__ u16 load2_shared(u32 shared) {
    u16 v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ void store16_shared(u32 shared, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "r"(shared), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// Copies 16 bytes to shared memory in the background. Of fewer `bytes` the rest is zeros; with 0 nothing is read.
__device__ __forceinline__ void copy16_async(u32 to_shared, const void *from, u32 bytes = 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(to_shared), "l"(from), "r"(bytes) : "memory");
}

// The same by way of L1, for what this multiprocessor reads again.
__device__ __forceinline__ void copy16_async_cached(u32 to_shared, const void *from, u32 bytes = 16) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(to_shared), "l"(from), "r"(bytes) : "memory");
}

// Four bytes, or a zero where `valid` is false.
__device__ __forceinline__ void copy4_async(u32 to_shared, const void *from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" :: "r"(to_shared), "l"(from), "r"(valid ? 4 : 0) : "memory");
}

__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's newest groups are under way.
template <int pending> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(pending) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void ldmatrix4(u32 out[4], u32 shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared) : "memory");
}

__device__ __forceinline__ void ldmatrix4_transposed(u32 out[4], u32 shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared) : "memory");
}

// ---------------------------------------------------------------- tensor cores

// Transposes an 8x8 matrix of 16-bit elements: lane i holds elements 2(i % 4) and 2(i % 4) + 1 of row i / 4.
__device__ __forceinline__ u32 transposed8x8(u32 pair) {
    u32 out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
    return out;
}

// c[16][8] += a[16][16] b[16][8], bf16 in, f32 out. With g = lane / 4 and t = lane % 4:
//   a[0]: row g,     columns 2t, 2t+1      b[0]: rows 2t, 2t+1,     column g
//   a[1]: row g + 8, columns 2t, 2t+1      b[1]: rows 2t+8, 2t+9,   column g
//   a[2]: row g,     columns 2t+8, 2t+9    c[0], c[1]: row g,       columns 2t, 2t+1
//   a[3]: row g + 8, columns 2t+8, 2t+9    c[2], c[3]: row g + 8,   columns 2t, 2t+1
// `c` is float for f32 accumulators, or u32 for those of any type that are only passed on.
#define MMA(instruction, c_type, mark)                                                                            \
    asm("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" mark \
        : c_type(c[0]), c_type(c[1]), c_type(c[2]), c_type(c[3])                                                  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
#define MMA_BF16 "m16n8k16.row.col.f32.bf16.bf16.f32"

__device__ __forceinline__ void mma_bf16(float c[4], const u32 a[4], u32 b0, u32 b1) { MMA(MMA_BF16, "+f", ""); }

// The two products of attention. The marks let what they compute be counted apart.
__device__ __forceinline__ void mma_scores(float c[4], const u32 a[4], u32 b0, u32 b1) { MMA(MMA_BF16, "+f", " //@ scores"); }
__device__ __forceinline__ void mma_values(float c[4], const u32 a[4], u32 b0, u32 b1) { MMA(MMA_BF16, "+f", " //@ values"); }

// For the peaks: 16 columns of a, of int8 32 with s32 accumulators.
__device__ __forceinline__ void mma_bf16(u32 c[4], const u32 a[4], u32 b0, u32 b1) { MMA(MMA_BF16, "+r", ""); }
__device__ __forceinline__ void mma_f16(u32 c[4], const u32 a[4], u32 b0, u32 b1) { MMA("m16n8k16.row.col.f32.f16.f16.f32", "+r", ""); }
__device__ __forceinline__ void mma_int8(u32 c[4], const u32 a[4], u32 b0, u32 b1) { MMA("m16n8k32.row.col.s32.s8.s8.s32", "+r", ""); }

// ---------------------------------------------------------------- order between kernels and blocks

// With programmatic dependent launch (sm_90) a kernel may start while the one before it still runs. Before this
// returns nothing may be read that an earlier kernel wrote, and nothing written that it reads; weights may be loaded.
// Earlier architectures start a kernel after the one before, and this is nothing.
__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start its blocks as soon as there is room for them.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Whether this block is the last of `blocks` to arrive at `counter`, which is zero before the first arrives and
// again after the last: what all of them wrote to global memory before is then visible to this one. Every thread
// of the block takes part.
__device__ __forceinline__ bool last_to_arrive(u32 *counter, u32 blocks) {
    // The barriers put the whole block's accesses before and after the atomic, which releases and acquires them. A
    // fence in every thread would also wait for all copies under way.
    __shared__ u32 arrived;
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                     : "=r"(arrived) : "l"(counter), "r"(blocks - 1) : "memory");
    }
    __syncthreads();
    return arrived == blocks - 1;
}
