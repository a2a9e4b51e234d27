// Linear stages of many token rows with weights in bf16.
#include "gemm.cuh"

#define KERNELS(stage, name)                               \
    KERNEL(gemm_##name##_256, stage, 256, 1, 64, 3, BF16)  \
    KERNEL(gemm_##name##_128, stage, 128, 2, 32, 5, BF16)  \
    KERNEL(gemm_##name##_64, stage, 64, 4, 32, 3, BF16)

KERNELS(QKV, qkv)
KERNELS(RESIDUAL, residual)
KERNELS(GATE_UP, gate_up)
KERNELS(LM_HEAD, lm_head)
