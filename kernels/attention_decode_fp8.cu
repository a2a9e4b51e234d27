// Attention of one new token per sequence over a cache in fp8.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode_fp8, FP8, false)
