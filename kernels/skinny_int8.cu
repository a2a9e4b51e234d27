// Linear stages of 9 to 64 token rows with weights in int8.
#include "skinny.cuh"

SKINNIES(skinny_int8, INT8)
