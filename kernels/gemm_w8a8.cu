// Linear stages of token rows in int8 with weights in int8.
#include "gemm.cuh"

#define KERNELS(stage, name, k_step, stages)                            \
    KERNEL(gemm_w8a8_##name##_256, stage, 256, 1, k_step, stages, W8A8) \
    KERNEL(gemm_w8a8_##name##_128, stage, 128, 2, 64, 5, W8A8)          \
    KERNEL(gemm_w8a8_##name##_64, stage, 64, 4, 64, 3, W8A8)

KERNELS(QKV, qkv, 64, 6)  // fewer copies a step: their rows take registers to find
KERNELS(RESIDUAL, residual, 128, 3)
KERNELS(GATE_UP, gate_up, 128, 3)
KERNELS(LM_HEAD, lm_head, 128, 3)
