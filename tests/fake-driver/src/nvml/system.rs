//! Beginning, end, versions.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::Ordering::SeqCst;

use super::codes::*;
use super::{USERS, give, give_text, nvml};

/// PIDs of other processes begin here.
pub(crate) const OTHERS: u32 = 40_001;

nvml! {
    fn nvmlInit_v2(_room) {
        USERS.fetch_add(1, SeqCst);
        Ok(())
    }

    fn nvmlInitWithFlags(_room, _flags: c_uint) {
        USERS.fetch_add(1, SeqCst);
        Ok(())
    }

    fn nvmlShutdown(_room) {
        USERS.fetch_sub(1, SeqCst);
        Ok(())
    }

    fn nvmlSystemGetDriverVersion(room, version: *mut c_char, length: c_uint) {
        give_text(version, length, &room.settings.name_version)
    }

    fn nvmlSystemGetNVMLVersion(room, version: *mut c_char, length: c_uint) {
        give_text(version, length, &format!("12.{}", room.settings.name_version))
    }

    fn nvmlSystemGetCudaDriverVersion(room, version: *mut c_int) {
        give(version, room.settings.version)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(room, version: *mut c_int) {
        give(version, room.settings.version)
    }

    fn nvmlSystemGetProcessName(room, pid: c_uint, name: *mut c_char, length: c_uint) {
        match pid.checked_sub(OTHERS) {
            Some(other) if other < room.settings.others => give_text(name, length, "/usr/bin/python3"),
            _ if pid == std::process::id() => give_text(name, length, "llmroof"),
            _ => Err(NOT_FOUND),
        }
    }
}

/// Every result with what NVML says it means.
const RESULTS: &[(u32, &std::ffi::CStr)] = &[
    (0, c"Success"),
    (UNINITIALIZED, c"Uninitialized"),
    (INVALID_ARGUMENT, c"Invalid Argument"),
    (NOT_SUPPORTED, c"Not Supported"),
    (4, c"Insufficient Permissions"),
    (NOT_FOUND, c"Not Found"),
    (INSUFFICIENT_SIZE, c"Insufficient Size"),
    (9, c"Driver Not Loaded"),
    (10, c"Timeout"),
    (12, c"Shared Library Not Found"),
    (13, c"Function Not Found"),
    (15, c"GPU is lost"),
    (16, c"GPU requires restart"),
    (17, c"Operating System call failed"),
    (18, c"Driver/library version mismatch"),
    (VERSION_MISMATCH, c"Argument version mismatch"),
];

/// `nvmlErrorString` of NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: u32) -> *const c_char {
    let found = RESULTS.iter().find(|(code, _)| *code == result);
    found.map_or(c"Unknown Error", |(_, text)| text).as_ptr()
}
