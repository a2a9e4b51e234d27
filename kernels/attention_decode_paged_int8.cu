// Attention of one new token per sequence over a cache in int8, in pages.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode_paged_int8, INT8, true)
