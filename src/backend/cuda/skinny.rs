//! Linear stages of 9 to 64 token rows: `kernels/skinny.cu`.
