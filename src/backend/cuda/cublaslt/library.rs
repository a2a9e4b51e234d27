//! cuBLASLt found on the machine, opened, and multiplying.
//!
//! cudarc has bindings, but it knows neither the names of CUDA 13's library nor how to go on after a missing one, and
//! its wrapper asks for an algorithm at every call. Of cudarc's only the constants are used.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use libloading::Library;

use super::ProductArgs;
use super::plan::Plan;
use crate::backend::cuda::driver::Address;
use crate::backend::cuda::functions::functions;
use crate::error::{Failure, Result};

/// File names in the order they are tried. A library that is newer than the driver does not start: the next is tried.
const NAMES: [&str; 5] =
    ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so", "cublasLt64_13.dll", "cublasLt64_12.dll"];

/// Times that a candidate is run when it is timed.
const TUNING_RUNS: u32 = 3;

/// A descriptor, layout, preference or handle of the library, or a stream of the driver.
pub(super) type Raw = *mut c_void;
/// `cublasStatus_t`, as a number: a newer library may have more of them than the bindings name.
pub(super) type Status = u32;

functions! {
    /// The library's functions that are used.
    pub(super) struct Functions;

    version = "cublasLtGetVersion"() -> usize;
    create = "cublasLtCreate"(*mut Raw) -> Status;
    destroy = "cublasLtDestroy"(Raw) -> Status;
    /// Compute type, type of alpha and beta.
    create_product = "cublasLtMatmulDescCreate"(*mut Raw, u32, u32) -> Status;
    set_product = "cublasLtMatmulDescSetAttribute"(Raw, u32, *const c_void, usize) -> Status;
    destroy_product = "cublasLtMatmulDescDestroy"(Raw) -> Status;
    /// Type, rows, columns, elements from one column to the next.
    create_layout = "cublasLtMatrixLayoutCreate"(*mut Raw, u32, u64, u64, i64) -> Status;
    destroy_layout = "cublasLtMatrixLayoutDestroy"(Raw) -> Status;
    create_preference = "cublasLtMatmulPreferenceCreate"(*mut Raw) -> Status;
    set_preference = "cublasLtMatmulPreferenceSetAttribute"(Raw, u32, *const c_void, usize) -> Status;
    destroy_preference = "cublasLtMatmulPreferenceDestroy"(Raw) -> Status;
    /// Handle, product, layouts of A, B, C and D, preference, most candidates, candidates, their number.
    candidates = "cublasLtMatmulAlgoGetHeuristic"(Raw, Raw, Raw, Raw, Raw, Raw, Raw, c_int, *mut Candidate, *mut c_int)
        -> Status;
    /// Handle, product, alpha, A, B, beta, C, D (each with its layout), algorithm, workspace, stream.
    multiply = "cublasLtMatmul"(
        Raw, Raw, *const f32, Address, Raw, Address, Raw, *const f32, Address, Raw, Address, Raw,
        *const [u64; 8], Address, usize, Raw
    ) -> Status;
    explain = "cublasLtGetStatusString"(Status) -> *const c_char;
}

/// `cublasLtMatmulHeuristicResult_t`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Candidate {
    pub algorithm: [u64; 8],
    pub workspace: usize,
    pub status: Status,
    pub waves: f32,
    pub reserved: [c_int; 4],
}

/// cuBLASLt in the GPU's context, with what it chose for each shape of product.
#[derive(Debug)]
pub struct CublasLt {
    functions: Functions,
    handle: Raw,
    version: String,
    workspace: (Address, u64),
    plans: HashMap<ProductArgs, Plan>,
}

impl CublasLt {
    /// Finds and opens the library in the context that is this thread's, with scratch memory of so many bytes that is
    /// aligned to 256 bytes and outlives it. It must be dropped before the context is given back.
    ///
    /// # Errors
    /// There is none, or none that starts with this driver: says what was tried last.
    pub fn open(workspace: (Address, u64)) -> Result<Self> {
        let mut reason = None;
        for name in NAMES {
            // SAFETY: a library of this name is NVIDIA's; its initialisers run.
            let Ok(library) = (unsafe { Library::new(name) }) else { continue };
            match Self::start(library, workspace) {
                Ok(opened) => return Ok(opened),
                Err(why) => reason = reason.or(Some(format!("{name} {why}"))),
            }
        }
        let what = reason.unwrap_or_else(|| "libcublasLt.so.12 or .13 was not found".into());
        Err(Failure::device(format!("cuBLASLt: {what}"))
            .hint("put the folder of a library that fits the driver into LD_LIBRARY_PATH, or use --gemm own"))
    }

    fn start(library: Library, workspace: (Address, u64)) -> std::result::Result<Self, String> {
        let functions = Functions::of(&library).map_err(|symbol| format!("has no {symbol}"))?;
        // It may have threads and exit handlers of its own, and its functions are kept: it stays for good.
        std::mem::forget(library);
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is to a local.
        let status = unsafe { (functions.create)(&mut handle) };
        if status != 0 {
            return Err(format!("does not start with this driver: {}", functions.meaning(status)));
        }
        // SAFETY: takes nothing.
        let version = unsafe { (functions.version)() };
        Ok(CublasLt { functions, handle, version: named(version), workspace, plans: HashMap::new() })
    }

    /// `cublaslt 12.8.4`
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks for algorithms for products of this shape, so that none has to be asked for while a stream is captured.
    ///
    /// # Errors
    /// cuBLASLt has none.
    pub fn prepare(&mut self, args: &ProductArgs) -> Result<()> {
        self.plan(args).map(drop)
    }

    /// Queues a product on a stream (a `CUstream` of the context), which may be capturing.
    ///
    /// # Errors
    /// cuBLASLt has no algorithm for it, or refused.
    pub fn multiply(&mut self, args: &ProductArgs, stream: *mut c_void) -> Result<()> {
        let (functions, calling) =
            (self.functions, Calling { handle: self.handle, stream, workspace: self.workspace });
        let plan = self.plan(args)?;
        functions.check(plan.run(&functions, calling, args, plan.chosen), args)
    }

    /// Times what cuBLASLt proposes for products of this shape and keeps the fastest for all that follow. `time` runs
    /// what it is given on the stream and says how many seconds the GPU took. Writes to `y`.
    ///
    /// # Errors
    /// cuBLASLt has no algorithm for it or refused all, or the device failed.
    pub fn tune(
        &mut self,
        args: &ProductArgs,
        stream: *mut c_void,
        time: &mut dyn FnMut(&mut dyn FnMut()) -> Result<f64>,
    ) -> Result<()> {
        let (functions, calling) =
            (self.functions, Calling { handle: self.handle, stream, workspace: self.workspace });
        let plan = self.plan(args)?;
        if plan.tuned {
            return Ok(());
        }
        let (mut best, mut refused) = (None, 0);
        for candidate in 0..plan.candidates.len() {
            let mut status = 0;
            // The first run loads the kernel; one that is refused has put nothing on the stream.
            for runs in [1, TUNING_RUNS] {
                let seconds = time(&mut || {
                    for _ in 0..runs {
                        status = plan.run(&functions, calling, args, candidate).max(status);
                    }
                })?;
                if status != 0 {
                    refused = status;
                    break;
                }
                if runs == TUNING_RUNS && best.is_none_or(|(least, _)| seconds < least) {
                    best = Some((seconds, candidate));
                }
            }
        }
        match best {
            Some((_, candidate)) => (plan.chosen, plan.tuned) = (candidate, true),
            None => functions.check(refused, args)?,
        }
        Ok(())
    }

    fn plan(&mut self, args: &ProductArgs) -> Result<&mut Plan> {
        Ok(match self.plans.entry(args.shape()) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Plan::new(&self.functions, self.handle, args, self.workspace.1)?)
            }
        })
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: nothing uses it any more. An error changes nothing.
        unsafe { (self.functions.destroy)(self.handle) };
    }
}

/// What every call is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calling {
    pub handle: Raw,
    pub stream: Raw,
    pub workspace: (Address, u64),
}

impl Functions {
    /// Turns a status into a result.
    pub fn check(&self, status: Status, args: &ProductArgs) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let ProductArgs { rows, n, k, .. } = args;
        Err(Failure::device(format!("a product of {rows} x {n} x {k}: cuBLASLt: {}", self.meaning(status)))
            .hint("--gemm own does without cuBLASLt"))
    }

    /// What the library says of a status, on one line.
    fn meaning(&self, status: Status) -> String {
        // SAFETY: takes any number.
        let text = unsafe { (self.explain)(status) };
        if text.is_null() {
            return format!("status {status}");
        }
        // SAFETY: a text that the library holds for good.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        format!("{} (status {status})", text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// `cublaslt 12.8.4` of 120804.
fn named(version: usize) -> String {
    format!("cublaslt {}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!(super::named(120_804), "cublaslt 12.8.4");
        assert_eq!(super::named(130_100), "cublaslt 13.1.0");
    }
}
