// Linear stages of 9 to 64 token rows with weights in fp8.
#include "skinny.cuh"

SKINNIES(skinny_fp8, FP8)
