//! Simple, slow kernels to check the others against: `kernels/reference.cu`.
