//! Linear stages of 1 to 8 token rows: `kernels/gemv.cu`.
