// Attention of one new token per sequence over a cache in int8.
#include "attention_decode.cuh"

ATTENTION_DECODES(attention_decode_int8, INT8, false)
