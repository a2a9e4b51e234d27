// Causal attention of many new tokens per sequence over a cache in bf16, in pages.
#include "attention_prefill.cuh"

ATTENTION_PREFILLS(attention_prefill_paged, BF16, true)
