// The peak of Hopper's matrix units, which take operands from shared memory by warpgroup instructions (wgmma);
// mma.sync reaches about 60% of it. For compute capability 9.0 alone.
#include "ptx.cuh"

// Rows of operands are 128 bytes: 64 columns of 16-bit types, 128 of 8-bit types.
constexpr u32 LEFT = 64;      // rows of a for each of the two warpgroups
constexpr u32 RIGHT = 256;    // rows of b, that is columns of the product
constexpr u32 THREADS = 256;
constexpr u32 STEPS = 4;      // instructions for 128 bytes of columns: each takes 32

struct Peak {
    const u32 *operands;  // random, none zero: [2][64][128 bytes] of a, then [256][128 bytes] of b
    u32 *out;             // [block][warpgroup][64][256] accumulators; null in measurements
    u32 rounds;
    u32 reserved;
};

enum Type { BF16, F16, INT8, FP8 };

// How a matrix lies in shared memory: rows of 128 bytes whose 16-byte pieces are swapped within each eight rows
// (swizzle mode 1), which follow each other by 1024 bytes. The leading offset is not used with this layout.
__device__ __forceinline__ u64 descriptor(u32 shared) {
    return (u64)1 << 62 | (u64)(1024 / 16) << 32 | (u64)1 << 16 | (u64)((shared & 0x3ffff) / 16);
}

#define EIGHT(c, i) "+r"(c[i]), "+r"(c[i + 1]), "+r"(c[i + 2]), "+r"(c[i + 3]), "+r"(c[i + 4]), "+r"(c[i + 5]), "+r"(c[i + 6]), "+r"(c[i + 7])
#define SIXTY_FOUR(c, i) EIGHT(c, i), EIGHT(c, i + 8), EIGHT(c, i + 16), EIGHT(c, i + 24), EIGHT(c, i + 32), EIGHT(c, i + 40), EIGHT(c, i + 48), EIGHT(c, i + 56)

// c[64][256] += a[64][32 bytes] b[256][32 bytes]^T by the 128 threads of a warpgroup, in the background.
#define WGMMA(instruction, scales)                                                                                  \
    asm volatile("{.reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned." instruction " {"           \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                           \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                 \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                 \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                 \
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                 \
                 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                 \
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "     \
                 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"   \
                 "}, %128, %129, add" scales ";}"                                                                   \
                 : SIXTY_FOUR(c, 0), SIXTY_FOUR(c, 64)                                                              \
                 : "l"(a), "l"(b))

template <Type type> __device__ __forceinline__ void multiply(u32 c[128], u64 a, u64 b) {
    if (type == BF16) {
        WGMMA("m64n256k16.f32.bf16.bf16", ", 1, 1, 0, 0");
    } else if (type == F16) {
        WGMMA("m64n256k16.f32.f16.f16", ", 1, 1, 0, 0");
    } else if (type == INT8) {
        WGMMA("m64n256k32.s32.s8.s8", "");
    } else {
        WGMMA("m64n256k32.f32.e4m3.e4m3", ", 1, 1");
    }
}

// Two warpgroups, so that the matrix units have the one's work while the other waits for its last. A round is
// sixteen instructions of each.
template <Type type> __device__ __forceinline__ void peak(const Peak &p) {
    __shared__ __align__(1024) uint4 tile[(2 * LEFT + RIGHT) * 8];
    const uint4 *from = (const uint4 *)p.operands;
    for (u32 i = threadIdx.x; i < (2 * LEFT + RIGHT) * 8; i += THREADS) {
        tile[i ^ (i / 8 % 8)] = from[i];
    }
    // The matrix units read shared memory by another way than the stores above took.
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    u32 group = threadIdx.x / 128;
    u64 a = descriptor(shared_address(tile) + group * LEFT * 128);
    u64 b = descriptor(shared_address(tile) + 2 * LEFT * 128);
    u32 c[128];
#pragma unroll
    for (u32 i = 0; i < 128; i++) {
        c[i] = 0;
    }
#pragma unroll 1
    for (u32 round = 0; round < p.rounds; round++) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (u32 i = 0; i < 4 * STEPS; i++) {
            // The next 32 bytes of columns are two units of 16 further in both.
            multiply<type>(c, a + i % STEPS * 2, b + i % STEPS * 2);
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    if (p.out) {
        u32 lane = threadIdx.x % 32;
        u32 row = threadIdx.x % 128 / 32 * 16 + lane / 4;
        u32 *to = p.out + (((u64)blockIdx.x * 2 + group) * LEFT + row) * RIGHT + lane % 4 * 2;
#pragma unroll
        for (u32 i = 0; i < 128; i++) {
            to[i / 2 % 2 * 8 * RIGHT + i / 4 * 8 + i % 2] = c[i];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) peak_bf16(const __grid_constant__ Peak p) { peak<BF16>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) peak_f16(const __grid_constant__ Peak p) { peak<F16>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) peak_int8(const __grid_constant__ Peak p) { peak<INT8>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) peak_fp8(const __grid_constant__ Peak p) { peak<FP8>(p); }
