// Causal attention of many new tokens per sequence over a cache in int8, in pages.
#include "attention_prefill.cuh"

ATTENTION_PREFILLS(attention_prefill_paged_int8, INT8, true)
