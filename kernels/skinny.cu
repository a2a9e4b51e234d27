// Linear stages of 9 to 64 token rows with weights in bf16.
#include "skinny.cuh"

SKINNIES(skinny, BF16)
