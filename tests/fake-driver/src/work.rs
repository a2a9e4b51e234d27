//! Work on a stream: collected where the stream is being captured, otherwise done at once. A device does one thing
//! after the other, in the order in which it is asked to.

use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys::{CUresult::*, CUstream};
use ptx_interpreter::{FaultKind, Launch};

use crate::codes::{Answer, Stop, by_number, refuse};
use crate::costs::{Cost, Launched, Span, Understood, Way, understand};
use crate::module::Code;
use crate::room::Place;
use crate::state::{Device, Fake, Recorded};

/// One piece of work.
#[derive(Debug, Clone)]
pub enum Work {
    /// A kernel.
    Kernel(Arc<Kernel>),
    /// Copy from host memory.
    ToDevice { to: u64, from: usize, bytes: usize },
    /// Copy to host memory.
    ToHost { to: usize, from: u64, bytes: usize },
    /// Copy within the device.
    Within { to: u64, from: u64, bytes: u64 },
    /// `count` times the lowest `width` bytes of a value.
    Set { to: u64, value: u32, width: u64, count: u64 },
    /// An event is recorded.
    Record(u64),
    /// Something that the host computes in the device's name: what libraries over the driver queue.
    Host(Arc<HostWork>),
}

/// A kernel with all that it is launched with.
#[derive(Debug)]
pub struct Kernel {
    /// What runs.
    pub code: Arc<Code>,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory.
    pub shared: u32,
    /// Programmatic stream serialization was asked for.
    pub early: bool,
    /// Parameter bytes.
    pub parameters: Vec<u8>,
}

/// Computes on device memory.
pub type Compute = dyn Fn(&mut Device) -> Result<(), String> + Send + Sync;

/// One device's part of something that several do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Who they are.
    pub clique: u64,
    /// Which of them.
    pub rank: usize,
}

/// Work that is no kernel, with its cost: a library's product.
pub struct HostWork {
    /// For messages.
    pub name: &'static str,
    /// What the virtual clock takes it for.
    pub cost: Cost,
    /// What it uses; checked before it runs.
    pub spans: Vec<Span>,
    /// It is recorded, and other devices have parts of it.
    pub part: Option<Part>,
    /// Not called while kernels are not executed.
    pub compute: Box<Compute>,
}

impl fmt::Debug for HostWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostWork").field("name", &self.name).field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// Puts work on a stream of this thread's context.
pub fn submit(fake: &mut Fake, stream: CUstream, work: Work) -> Answer {
    let device = fake.current()?;
    let handle = stream as u64;
    if handle <= 2 {
        fake.use_legacy(device)?;
    } else {
        let found = fake.streams.get_mut(&handle).filter(|stream| stream.device == device);
        let stream = found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?;
        if let Some(capture) = &mut stream.capture {
            if capture.broken {
                return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
            }
            capture.nodes.push(work);
            return Ok(());
        }
    }
    if matches!(work, Work::Kernel(_)) {
        launched(fake, device);
    }
    perform(fake, device, &work, Place::Direct)
}

/// Counts a launch, a graph's or a kernel's; faults that arrive later begin here.
pub fn launched(fake: &mut Fake, device: usize) {
    let room = Arc::clone(&fake.room);
    let device = &mut fake.devices[device];
    if let Some((_, mut meter)) = room.gpu(device.slot) {
        meter.launch(&room);
    }
    if let Some(code) = room.strike("async", None).and_then(by_number) {
        device.pending = Some(code);
    }
}

/// Does a piece of work. What a kernel does wrong comes to light when somebody looks.
pub fn perform(fake: &mut Fake, index: usize, work: &Work, place: Place) -> Answer {
    let room = Arc::clone(&fake.room);
    let device = &mut fake.devices[index];
    if device.hung || device.pending.is_some() {
        return Ok(());
    }
    let Some((_, mut meter)) = room.gpu(device.slot) else { return refuse(CUDA_ERROR_UNKNOWN) };
    let identity = device.identity;
    match work {
        Work::Kernel(kernel) => {
            let understood = look_at(device, kernel);
            let cost = understood.as_ref().map_or(Cost::unknown(), |understood| understood.cost);
            let early = kernel.early && identity.capability.0 >= 9;
            meter.work(&room, &identity, &cost, place, early);
            drop(meter);
            let name = &kernel.code.name;
            let spans = understood.as_ref().map_or(&[][..], |understood| &understood.spans);
            if let Err(trouble) = check(device, spans) {
                room.tell(|| format!("{name}: {trouble}"));
                device.pending = Some(CUDA_ERROR_ILLEGAL_ADDRESS);
            } else if let Some(code) = room.strike("async", Some(name)).and_then(by_number) {
                device.pending = Some(code);
            } else if device.executes() {
                let way = understood.as_ref().map_or(Way::Interpret, |understood| understood.way);
                let wrong = [None, Some(name.as_str())].map(|of| room.strike("corrupt", of)) != [None; 2];
                let mut done = carry_out(device, kernel, way);
                if wrong && done.is_ok() {
                    done = flip(device, spans);
                }
                if let Err((code, trouble)) = done {
                    room.tell(|| format!("{name}: {trouble}"));
                    device.pending = Some(code);
                }
            } else {
                device.skipped = true;
            }
            Ok(())
        }
        Work::Host(host) => {
            meter.work(&room, &identity, &host.cost, place, false);
            drop(meter);
            host.part.into_iter().for_each(crate::nccl::come);
            let done = check(device, &host.spans);
            device.skipped |= !device.executes();
            let done = done.and_then(|()| if device.executes() { (host.compute)(device) } else { Ok(()) });
            if let Err(trouble) = done {
                room.tell(|| format!("{}: {trouble}", host.name));
                device.pending = Some(CUDA_ERROR_ILLEGAL_ADDRESS);
            }
            Ok(())
        }
        Work::ToDevice { to, from, bytes } => {
            meter.copy(&room, *bytes as u64);
            let (_, block) = device.find(*to, *bytes as u64).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
            if !block.reserved {
                // SAFETY: whoever asked for the copy promised that so many bytes are there.
                let data = unsafe { std::slice::from_raw_parts(*from as *const u8, *bytes) };
                device.machine.write(*to, data).map_err(|_| Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
            }
            Ok(())
        }
        Work::ToHost { to, from, bytes } => {
            meter.copy(&room, *bytes as u64);
            let (_, block) = device.find(*from, *bytes as u64).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
            // SAFETY: as above.
            let into = unsafe { std::slice::from_raw_parts_mut(*to as *mut u8, *bytes) };
            if block.reserved {
                into.fill(0);
            } else if let Err(trouble) = device.read(*from, into) {
                room.tell(|| trouble);
                return refuse(CUDA_ERROR_INVALID_VALUE);
            }
            Ok(())
        }
        Work::Within { to, from, bytes } => {
            meter.work(&room, &identity, &Cost::memory(2.0 * *bytes as f64, 0.9), place, false);
            copy(device, *from, *to, *bytes).map_err(|trouble| {
                room.tell(|| trouble);
                Stop::Code(CUDA_ERROR_INVALID_VALUE)
            })
        }
        Work::Set { to, value, width, count } => {
            let bytes = width.saturating_mul(*count);
            meter.work(&room, &identity, &Cost::memory(bytes as f64, 0.9), place, false);
            let (_, block) = device.find(*to, bytes).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
            if !block.reserved {
                let one = &value.to_le_bytes()[..*width as usize];
                pattern(device, *to, bytes, &one.repeat((64 << 10) / one.len()))
                    .map_err(|_| Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
            }
            Ok(())
        }
        Work::Record(event) => {
            let now = meter.now;
            drop(meter);
            if let Some(event) = fake.events.get_mut(event) {
                event.recorded = Recorded::At(now);
            }
            Ok(())
        }
    }
}

fn look_at(device: &Device, kernel: &Kernel) -> Option<Understood> {
    let launched = Launched {
        kernel: &kernel.code.name,
        hopper: kernel.code.architecture_specific,
        grid: kernel.grid,
        threads: kernel.block[0],
        parameters: &kernel.parameters,
    };
    let start = |address: u64, count: u64| {
        let mut bytes = vec![0; 4 * count.min(1 << 16) as usize];
        // Where it cannot be read the check of the spans says so.
        let _ = device.machine.peek(address, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    };
    understand(&launched, &start)
}

fn check(device: &Device, spans: &[Span]) -> Result<(), String> {
    for span in spans {
        if device.find(span.address, span.bytes).is_none() {
            let Span { address, bytes, what } = span;
            return Err(format!("`{what}`: {bytes} bytes at {address:#x} are in no allocation"));
        }
    }
    Ok(())
}

/// What a kernel did wrong, as the driver says it and as the interpreter does.
type Trouble = (cudarc::driver::sys::CUresult, String);

fn carry_out(device: &mut Device, kernel: &Kernel, way: Way) -> Result<(), Trouble> {
    let illegal = |trouble| (CUDA_ERROR_ILLEGAL_ADDRESS, trouble);
    match way {
        Way::Skip => Ok(()),
        Way::Copy { from, to, bytes } => copy(device, from, to, bytes).map_err(illegal),
        Way::Fill { to, count, mean, deviation } => {
            pattern(device, to, 2 * count, &normals(mean, deviation)).map_err(illegal)
        }
        Way::Interpret => {
            let launch = Launch {
                kernel: &kernel.code.name,
                grid: kernel.grid,
                block: kernel.block,
                shared: kernel.shared,
                early: kernel.early,
                parameters: &kernel.parameters,
            };
            device.machine.launch(&kernel.code.module, &launch).map(drop).map_err(|fault| {
                let code = match fault.kind {
                    FaultKind::OutOfBounds => CUDA_ERROR_ILLEGAL_ADDRESS,
                    FaultKind::Misaligned => CUDA_ERROR_MISALIGNED_ADDRESS,
                    FaultKind::Unknown => CUDA_ERROR_ILLEGAL_INSTRUCTION,
                    FaultKind::Endless => CUDA_ERROR_LAUNCH_TIMEOUT,
                    // A device would go on with wrong numbers; here they are not let through.
                    FaultKind::Uninitialised
                    | FaultKind::Race
                    | FaultKind::Divergence
                    | FaultKind::Launch
                    | FaultKind::Trap => CUDA_ERROR_LAUNCH_FAILED,
                };
                (code, fault.to_string())
            })
        }
    }
}

/// What kernels store, as their spans call it; of several the first here.
const STORED: [&str; 7] = ["y", "out", "normed", "residual", "logits", "chosen", "to"];

/// Turns over the highest bit of the exponent of the first bf16 that a kernel stored: of a number like 1 nothing is
/// left that resembles it.
fn flip(device: &mut Device, spans: &[Span]) -> Result<(), Trouble> {
    let Some(span) = STORED.iter().find_map(|what| spans.iter().find(|span| span.what == *what)) else {
        return Ok(());
    };
    let illegal = |trouble: String| (CUDA_ERROR_ILLEGAL_ADDRESS, trouble);
    let mut number = [0; 2];
    device.machine.peek(span.address, &mut number).map_err(|fault| illegal(fault.to_string()))?;
    number[1] ^= 0x40;
    device.machine.write(span.address, &number).map_err(|fault| illegal(fault.to_string()))
}

/// Copies within a device; to or from memory that is only reserved there is nothing to copy.
fn copy(device: &mut Device, from: u64, to: u64, bytes: u64) -> Result<(), String> {
    let outside = || format!("a copy of {bytes} bytes from {from:#x} to {to:#x} leaves the allocations");
    let (_, source) = device.find(from, bytes).ok_or_else(outside)?;
    let (_, target) = device.find(to, bytes).ok_or_else(outside)?;
    if target.reserved {
        return Ok(());
    }
    let mut data = vec![0; bytes as usize];
    if !source.reserved {
        device.read(from, &mut data)?;
    }
    device.machine.write(to, &data).map_err(|fault| fault.to_string())
}

/// Writes a piece over and over.
fn pattern(device: &mut Device, to: u64, bytes: u64, piece: &[u8]) -> Result<(), String> {
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(piece.len() as u64);
        device.machine.write(to + at, &piece[..length as usize]).map_err(|fault| fault.to_string())?;
        at += length;
    }
    Ok(())
}

/// 64 Ki bf16 numbers, about normal and none of them zero.
fn normals(mean: f32, deviation: f32) -> Vec<u8> {
    let mut state = 1u64;
    let mut number = || {
        let sum: f32 = (0..4)
            .map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .sum();
        let value = mean + deviation * 1.732 * sum;
        let value = if value == 0.0 { deviation / 1024.0 } else { value };
        ((value.to_bits() >> 16) as u16).max(1).to_le_bytes()
    };
    (0..64 << 10).flat_map(|_| number()).collect()
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::Arc;

    use cudarc::driver::sys::CUresult;

    use super::{Device, HostWork, Work, submit};
    use crate::context::*;
    use crate::costs::{Cost, Span};
    use crate::memory::*;
    use crate::state::Fake;

    #[test]
    fn the_host_can_compute_in_the_device_s_name() {
        crate::begin(|_| None).unwrap();
        let (mut context, mut address) = (ptr::null_mut(), 0);
        let ok = |code| assert_eq!(code, CUresult::CUDA_SUCCESS);
        // SAFETY: pointers to locals.
        unsafe {
            ok(cuInit(0));
            ok(cuDevicePrimaryCtxRetain(&mut context, 0));
            ok(cuCtxSetCurrent(context));
            ok(cuMemAlloc_v2(&mut address, 64));
        }
        let fill = move |device: &mut Device| {
            device.machine.write(address, &[7; 64]).map_err(|fault| fault.to_string())
        };
        let work = |bytes| {
            let spans = vec![Span { address, bytes, what: "c" }];
            let cost = Cost::product(64.0, 1e9);
            Work::Host(Arc::new(HostWork { name: "fill", cost, spans, part: None, compute: Box::new(fill) }))
        };
        let before = Fake::with(|fake| fake.now(0));
        Fake::with(|fake| submit(fake, ptr::null_mut(), work(64))).unwrap();
        assert!(Fake::with(|fake| fake.now(0)) > before);
        let mut read = [0u8; 64];
        // SAFETY: there is room for as much.
        ok(unsafe { cuMemcpyDtoH_v2(read.as_mut_ptr().cast(), address, 64) });
        assert_eq!(read, [7; 64]);
        Fake::with(|fake| submit(fake, ptr::null_mut(), work(65))).unwrap();
        // SAFETY: no pointers.
        assert_eq!(unsafe { cuCtxSynchronize() }, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}
