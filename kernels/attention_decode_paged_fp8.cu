// Attention of one new token per sequence over a cache in fp8, in pages.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode_paged_fp8, FP8, true)
