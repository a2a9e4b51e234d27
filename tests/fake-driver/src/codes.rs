//! Results of driver calls, by number and by name.

use cudarc::driver::sys::CUresult::{self, *};

/// Why a call does not answer with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It answers with this.
    Code(CUresult),
    /// It never comes back.
    Hang,
}

/// What a call answers.
pub type Answer<T = ()> = Result<T, Stop>;

impl From<CUresult> for Stop {
    fn from(code: CUresult) -> Stop {
        Stop::Code(code)
    }
}

/// A call's answer that is this code.
pub fn refuse<T>(code: CUresult) -> Answer<T> {
    Err(Stop::Code(code))
}

/// Every result with what the driver says it means.
const RESULTS: &[(CUresult, &str)] = &[
    (CUDA_SUCCESS, "no error"),
    (CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    (CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    (CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    (CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    (CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library"),
    (CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable"),
    (CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    (CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    (CUDA_ERROR_DEVICE_NOT_LICENSED, "device doesn't have valid Grid license"),
    (CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    (CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    (CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    (CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    (CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    (CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error detected during the execution"),
    (CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found"),
    (CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."),
    (CUDA_ERROR_JIT_COMPILATION_DISABLED, "PTX JIT compilation was disabled"),
    (CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
    (CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    (CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    (CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    (CUDA_ERROR_NOT_READY, "device not ready"),
    (CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    (CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    (CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    (CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process"),
    (CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    (CUDA_ERROR_ASSERT, "device-side assert triggered"),
    (CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    (CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered"),
    (CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    (CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space"),
    (CUDA_ERROR_INVALID_PC, "invalid program counter"),
    (CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    (CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    (CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    (CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination"),
    (CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "forward compatibility was attempted on non supported HW"),
    (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    (CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    (CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    (CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    (
        CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
        "operation would make the legacy stream depend on a capturing blocking stream",
    ),
    (CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    (
        CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
        "attempt to terminate a thread-local capture sequence from another thread",
    ),
    (CUDA_ERROR_TIMEOUT, "wait operation timed out"),
    (CUDA_ERROR_EXTERNAL_DEVICE, "an async error has occurred in external entity outside of CUDA"),
    (CUDA_ERROR_UNKNOWN, "unknown error"),
];

/// The result with this number.
pub fn by_number(number: i64) -> Option<CUresult> {
    RESULTS.iter().map(|(code, _)| *code).find(|code| *code as i64 == number)
}

/// What a result means.
pub fn meaning(code: CUresult) -> &'static str {
    RESULTS.iter().find(|(known, _)| *known == code).map_or("unrecognized error code", |(_, text)| text)
}

/// Whether after this nothing works any more in the process: the context is lost.
pub fn is_sticky(code: CUresult) -> bool {
    let code = code as u32;
    matches!(code, 214 | 220 | 700 | 702 | 710 | 714..=719 | 999)
}
