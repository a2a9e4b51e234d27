// Attention of one new token per sequence over a cache in bf16.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode, BF16, false)
