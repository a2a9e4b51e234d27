// Linear stages of 1 to 8 token rows with weights in fp8.
#include "gemv.cuh"

GEMVS(gemv_fp8, FP8)
