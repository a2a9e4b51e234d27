//! Seeded random normals made on the device: `kernels/fill.cu`.
