// Causal attention of many new tokens per sequence over a cache in fp8.
#include "attention_prefill.cuh"

ATTENTION_PREFILLS(attention_prefill_fp8, FP8, false)
