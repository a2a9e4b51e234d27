// Linear stages of many token rows with weights in fp8.
#include "gemm.cuh"

#define KERNELS(stage, name)                                       \
    KERNEL(gemm_fp8_##name##_256, stage, 256, 1, 64, 4, FP8)  \
    KERNEL(gemm_fp8_##name##_128, stage, 128, 2, 64, 3, FP8)

KERNELS(QKV, qkv)
KERNELS(RESIDUAL, residual)
KERNELS(GATE_UP, gate_up)
KERNELS(LM_HEAD, lm_head)
