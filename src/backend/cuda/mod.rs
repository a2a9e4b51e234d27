//! NVIDIA GPUs: finding them.
