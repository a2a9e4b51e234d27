//! What every function of the driver API goes through: faults on demand, the lock, panics, stories on stderr.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cudarc::driver::sys::CUresult;

use crate::codes::{Answer, Stop, by_number, is_sticky, refuse};
use crate::room::Room;
use crate::state::Fake;

/// Runs one call.
pub fn call(name: &'static str, body: impl FnOnce(&mut Fake) -> Answer) -> CUresult {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Fake::with(|fake| {
            let answer = fail(fake, name, None).and_then(|()| body(fake));
            (answer, fake.wait.take())
        })
    }));
    match outcome {
        Ok((Ok(()), None)) => CUresult::CUDA_SUCCESS,
        Ok((Ok(()), Some(wait))) => {
            std::thread::sleep(wait);
            CUresult::CUDA_SUCCESS
        }
        Ok((Err(Stop::Code(code)), _)) => {
            if code != CUresult::CUDA_ERROR_NOT_READY {
                Room::get().tell(|| format!("{name}: {code:?}"));
            }
            code
        }
        Ok((Err(Stop::Hang), _)) => loop {
            std::thread::sleep(Duration::from_millis(50));
        },
        Err(_) => {
            eprintln!("fake driver: {name} panicked");
            CUresult::CUDA_ERROR_UNKNOWN
        }
    }
}

/// The answer of this call if it is to fail now.
pub fn fail(fake: &mut Fake, name: &str, kernel: Option<&str>) -> Answer {
    let Some(number) = fake.room.strike(name, kernel) else { return Ok(()) };
    let Some(code) = by_number(number) else {
        eprintln!("fake driver: FAKE_DRIVER_FAULT: there is no result {number}");
        std::process::abort();
    };
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    if is_sticky(code) {
        if let Some(device) = fake.current_device() {
            device.lost = Some(code);
        }
    }
    refuse(code)
}

/// Functions of the driver API. The bodies may use the pointers that they are given as the API says. cudarc's
/// declaration of the same name must have the same parameters.
macro_rules! driver {
    ($($(#[$meta:meta])* fn $name:ident($fake:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the driver API.")]
        ///
        /// # Safety
        /// As the API demands: every pointer is null or good for what it is used for.
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> cudarc::driver::sys::CUresult {
            $crate::entry::call(stringify!($name), |$fake: &mut $crate::state::Fake| {
                // SAFETY: the caller keeps to the API; pointers are looked at for null before they are used.
                #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
                unsafe { $body }
            })
        }
        const _: unsafe fn($($type),*) -> cudarc::driver::sys::CUresult = cudarc::driver::sys::$name;
    )*};
}
pub(crate) use driver;

/// Gives a result to the caller.
///
/// # Safety
/// The pointer is null or good to be written.
pub unsafe fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return refuse(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: it is not null, and the caller promises the rest.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The same where null means that it is not wanted.
///
/// # Safety
/// The pointer is null or good to be written.
pub unsafe fn offer<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as above.
        unsafe { to.write_unaligned(value) };
    }
}

/// Gives a text with a zero behind it, cut off where there is no room for more.
///
/// # Safety
/// The pointer is null or good for so many bytes.
pub unsafe fn give_text(to: *mut std::ffi::c_char, room: usize, text: &str) -> Answer {
    if to.is_null() || room == 0 {
        return refuse(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let length = text.len().min(room - 1);
    // SAFETY: `length` and the zero fit into `room`.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, length);
        to.add(length).write(0);
    }
    Ok(())
}
