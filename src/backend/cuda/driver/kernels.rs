//! The kernels as the driver has them: PTX that it compiles, all of it when the first kernel is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_int, c_void};
use std::rc::Rc;
use std::{ptr, thread};

use cudarc::driver::sys::{self, CUfunction_attribute as Attribute, CUjit_option as Jit};

use super::status::check;
use super::stream::Context;
use crate::backend::KernelImage;
use crate::backend::cuda::image::{image, images};
use crate::backend::cuda::launch::Launch;
use crate::error::{Failure, Result};

/// Shared memory that a kernel has without asking.
const SHARED_UNASKED: u32 = 48 << 10;
/// Share of a multiprocessor's L1 that every kernel of a pass asks for as shared memory, in percent: the same for all,
/// since a multiprocessor drains before it changes.
const CARVE_OUT: c_int = 100;
/// Sources of kernels that run by themselves and have what the driver gives them. The reads of the ceilings come by way
/// of L1: with what a full carve-out leaves of it, fewer would be under way, and the roof too low.
const BY_THEMSELVES: [&str; 3] = ["ceilings", "fill", "hopper"];
/// What only tests launch.
const OF_TESTS: &str = "reference";
/// Room for what the driver's compiler says.
const LOG: usize = 8 << 10;

/// Modules and functions that were loaded so far.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Kernels {
    context: Rc<Context>,
    capability: (u32, u32),
    modules: BTreeMap<&'static str, Module>,
    /// By source and name: `peak_bf16` is in two sources.
    functions: BTreeMap<(&'static str, &'static str), Function>,
}

#[derive(Debug, Clone, Copy)]
struct Module {
    raw: sys::CUmodule,
    target: &'static str,
}

// SAFETY: the driver's handles may be used by every thread that has their context.
unsafe impl Send for Module {}

#[derive(Debug)]
struct Function {
    raw: sys::CUfunction,
    /// Dynamic shared memory that it may be given.
    shared: u32,
    image: KernelImage,
}

impl Kernels {
    /// None is loaded yet.
    pub fn new(context: &Rc<Context>, capability: (u32, u32)) -> Kernels {
        Kernels {
            context: Rc::clone(context),
            capability,
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
        }
    }

    /// The function of a launch, allowed the shared memory that the launch gives it.
    ///
    /// # Errors
    /// The driver does not take the PTX, or the device failed.
    pub fn function(&mut self, launch: &Launch) -> Result<sys::CUfunction> {
        let key = (launch.source, launch.kernel);
        if !self.functions.contains_key(&key) {
            let function = self.load(launch)?;
            self.functions.insert(key, function);
        }
        // What was just inserted is there.
        let Some(function) = self.functions.get_mut(&key) else { return Ok(ptr::null_mut()) };
        if launch.shared > function.shared {
            let which = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a loaded module.
            let set = unsafe { sys::cuFuncSetAttribute(function.raw, which, launch.shared as c_int) };
            check(set, format_args!("giving {} {} bytes of shared memory", launch.kernel, launch.shared))?;
            function.shared = launch.shared;
        }
        Ok(function.raw)
    }

    /// Every kernel that was loaded.
    pub fn images(&self) -> Vec<KernelImage> {
        self.functions.values().map(|function| function.image.clone()).collect()
    }

    /// Compiles all that a run needs, side by side: one after the other it would take some ten seconds of the first run.
    /// The driver keeps what it compiled on disk, so later runs have it at once.
    fn compile_all(&mut self) -> Result<()> {
        let capability = self.capability;
        let sources: BTreeSet<&'static str> = images()
            .filter(|image| image.source != OF_TESTS && image.runs_on(capability))
            .map(|image| image.source)
            .collect();
        let context = &self.context.shared();
        let compiled: Vec<(&'static str, Result<Module>)> = thread::scope(|scope| {
            let started: Vec<_> = sources
                .iter()
                .map(|&source| {
                    let here = move || {
                        context.bind()?;
                        compile(source, capability)
                    };
                    (source, thread::Builder::new().spawn_scoped(scope, here))
                })
                .collect();
            let ended = started.into_iter().map(|(source, thread)| {
                // Where no thread was to be had, this one does it.
                let joined = thread.ok().and_then(|thread| thread.join().ok());
                (source, joined.unwrap_or_else(|| compile(source, capability)))
            });
            ended.collect()
        });
        // All that were loaded are kept, to be unloaded in the end.
        let mut outcome = Ok(());
        for (source, module) in compiled {
            match module {
                Ok(module) => drop(self.modules.insert(source, module)),
                Err(failure) => outcome = outcome.and(Err(failure)),
            }
        }
        outcome
    }

    fn load(&mut self, launch: &Launch) -> Result<Function> {
        if self.modules.is_empty() {
            self.compile_all()?;
        }
        let module = match self.modules.get(launch.source) {
            Some(module) => *module,
            None => {
                let module = compile(launch.source, self.capability)?;
                self.modules.insert(launch.source, module);
                module
            }
        };
        let mut raw = ptr::null_mut();
        let name = c_string(launch.kernel)?;
        // SAFETY: the module is loaded, the name ends with a zero byte, and the pointer is to a local.
        let result = unsafe { sys::cuModuleGetFunction(&mut raw, module.raw, name.as_ptr()) };
        check(result, format_args!("loading the kernel {}", launch.kernel))?;
        if !BY_THEMSELVES.contains(&launch.source) {
            let which = Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            // SAFETY: the function is of a loaded module.
            let result = unsafe { sys::cuFuncSetAttribute(raw, which, CARVE_OUT) };
            check(result, format_args!("setting the carve-out of {}", launch.kernel))?;
        }
        let fact = |which: Attribute| -> Result<u32> {
            let mut value = 0;
            // SAFETY: the function is of a loaded module, and the pointer is to a local.
            let result = unsafe { sys::cuFuncGetAttribute(&mut value, which, raw) };
            check(result, format_args!("asking about the kernel {}", launch.kernel))?;
            Ok(value.max(0) as u32)
        };
        let image = KernelImage {
            kernel: launch.kernel.to_owned(),
            target: module.target.to_owned(),
            registers: fact(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: fact(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: fact(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
        };
        let shared = SHARED_UNASKED.saturating_sub(image.shared_bytes);
        Ok(Function { raw, shared, image })
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.answers() {
            for module in self.modules.values() {
                // SAFETY: none of its functions is used any more.
                unsafe { sys::cuModuleUnload(module.raw) };
            }
        }
    }
}

/// Has the driver compile the PTX of a source.
fn compile(source: &'static str, capability: (u32, u32)) -> Result<Module> {
    let image = image(source, capability).ok_or_else(|| {
        Failure::device(format!(
            "there are no kernels of {source} for compute capability {}.{}",
            capability.0, capability.1
        ))
        .hint("the kernels need 8.0 (Ampere) or newer")
    })?;
    let text = c_string(&image.ptx()?)?;
    let mut log = vec![0u8; LOG];
    let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // A number is passed in the place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut::<c_void>(LOG)];
    let mut raw = ptr::null_mut();
    // SAFETY: the text ends with a zero byte; options and values are as many as said; the log is as long as said and
    // outlives the call.
    let loaded = unsafe {
        sys::cuModuleLoadDataEx(
            &mut raw,
            text.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    check(loaded, format_args!("loading the kernels of {source} ({})", image.target)).map_err(
        |mut failure| {
            let said = String::from_utf8_lossy(&log);
            if let Some(line) = said.trim_end_matches('\0').lines().find(|line| !line.trim().is_empty()) {
                failure.what += &format!(": {}", line.trim());
            }
            failure
        },
    )?;
    Ok(Module { raw, target: image.target })
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Failure::device("the kernels in this binary are damaged: a zero byte in them")
            .hint("install it again")
    })
}
