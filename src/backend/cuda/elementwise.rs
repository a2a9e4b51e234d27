//! Embedding look-up and the norm before a prefill product: `kernels/elementwise.cu`.
