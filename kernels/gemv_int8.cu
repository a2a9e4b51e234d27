// Linear stages of 1 to 8 token rows with weights in int8.
#include "gemv.cuh"

GEMVS(gemv_int8, INT8)
