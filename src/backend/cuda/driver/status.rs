//! What the driver answers, as one line with a hint.

use std::fmt::Display;

use cudarc::driver::sys::CUresult;

use crate::error::{Failure, Result};

/// The driver's answers that are handled apart.
pub(in crate::backend::cuda) const NOT_READY: u32 = 600;

/// Turns an answer of the driver into a result. `doing` says what was asked for: `launching gemv_qkv_1`.
///
/// # Errors
/// Any answer but success.
pub(in crate::backend::cuda) fn check(result: CUresult, doing: impl Display) -> Result<()> {
    // By number: a driver that is newer than the bindings has answers that they do not name.
    match result as u32 {
        0 => Ok(()),
        code => Err(failure(code, doing)),
    }
}

/// The failure of an error code.
pub(in crate::backend::cuda) fn failure(code: u32, doing: impl Display) -> Failure {
    let (meaning, hint) = explain(code);
    Failure::device(format!("{doing}: {meaning} (CUDA error {code})")).hint(hint)
}

const LOST: &str = "the kernel log says what happened (dmesg | grep -i xid); nvidia-smi shows whether the GPU is \
                    still there; a reset or reboot brings it back";
const KERNEL: &str =
    "compute-sanitizer finds the place; if the hardware is suspected, look for Xid errors in dmesg";
const REPORT: &str = "this is worth a bug report";

/// What an error code means and what can be done about it.
fn explain(code: u32) -> (&'static str, &'static str) {
    match code {
        1 | 400 | 401 => ("the driver does not take what it was given", REPORT),
        2 => (
            "the GPU is out of memory",
            "nvidia-smi shows who else has some; fewer layers, smaller batches or a shorter context need less",
        ),
        3 => ("the NVIDIA driver is not initialised", "load the nvidia kernel module (modprobe nvidia)"),
        4 => ("the NVIDIA driver is shutting down", "run it again"),
        34 => (
            "libcuda.so.1 is the toolkit's stub, not a driver",
            "take the folder with the stubs out of LD_LIBRARY_PATH",
        ),
        46 => (
            "the GPU is busy or does not take new processes",
            "another process may hold it exclusively: nvidia-smi shows it and the compute mode (-q -d COMPUTE)",
        ),
        100 => (
            "the NVIDIA driver shows no device",
            "nvidia-smi shows what the driver sees; CUDA_VISIBLE_DEVICES hides GPUs, containers need them passed in",
        ),
        101 => ("the GPU is not there or not usable", LOST),
        200 => ("the driver does not take the kernels", "a newer driver may; this is worth a bug report"),
        201 => ("the GPU's context is gone", LOST),
        209 => ("the kernels are not for this GPU", REPORT),
        214 => (
            "the GPU found an uncorrectable memory error (ECC)",
            "nvidia-smi -q -d ECC counts them; the GPU needs a reset, and service if it happens again",
        ),
        218 => ("the driver's compiler refused the kernels' PTX", "a newer driver may take it"),
        220 => ("the link between GPUs failed (NVLink)", LOST),
        221 => (
            "the driver has no PTX compiler",
            "install the driver's libnvidia-ptxjitcompiler; containers need it passed in as well",
        ),
        222 => ("the driver is too old for the kernels' PTX", "driver 525 or newer takes it"),
        223 => ("compiling kernels is disabled", "unset CUDA_DISABLE_PTX_JIT"),
        500 => ("the driver lacks something that was asked for", "a newer driver may have it"),
        700 => ("a kernel reached outside its memory", KERNEL),
        701 => ("a kernel needs more registers or shared memory than the GPU has", REPORT),
        702 => (
            "a kernel ran longer than the system allows",
            "the GPU drives a display or is a virtual one with a time limit: use another",
        ),
        703..=718 => ("a kernel failed", KERNEL),
        719 => ("a kernel's launch failed or it was ended", KERNEL),
        720 => ("a cooperative launch was too large", REPORT),
        800 => ("the operating system does not permit it", "look at the permissions of /dev/nvidia*"),
        801 => ("this GPU or driver does not support it", "a newer driver may"),
        802 => (
            "the system is not ready for CUDA",
            "on machines with NVSwitch the fabric manager must run (systemctl status nvidia-fabricmanager)",
        ),
        803 => (
            "the driver's library and its kernel module are of different versions",
            "reboot, or unload and load the nvidia kernel module",
        ),
        804 => (
            "the CUDA compatibility libraries do not support this GPU",
            "take them (cuda-compat) out of LD_LIBRARY_PATH, or install a newer driver",
        ),
        900..=908 => {
            ("the driver cannot record it as a graph", "a newer driver may; this is worth a bug report")
        }
        999 => ("the driver failed for a reason it does not know", LOST),
        _ => ("the NVIDIA driver refused", "the driver's manual has the number; dmesg may say more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn every_failure_is_one_line_with_the_deed_and_the_number() {
        for code in 1..1000 {
            let failure = failure(code, "allocating 2.1 GB for weights Gate 3");
            assert_eq!(failure.code, Code::Device);
            let line = failure.to_string();
            assert!(line.starts_with("allocating 2.1 GB for weights Gate 3: "), "{line}");
            assert!(line.contains(&format!("(CUDA error {code}). hint: ")), "{line}");
            assert!(!line.contains('\n') && !line.contains("  "), "{line}");
        }
    }

    #[test]
    fn what_the_user_can_mend_has_a_hint() {
        for code in [2, 3, 34, 46, 100, 101, 214, 218, 221, 222, 223, 700, 702, 719, 800, 802, 803, 804, 999]
        {
            let hint = failure(code, "opening").hint.unwrap();
            assert!(!hint.contains("bug report") && !hint.contains("manual"), "{code}: {hint}");
        }
    }
}
