// Linear stages of many token rows with weights in int4.
#include "gemm.cuh"

#define KERNELS(stage, name)                                       \
    KERNEL(gemm_int4_##name##_256, stage, 256, 1, 128, 3, INT4)  \
    KERNEL(gemm_int4_##name##_128, stage, 128, 2, 128, 2, INT4)

KERNELS(QKV, qkv)
KERNELS(RESIDUAL, residual)
KERNELS(GATE_UP, gate_up)
KERNELS(LM_HEAD, lm_head)
