//! Attention in both phases: `kernels/attention_decode.cu` and `kernels/attention_prefill.cu`.
