//! NCCL found on the machine, and its communicators.
//!
//! As with cuBLASLt, cudarc's bindings would panic at what is missing, and nine functions are all that is needed.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use libloading::Library;

use crate::backend::cuda::driver::Address;
use crate::backend::cuda::functions::functions;
use crate::workload::Reduction;

/// The library's file name.
const NAME: &str = "libnccl.so.2";
/// The oldest that sums bf16 (2.10), which also records in CUDA graphs.
const LEAST_VERSION: c_int = 21_000;

/// A communicator, or a stream of the driver.
type Raw = *mut c_void;
/// `ncclResult_t`, as a number: a newer library may have more of them.
type Status = u32;

/// `ncclUint64` and `ncclBfloat16`, `ncclSum` and `ncclMax`.
const UINT64: u32 = 5;
const BFLOAT16: u32 = 9;
const SUM: u32 = 0;
const MAX: u32 = 2;

functions! {
    /// The library's functions that are used.
    pub(super) struct Functions;

    version = "ncclGetVersion"(*mut c_int) -> Status;
    explain = "ncclGetErrorString"(Status) -> *const c_char;
    /// Communicators, their number, the devices in the driver's order.
    join = "ncclCommInitAll"(*mut Raw, c_int, *const c_int) -> Status;
    leave = "ncclCommDestroy"(Raw) -> Status;
    abort = "ncclCommAbort"(Raw) -> Status;
    begin = "ncclGroupStart"() -> Status;
    end = "ncclGroupEnd"() -> Status;
    /// From, to, elements, their type, operation, communicator, stream.
    all_reduce = "ncclAllReduce"(Address, Address, usize, u32, u32, Raw, Raw) -> Status;
}

impl Functions {
    /// Turns the answer of a function into a result that says which it was.
    fn check(&self, status: Status, symbol: &str) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: takes any number.
        let text = unsafe { (self.explain)(status) };
        if text.is_null() {
            return Err(format!("{symbol}: status {status}"));
        }
        // SAFETY: a text that the library holds for good.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(format!("{symbol}: {text} (status {status})"))
    }
}

/// The machine's NCCL. What fails is said in words: without it there is a model to fall back on.
#[derive(Debug)]
pub(super) struct Nccl {
    functions: Functions,
    version: c_int,
}

impl Nccl {
    /// Finds and loads the library, and asks for its version.
    ///
    /// # Errors
    /// There is none, it lacks a function, or it is too old.
    pub fn open() -> Result<Nccl, String> {
        // SAFETY: a library of this name is NVIDIA's; its initialisers run.
        let library =
            unsafe { Library::new(NAME) }.map_err(|_| format!("{NAME} was not found (LD_LIBRARY_PATH)"))?;
        let functions = Functions::of(&library).map_err(|symbol| format!("{NAME} has no {symbol}"))?;
        // It has threads of its own, and its functions are kept: it stays for good.
        std::mem::forget(library);
        let mut version = 0;
        // SAFETY: the pointer is to a local.
        functions.check(unsafe { (functions.version)(&mut version) }, "ncclGetVersion")?;
        if version < LEAST_VERSION {
            return Err(format!("{} is too old: 2.10 or newer sums bf16", named(version)));
        }
        Ok(Nccl { functions, version })
    }

    /// `NCCL 2.27.3`
    pub fn name(&self) -> String {
        named(self.version)
    }

    /// Joins GPUs of these numbers, which are those of the driver. Their contexts must be open.
    ///
    /// # Errors
    /// NCCL cannot.
    pub fn join(&self, ordinals: &[c_int]) -> Result<Communicators, String> {
        let mut handles = vec![ptr::null_mut(); ordinals.len()];
        // SAFETY: there are as many handles as numbers, and it is said how many.
        let status = unsafe {
            (self.functions.join)(handles.as_mut_ptr(), ordinals.len() as c_int, ordinals.as_ptr())
        };
        self.functions.check(status, "ncclCommInitAll")?;
        Ok(Communicators { functions: self.functions, handles, failed: Cell::new(false) })
    }
}

/// One communicator for each GPU. To be dropped before their contexts are given back, and after every graph with its work:
/// it waits for these.
#[derive(Debug)]
pub(super) struct Communicators {
    functions: Functions,
    handles: Vec<Raw>,
    failed: Cell<bool>,
}

impl Communicators {
    /// Queues one all-reduce in place of `bytes` at an address of each GPU, on a stream of each (a `CUstream`), which may
    /// all be recording.
    ///
    /// # Errors
    /// NCCL refused, or something failed before that it has come to know of.
    pub fn all_reduce(
        &self,
        reduction: Reduction,
        bytes: u64,
        places: impl Iterator<Item = (Address, *mut c_void)>,
    ) -> Result<(), String> {
        let Functions { begin, end, all_reduce, .. } = self.functions;
        let (dtype, size, operation) = match reduction {
            Reduction::Sum => (BFLOAT16, 2, SUM),
            Reduction::Largest => (UINT64, 8, MAX),
        };
        // SAFETY: takes nothing.
        self.check(unsafe { begin() }, "ncclGroupStart")?;
        let queued = self.handles.iter().zip(places).try_for_each(|(&handle, (address, stream))| {
            let elements = bytes as usize / size;
            // SAFETY: the communicator is open; the address has so many bytes on its GPU, and the stream is of it.
            let status = unsafe { all_reduce(address, address, elements, dtype, operation, handle, stream) };
            self.check(status, "ncclAllReduce")
        });
        // What was begun must be ended.
        // SAFETY: takes nothing.
        let ended = self.check(unsafe { end() }, "ncclGroupEnd");
        queued.and(ended)
    }

    fn check(&self, status: Status, symbol: &str) -> Result<(), String> {
        let checked = self.functions.check(status, symbol);
        self.failed.set(self.failed.get() || checked.is_err());
        checked
    }
}

impl Drop for Communicators {
    fn drop(&mut self) {
        // After a failure leaving would wait for what will never end.
        let Functions { leave, abort, .. } = self.functions;
        let give_back = if self.failed.get() { abort } else { leave };
        for &handle in &self.handles {
            // SAFETY: it is open, and nothing uses it any more. An error changes nothing.
            unsafe { give_back(handle) };
        }
    }
}

/// `NCCL 2.27.3` of 22703; before 2.9 the minor number had one digit.
fn named(version: c_int) -> String {
    let (major, rest) = if version >= 10_000 { (10_000, 100) } else { (1_000, 100) };
    format!("NCCL {}.{}.{}", version / major, version % major / rest, version % 100)
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_read_as_people_write_them() {
        for (number, name) in [(22_703, "NCCL 2.27.3"), (21_003, "NCCL 2.10.3"), (2_804, "NCCL 2.8.4")] {
            assert_eq!(super::named(number), name);
        }
    }
}
