// Attention of one new token per sequence over a cache in bf16, in pages.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode_paged, BF16, true)
