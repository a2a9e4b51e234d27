//! The NVIDIA driver's libraries for tests: CUDA kernels run in the PTX interpreter, on a clock of their own.
