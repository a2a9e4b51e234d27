//! Modules of PTX and their functions.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUfunc_cache, CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUmoduleLoadingMode, CUresult::*,
};
use ptx_interpreter as ptx;

use crate::codes::{Answer, Stop, refuse};
use crate::entry::{driver, fail, give};
use crate::identity::Identity;
use crate::resources::{Resources, resources};
use crate::state::Fake;

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    /// Its device.
    pub device: usize,
    kernels: HashMap<String, Arc<Code>>,
    functions: HashMap<String, u64>,
}

/// One entry point.
#[derive(Debug)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// The PTX it is in.
    pub module: Arc<ptx::Module>,
    /// The PTX is for one architecture alone (`sm_90a`).
    pub architecture_specific: bool,
    /// Target of the PTX: 80 for `sm_80`.
    pub target: i32,
    /// Bytes of each parameter with where it lies.
    pub parameters: Vec<(usize, usize)>,
    /// What ptxas gave it.
    pub resources: Resources,
}

/// A function handle.
#[derive(Debug)]
pub struct Function {
    /// Its device.
    pub device: usize,
    /// Its module's handle.
    pub module: u64,
    /// What it runs.
    pub code: Arc<Code>,
    /// Dynamic shared memory that a launch may ask for.
    pub most_shared: i32,
    /// As it was set.
    pub carveout: i32,
}

/// What `.version` and `.target` say of a PTX text.
fn header(text: &str) -> Option<((i32, i32), i32, bool)> {
    let of = |directive: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix(directive)).map(|rest| rest.trim().to_string())
    };
    let version = of(".version")?;
    let (major, minor) = version.split_once('.')?;
    let target = of(".target")?;
    let number: String = target.strip_prefix("sm_")?.chars().take_while(char::is_ascii_digit).collect();
    let specific = target.split([',', ' ']).next()?.ends_with('a');
    Some(((major.parse().ok()?, minor.parse().ok()?), number.parse().ok()?, specific))
}

/// The newest PTX that a driver takes.
fn newest(version: i32) -> (i32, i32) {
    let (major, minor) = (version / 1000, version % 1000 / 10);
    match major {
        ..11 => (6, 5),
        11 => (7, minor.min(8)),
        12 => (8, if minor >= 8 { minor - 1 } else { minor }),
        _ => (9, minor),
    }
}

/// Offset and size of the parameters of each entry point.
fn layouts(text: &str) -> HashMap<String, Vec<(usize, usize)>> {
    let mut all = HashMap::new();
    for part in text.split(".entry").skip(1) {
        let Some((name, rest)) = part.split_once('(') else { continue };
        let list = rest.split_once(')').map_or("", |(list, _)| list);
        let (mut at, mut parameters) = (0usize, Vec::new());
        for declared in list.split(',').filter(|declared| declared.contains(".param")) {
            let words: Vec<&str> = declared.split_whitespace().collect();
            let width = words.iter().find_map(|word| match *word {
                ".b8" | ".u8" | ".s8" => Some(1),
                ".b16" | ".u16" | ".s16" | ".f16" => Some(2),
                ".b32" | ".u32" | ".s32" | ".f32" => Some(4),
                ".b64" | ".u64" | ".s64" | ".f64" => Some(8),
                _ => None,
            });
            let width = width.unwrap_or(4);
            let count = declared.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let count = count.and_then(|(count, _)| count.trim().parse().ok()).unwrap_or(1);
            let aligned = words.iter().position(|word| *word == ".align");
            let aligned = aligned.and_then(|at| words.get(at + 1)).and_then(|align| align.parse().ok());
            at = at.next_multiple_of(aligned.unwrap_or(width));
            parameters.push((at, width * count));
            at += width * count;
        }
        all.insert(name.trim().to_string(), parameters);
    }
    all
}

/// Loads PTX, or says in the JIT compiler's way why not.
fn load(fake: &mut Fake, device: usize, text: &str) -> Result<Module, (Stop, String)> {
    let identity: Identity = fake.devices[device].identity;
    let fatal = |line: usize, what: String| {
        let log = format!("ptxas application ptx input, line {line}; fatal   : {what}");
        (Stop::Code(CUDA_ERROR_INVALID_PTX), log)
    };
    let Some((version, target, specific)) = header(text) else {
        return Err(fatal(1, "Missing .version directive at start of file".into()));
    };
    if version > newest(fake.room.settings.version) {
        let log = format!(
            "ptxas application ptx input, line 1; fatal   : Unsupported .version {}.{}",
            version.0, version.1
        );
        return Err((Stop::Code(CUDA_ERROR_UNSUPPORTED_PTX_VERSION), log));
    }
    let own = identity.architecture();
    if target > own {
        return Err(fatal(
            1,
            format!(
                "SM version specified by .target is higher than default SM version assumed: sm_{target} on sm_{own}"
            ),
        ));
    }
    if specific && target != own {
        return Err((
            Stop::Code(CUDA_ERROR_NO_BINARY_FOR_GPU),
            format!("sm_{target}a does not run on sm_{own}"),
        ));
    }
    let module = ptx::Module::parse(text).map_err(|fault| fatal(fault.line, fault.message))?;
    let mut layouts = layouts(text);
    let names: Vec<String> = module.kernels().into_iter().map(String::from).collect();
    let module = Arc::new(module);
    let kernels = names.into_iter().map(|name| {
        let code = Code {
            module: Arc::clone(&module),
            architecture_specific: specific,
            target,
            parameters: layouts.remove(&name).unwrap_or_default(),
            resources: resources(&name, own, specific),
            name: name.clone(),
        };
        (name, Arc::new(code))
    });
    Ok(Module { device, kernels: kernels.collect(), functions: HashMap::new() })
}

/// Text at `image`, and the new module's handle at `to`; what went wrong otherwise.
unsafe fn load_image(fake: &mut Fake, to: *mut CUmodule, image: *const c_void) -> Result<(), (Stop, String)> {
    let plain = |stop: Stop| (stop, String::new());
    let device = fake.current().map_err(plain)?;
    fake.may_disturb().map_err(plain)?;
    if image.is_null() || to.is_null() {
        return Err(plain(CUDA_ERROR_INVALID_VALUE.into()));
    }
    // SAFETY: the API demands a text with a zero at its end, or an image that begins otherwise.
    let text = unsafe { CStr::from_ptr(image.cast()) }.to_str();
    let text = text.ok().filter(|text| !text.starts_with('\u{7f}'));
    let text = text.ok_or(plain(CUDA_ERROR_INVALID_IMAGE.into()))?;
    let module = load(fake, device, text)?;
    let handle = fake.handle();
    fake.modules.insert(handle, module);
    // SAFETY: it is not null, and the API demands the rest.
    unsafe { give(to, handle as CUmodule) }.map_err(plain)
}

fn function(fake: &mut Fake, handle: CUfunction) -> Answer<&mut Function> {
    let device = fake.current()?;
    let found = fake.functions.get_mut(&(handle as u64)).filter(|function| function.device == device);
    found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))
}

driver! {
    fn cuModuleGetLoadingMode(fake, mode: *mut CUmoduleLoadingMode) {
        fake.ready()?;
        give(mode, CUmoduleLoadingMode::CU_MODULE_LAZY_LOADING)
    }

    fn cuModuleLoadData(fake, module: *mut CUmodule, image: *const c_void) {
        let loaded = load_image(fake, module, image);
        loaded.map_err(|(stop, log)| {
            fake.room.tell(|| log);
            stop
        })
    }

    fn cuModuleLoadDataEx(
        fake,
        module: *mut CUmodule,
        image: *const c_void,
        count: c_uint,
        options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) {
        if count > 0 && (options.is_null() || values.is_null()) {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let loaded = load_image(fake, module, image);
        let (answer, log) = match loaded {
            Ok(()) => (Ok(()), String::new()),
            Err((stop, log)) => (Err(stop), log),
        };
        use CUjit_option::*;
        let at = |option| (0..count as usize).find(|&i| *options.add(i) == option).map(|i| values.add(i));
        let info = if answer.is_ok() { "ptxas info    : 0 bytes gmem\n".to_string() } else { String::new() };
        for (buffer, size, text) in [
            (CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, &log),
            (CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, &info),
        ] {
            if let (Some(buffer), Some(size)) = (at(buffer), at(size)) {
                let room = *size as usize as u32 as usize;
                let written = if room == 0 { 0 } else { text.len().min(room - 1) };
                if room > 0 {
                    crate::entry::give_text((*buffer).cast::<c_char>(), room, text)?;
                }
                *size = written as *mut c_void;
            }
        }
        if !log.is_empty() {
            fake.room.tell(|| log);
        }
        answer
    }

    fn cuModuleUnload(fake, module: CUmodule) {
        let device = fake.current()?;
        let handle = module as u64;
        if fake.modules.get(&handle).is_none_or(|module| module.device != device) {
            return refuse(CUDA_ERROR_INVALID_HANDLE);
        }
        if fake.devices[device].hung {
            // It waits for what runs.
            return Err(Stop::Hang);
        }
        fake.modules.remove(&handle);
        fake.functions.retain(|_, function| function.module != handle);
        Ok(())
    }

    fn cuModuleGetFunction(fake, to: *mut CUfunction, module: CUmodule, name: *const c_char) {
        let device = fake.current()?;
        if name.is_null() || to.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        fail(fake, "cuModuleGetFunction", Some(&name))?;
        let fresh = fake.handle();
        let default = fake.devices[device].identity;
        let found = fake.modules.get_mut(&(module as u64)).filter(|module| module.device == device);
        let loaded = found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?;
        let code = loaded.kernels.get(&name).ok_or(Stop::Code(CUDA_ERROR_NOT_FOUND))?;
        let code = Arc::clone(code);
        let handle = *loaded.functions.entry(name).or_insert(fresh);
        let most_shared = (48 << 10).min(default.shared_per_block) - code.resources.shared;
        fake.functions.entry(handle).or_insert(Function {
            device,
            module: module as u64,
            code,
            most_shared,
            carveout: -1,
        });
        give(to, handle as CUfunction)
    }

    fn cuFuncGetModule(fake, module: *mut CUmodule, handle: CUfunction) {
        let of = function(fake, handle)?.module;
        give(module, of as CUmodule)
    }

    fn cuFuncGetAttribute(fake, to: *mut c_int, attribute: CUfunction_attribute, handle: CUfunction) {
        let device = fake.current()?;
        let own = fake.devices[device].identity.architecture();
        let of = function(fake, handle)?;
        let resources = of.code.resources;
        use CUfunction_attribute::*;
        let value = match attribute {
            CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => resources.threads,
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => resources.shared,
            CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES => 0,
            CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => resources.local,
            CU_FUNC_ATTRIBUTE_NUM_REGS => resources.registers,
            CU_FUNC_ATTRIBUTE_PTX_VERSION => of.code.target,
            CU_FUNC_ATTRIBUTE_BINARY_VERSION => own,
            CU_FUNC_ATTRIBUTE_CACHE_MODE_CA => 0,
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => of.most_shared,
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => of.carveout,
            _ => return refuse(CUDA_ERROR_INVALID_VALUE),
        };
        give(to, value)
    }

    fn cuFuncSetAttribute(fake, handle: CUfunction, attribute: CUfunction_attribute, value: c_int) {
        let device = fake.current()?;
        let most = fake.devices[device].identity.shared_per_block;
        let of = function(fake, handle)?;
        use CUfunction_attribute::*;
        match attribute {
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                if value < 0 || value + of.code.resources.shared > most {
                    return refuse(CUDA_ERROR_INVALID_VALUE);
                }
                of.most_shared = value;
            }
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => {
                if !(-1..=100).contains(&value) {
                    return refuse(CUDA_ERROR_INVALID_VALUE);
                }
                of.carveout = value;
            }
            _ => return refuse(CUDA_ERROR_INVALID_VALUE),
        }
        Ok(())
    }

    fn cuFuncSetCacheConfig(fake, handle: CUfunction, _config: CUfunc_cache) {
        function(fake, handle).map(drop)
    }

    fn cuFuncLoad(fake, handle: CUfunction) {
        function(fake, handle).map(drop)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        fake,
        blocks: *mut c_int,
        handle: CUfunction,
        threads: c_int,
        dynamic: usize,
    ) {
        let device = fake.current()?;
        let identity = fake.devices[device].identity;
        let resources = function(fake, handle)?.code.resources;
        if threads <= 0 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        give(blocks, resources.resident(&identity, threads.unsigned_abs(), dynamic as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::{header, layouts, newest};

    #[test]
    fn the_header_of_ptx_is_read() {
        let text = "// a\n.version 8.0\n.target sm_90a\n.address_size 64\n";
        assert_eq!(header(text), Some(((8, 0), 90, true)));
        assert_eq!(header(".version 7.4\n.target sm_80, debug\n"), Some(((7, 4), 80, false)));
        assert_eq!(header("nothing"), None);
    }

    #[test]
    fn a_driver_takes_the_ptx_of_its_time() {
        assert_eq!(
            [11_040, 12_000, 12_040, 12_080, 13_000].map(newest),
            [(7, 4), (8, 0), (8, 4), (8, 7), (9, 0)]
        );
    }

    #[test]
    fn parameters_are_laid_out_as_c_does() {
        let text = ".visible .entry one(\n.param .align 8 .b8 one_param_0[168]\n)\n{}\n\
                    .entry two(\n.param .u64 a,\n.param .u32 b,\n.param .u64 c\n)\n{}\n.entry none(\n)\n{}";
        let layouts = layouts(text);
        assert_eq!(layouts["one"], [(0, 168)]);
        assert_eq!(layouts["two"], [(0, 8), (8, 4), (16, 8)]);
        assert!(layouts["none"].is_empty());
    }
}
