// Causal attention of many new tokens per sequence over a cache in bf16.
#include "attention_prefill.cuh"

ATTENTION_PREFILLS(attention_prefill, BF16, false)
