//! Linear stages of more than 64 token rows: `kernels/gemm.cu`.
