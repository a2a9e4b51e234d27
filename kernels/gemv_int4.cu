// Linear stages of 1 to 8 token rows with weights in int4.
#include "gemv.cuh"

GEMVS(gemv_int4, INT4)
