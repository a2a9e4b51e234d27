// Linear stages of 9 to 64 token rows with weights in int4.
#include "skinny.cuh"

SKINNIES(skinny_int4, INT4)
