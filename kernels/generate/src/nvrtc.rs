//! NVIDIA's run-time compiler, loaded from its library.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use anyhow::{Context, Result, bail, ensure};
use libloading::{Library, Symbol};

use crate::source::{COMPILER, Source, Target, options};

type Program = *mut c_void;
type Strings = *const *const c_char;
type Create =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Strings, Strings) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, Strings) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The compiler.
pub struct Nvrtc {
    library: Library,
}

impl Nvrtc {
    /// Loads the library.
    ///
    /// # Errors
    /// It cannot be loaded, or is not of [`COMPILER`].
    pub fn load(path: &Path) -> Result<Nvrtc> {
        // SAFETY: the file is NVIDIA's, its hash was checked when it was installed; its initialisers only set up
        // its own state.
        let library = unsafe { Library::new(path) }.with_context(|| path.display().to_string())?;
        let nvrtc = Nvrtc { library };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the type is that of nvrtc.h, and both pointers are to locals.
        let code = unsafe {
            let version: Symbol<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int> =
                nvrtc.library.get(b"nvrtcVersion")?;
            version(&mut major, &mut minor)
        };
        ensure!(
            code == 0 && COMPILER.starts_with(&format!("{major}.{minor}.")),
            "{}: NVRTC {major}.{minor} instead of {COMPILER}",
            path.display()
        );
        Ok(nvrtc)
    }

    /// Compiles a source to PTX. Neither folders nor the time of day get into it: all texts are handed over in
    /// memory under their names alone.
    ///
    /// # Errors
    /// The compiler's messages; warnings count as errors.
    pub fn compile(&self, source: &Source, target: &Target) -> Result<String> {
        let name = CString::new(format!("{}.cu", source.name))?;
        let text = CString::new(source.text.as_str())?;
        let names = c_strings(source.headers.keys())?;
        let headers = c_strings(source.headers.values())?;
        let options = c_strings(options(target).iter())?;
        let mut program = ptr::null_mut();
        // SAFETY: the symbols have the types of nvrtc.h. Every pointer handed over is to a value that lives until
        // the end of the call, the arrays are as long as said, the buffers as long as NVRTC asked for, and the
        // program is destroyed once, after its last use.
        unsafe {
            let create: Symbol<Create> = self.library.get(b"nvrtcCreateProgram")?;
            let compile: Symbol<Compile> = self.library.get(b"nvrtcCompileProgram")?;
            let destroy: Symbol<Destroy> = self.library.get(b"nvrtcDestroyProgram")?;
            let (names, headers, options) = (pointers(&names), pointers(&headers), pointers(&options));
            let code = create(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                headers.as_ptr(),
                names.as_ptr(),
            );
            ensure!(code == 0, "nvrtcCreateProgram: {code}");
            let code = compile(program, options.len() as c_int, options.as_ptr());
            let log = self.text(program, b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog")?;
            let ptx = if code == 0 {
                self.text(program, b"nvrtcGetPTXSize", b"nvrtcGetPTX")?
            } else {
                String::new()
            };
            destroy(&mut program);
            if code != 0 || !log.trim().is_empty() {
                bail!("{}.cu for {}: {}", source.name, target.name, log.trim());
            }
            Ok(ptx)
        }
    }

    /// A text of the program: asks for its size, then for itself.
    ///
    /// # Safety
    /// The program lives, and the symbols are a pair of nvrtcGet...Size and nvrtcGet...
    unsafe fn text(&self, program: Program, size: &[u8], get: &[u8]) -> Result<String> {
        let mut bytes = 0;
        // SAFETY: the types are those of nvrtc.h; the buffer is as long as NVRTC said.
        unsafe {
            let size: Symbol<Size> = self.library.get(size)?;
            let get: Symbol<Text> = self.library.get(get)?;
            ensure!(size(program, &mut bytes) == 0, "NVRTC gives no size");
            let mut text = vec![0u8; bytes];
            ensure!(get(program, text.as_mut_ptr().cast()) == 0, "NVRTC gives no text");
            while text.last() == Some(&0) {
                text.pop();
            }
            Ok(String::from_utf8(text)?)
        }
    }
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<CString>> {
    Ok(texts.map(|text| CString::new(text.as_str())).collect::<Result<_, _>>()?)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).collect()
}
