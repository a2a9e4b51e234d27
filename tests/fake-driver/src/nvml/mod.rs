//! NVML. It is answered without the lock that kernels run under.

pub mod clocks;
pub mod device;
pub mod gpm;
pub mod memory;
pub mod power;
pub mod system;

use std::ffi::{c_char, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use crate::identity::Identity;
use crate::room::{Meter, Room};

/// Results.
pub(crate) mod codes {
    pub const UNINITIALIZED: u32 = 1;
    pub const INVALID_ARGUMENT: u32 = 2;
    pub const NOT_SUPPORTED: u32 = 3;
    pub const NOT_FOUND: u32 = 6;
    pub const INSUFFICIENT_SIZE: u32 = 7;
    pub const VERSION_MISMATCH: u32 = 25;
    pub const UNKNOWN: u32 = 999;
}
use codes::*;

/// What a call answers.
pub(crate) type Answer<T = ()> = Result<T, u32>;

/// How often the library was initialised and not shut down.
static USERS: AtomicU32 = AtomicU32::new(0);

/// Runs one call. `always`: also before the library is initialised.
pub(crate) fn call(name: &str, always: bool, body: impl FnOnce(&Arc<Room>) -> Answer) -> u32 {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let room = Room::get();
        if let Some(code) = room.strike(name, None).filter(|code| *code != 0) {
            return code as u32;
        }
        if !always && USERS.load(SeqCst) == 0 {
            return UNINITIALIZED;
        }
        let code = body(&room).err().unwrap_or(0);
        if code != 0 {
            room.tell(|| format!("{name}: {code}"));
        }
        code
    }));
    outcome.unwrap_or_else(|_| {
        eprintln!("fake driver: {name} panicked");
        UNKNOWN
    })
}

/// Functions of NVML. The bodies may use the pointers that they are given as the API says. The bindings' declaration
/// of the same name must be the same.
macro_rules! nvml {
    ($($(#[$meta:meta])* fn $name:ident($room:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of NVML.")]
        ///
        /// # Safety
        /// As the API demands: every pointer is null or good for what it is used for.
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
            let always = stringify!($name).starts_with("nvmlInit");
            $crate::nvml::call(stringify!($name), always, |$room| {
                // SAFETY: the caller keeps to the API; pointers are looked at for null before they are used.
                #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
                unsafe { $body }
            })
        }
        const _: fn(&mut nvml_wrapper_sys::bindings::NvmlLib) = |library| library.$name = Ok($name);
    )*};
}
pub(crate) use nvml;

/// A GPU, or the slice of one, that a handle means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle {
    pub slot: usize,
    pub slice: bool,
}

const HANDLES: usize = 0x6600_0000;

impl Handle {
    pub fn pointer(self) -> nvmlDevice_t {
        (HANDLES + self.slot * 16 + usize::from(self.slice) * 8) as nvmlDevice_t
    }

    pub fn read(room: &Room, pointer: nvmlDevice_t) -> Answer<Handle> {
        let offset = (pointer as usize).checked_sub(HANDLES).ok_or(INVALID_ARGUMENT)?;
        let (slot, slice) = (offset / 16, offset % 16 == 8);
        match room.settings.gpus.get(slot) {
            Some(gpu) if offset % 8 == 0 && (!slice || gpu.mig) => Ok(Handle { slot, slice }),
            _ => Err(INVALID_ARGUMENT),
        }
    }
}

/// The GPU or slice of a handle.
pub(crate) fn which(room: &Room, pointer: nvmlDevice_t) -> Answer<(Handle, &Identity)> {
    let handle = Handle::read(room, pointer)?;
    Ok((handle, room.settings.gpus.get(handle.slot).ok_or(INVALID_ARGUMENT)?))
}

/// The GPU of a handle, for what slices do not have.
pub(crate) fn board(room: &Room, pointer: nvmlDevice_t) -> Answer<&Identity> {
    let (handle, identity) = which(room, pointer)?;
    if handle.slice { Err(NOT_SUPPORTED) } else { Ok(identity) }
}

/// The GPU or slice of a handle with its meter.
pub(crate) fn any(room: &Room, pointer: nvmlDevice_t) -> Answer<(Handle, &Identity, MutexGuard<'_, Meter>)> {
    let handle = Handle::read(room, pointer)?;
    let (identity, meter) = room.gpu(handle.slot).ok_or(INVALID_ARGUMENT)?;
    Ok((handle, identity, meter))
}

/// The GPU of a handle with its meter, for what slices do not have.
pub(crate) fn whole(room: &Room, pointer: nvmlDevice_t) -> Answer<(&Identity, MutexGuard<'_, Meter>)> {
    let (handle, identity, meter) = any(room, pointer)?;
    if handle.slice { Err(NOT_SUPPORTED) } else { Ok((identity, meter)) }
}

/// Gives a result to the caller.
///
/// # Safety
/// The pointer is null or good to be written.
pub(crate) unsafe fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller promises the rest.
    unsafe { to.write(value) };
    Ok(())
}

/// Gives a text with a zero behind it, if there is room for both.
///
/// # Safety
/// The pointer is null or good for so many bytes.
pub(crate) unsafe fn give_text(to: *mut c_char, room: c_uint, text: &str) -> Answer {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= room as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room for the text and the zero.
    unsafe { crate::entry::give_text(to, room as usize, text) }.map_err(|_| INVALID_ARGUMENT)
}
