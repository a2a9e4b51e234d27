//! The shared library as a program loads it: two names, one instance.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, fs, mem, ptr};

fn library() -> PathBuf {
    let own = env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("libfake_driver.so"));
    found.into_iter().find(|path| path.exists()).unwrap()
}

fn open(path: &Path) -> *mut c_void {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path with a zero at its end; the library's initialisers do nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?}");
    handle
}

/// A function of the library.
///
/// # Safety
/// It has this type.
unsafe fn function<F: Copy>(handle: *mut c_void, name: &CStr) -> F {
    // SAFETY: the handle is good; the caller vouches for the type, which is a pointer's.
    unsafe {
        let found = libc::dlsym(handle, name.as_ptr());
        assert!(!found.is_null(), "{name:?}");
        mem::transmute_copy(&found)
    }
}

#[test]
fn two_names_of_one_file_are_one_instance() {
    let folder = env::temp_dir().join(format!("fake-driver-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (cuda, nvml, copy) =
        (folder.join("libcuda.so.1"), folder.join("libnvidia-ml.so.1"), folder.join("copy.so"));
    std::os::unix::fs::symlink(library(), &cuda).unwrap();
    std::os::unix::fs::symlink(library(), &nvml).unwrap();
    fs::copy(library(), &copy).unwrap();
    let (first, second, third) = (open(&cuda), open(&nvml), open(&copy));
    assert_eq!(first, second);
    assert_ne!(first, third);
    type Plain = unsafe extern "C" fn() -> u32;
    type Init = unsafe extern "C" fn(u32) -> u32;
    type Device = unsafe extern "C" fn(*mut *mut c_void, i32) -> u32;
    type ByIndex = unsafe extern "C" fn(u32, *mut *mut c_void) -> u32;
    type Processes = unsafe extern "C" fn(*mut c_void, *mut u32, *mut c_void) -> u32;
    // SAFETY: the functions have these types; pointers are to locals.
    unsafe {
        let processes = |library| {
            let (mut device, mut count) = (ptr::null_mut(), 0);
            assert_eq!(function::<Plain>(library, c"nvmlInit_v2")(), 0);
            let by_index: ByIndex = function(library, c"nvmlDeviceGetHandleByIndex_v2");
            assert_eq!(by_index(0, &mut device), 0);
            let running: Processes = function(library, c"nvmlDeviceGetComputeRunningProcesses_v3");
            running(device, &mut count, ptr::null_mut());
            count
        };
        assert_eq!((processes(second), processes(third)), (0, 0));
        let mut context = ptr::null_mut();
        assert_eq!(function::<Init>(first, c"cuInit")(0), 0);
        assert_eq!(function::<Device>(first, c"cuDevicePrimaryCtxRetain")(&mut context, 0), 0);
        // NVML under its own name sees the context; a copy of the file is another machine.
        assert_eq!((processes(second), processes(third)), (1, 0));
        type Address = unsafe extern "C" fn(*const i8, *mut *mut c_void, i32, u64, *mut u32) -> u32;
        let (mut found, mut status) = (ptr::null_mut(), 9);
        let address: Address = function(first, c"cuGetProcAddress_v2");
        assert_eq!(address(c"cuMemAlloc".as_ptr(), &mut found, 12_000, 0, &mut status), 0);
        assert_eq!((found, status), (function(first, c"cuMemAlloc_v2"), 0));
    }
    fs::remove_dir_all(&folder).unwrap();
}
