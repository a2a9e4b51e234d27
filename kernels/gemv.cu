// Linear stages of 1 to 8 token rows with weights in bf16.
#include "gemv.cuh"

GEMVS(gemv, BF16)
