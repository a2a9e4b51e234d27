//! Bandwidth and compute probes: `kernels/ceilings.cu`.
