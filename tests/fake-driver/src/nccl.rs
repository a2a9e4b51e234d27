//! NCCL: communicators of one process, one for each GPU, and all-reduces among them.
//!
//! It does what llmroof asks of it and refuses all else. An all-reduce that is queued at once is computed on the host; one that
//! is recorded takes time alone, and a GPU that has come to it waits for the others, without end if they never do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cudarc::driver::sys::CUstream;

use crate::costs::{Cost, Span};
use crate::room::lock;
use crate::state::Fake;
use crate::work::{HostWork, Part, Work, submit};

const UNHANDLED_CUDA_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 3;
const INVALID_ARGUMENT: u32 = 4;
const INVALID_USAGE: u32 = 5;
/// A fault of this code: the call does not return.
const HANGS: i64 = -1;

/// `ncclUint64` and `ncclBfloat16`, `ncclSum` and `ncclMax`.
const UINT64: u32 = 5;
const BFLOAT16: u32 = 9;
const SUM: u32 = 0;
const MAX: u32 = 2;

/// Where handles begin; nothing else of the fake has such addresses.
const FIRST: u64 = 0x6300_0000_0040;
/// Nanoseconds of the smallest all-reduce, of the first rank.
const LATENCY: f64 = 8_000.0;
/// By how much the last rank is slower than the first.
const SLOWER: f64 = 0.05;
/// Share of a link's bandwidth that is reached.
const OF_LINK: f64 = 0.8;

type Answer<T = ()> = Result<T, u32>;

/// One rank of a clique.
#[derive(Debug, Clone, Copy)]
struct Communicator {
    clique: u64,
    rank: usize,
    device: usize,
}

/// Ranks that were joined together.
#[derive(Debug, Default)]
struct Clique {
    /// Device of each rank.
    devices: Vec<usize>,
    /// Recorded all-reduces that each rank has come to.
    come: Vec<u64>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    communicators: BTreeMap<u64, Communicator>,
    cliques: BTreeMap<u64, Clique>,
}

static ALL: Mutex<All> =
    Mutex::new(All { next: FIRST, communicators: BTreeMap::new(), cliques: BTreeMap::new() });

/// An all-reduce of one rank.
#[derive(Debug, Clone, Copy)]
struct Call {
    of: Communicator,
    from: u64,
    to: u64,
    count: usize,
    dtype: u32,
    operation: u32,
    stream: u64,
}

thread_local! {
    /// How deep in groups this thread is, and what it has asked for there.
    static GROUP: RefCell<(u32, Vec<Call>)> = const { RefCell::new((0, Vec::new())) };
}

/// A device has come to a recorded all-reduce.
pub fn come(part: Part) {
    if let Some(come) = lock(&ALL).cliques.get_mut(&part.clique).and_then(|c| c.come.get_mut(part.rank)) {
        *come += 1;
    }
}

/// Whether a device waits in an all-reduce that another has not come to.
pub fn waits(device: usize) -> bool {
    lock(&ALL).cliques.values().any(|clique| {
        let least = clique.come.iter().min();
        clique.devices.iter().zip(&clique.come).any(|(of, come)| *of == device && Some(come) > least)
    })
}

/// Nothing is joined, as in a process that has just begun.
pub fn forget() {
    *lock(&ALL) = All { next: FIRST, ..All::default() };
}

/// Runs one call; the status is that of a fault if there is one for it.
fn call(name: &'static str, body: impl FnOnce(&mut Fake) -> Answer) -> u32 {
    let run = || {
        Fake::with(|fake| match fake.room.strike(name, None) {
            Some(HANGS) => None,
            Some(code) if code != 0 => Some(Err(code as u32)),
            _ => Some(body(fake)),
        })
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Some(Ok(()))) => 0,
        Ok(Some(Err(status))) => status,
        Ok(None) => loop {
            std::thread::sleep(Duration::from_millis(50));
        },
        Err(_) => {
            eprintln!("fake driver: {name} panicked");
            INTERNAL_ERROR
        }
    }
}

macro_rules! library {
    ($(fn $name:ident($fake:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of NCCL.")]
        ///
        /// # Safety
        /// As the API demands: every pointer is null or good for what it is used for.
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, non_snake_case)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
            call(stringify!($name), |$fake: &mut Fake| $body)
        }
    )*};
}

library! {
    fn ncclGetVersion(fake, version: *mut c_int) {
        if version.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: it is not null, and the caller keeps to the API.
        unsafe { version.write_unaligned(fake.room.settings.nccl_version) };
        Ok(())
    }

    fn ncclCommInitAll(fake, communicators: *mut *mut c_void, count: c_int, devices: *const c_int) {
        if communicators.is_null() || devices.is_null() || count < 1 {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: there are as many as is said, as the API demands.
        let devices = unsafe { std::slice::from_raw_parts(devices, count as usize) };
        let devices: Vec<usize> = devices.iter().map(|&device| device as usize).collect();
        let known = |&device: &usize| fake.devices.get(device).is_some_and(|device| device.context != 0);
        if !devices.iter().all(known) {
            return Err(UNHANDLED_CUDA_ERROR);
        }
        if (1..devices.len()).any(|i| devices[..i].contains(&devices[i])) {
            return Err(INVALID_USAGE);
        }
        let mut all = lock(&ALL);
        all.next += 0x40;
        let clique = all.next;
        for (rank, &device) in devices.iter().enumerate() {
            all.next += 0x40;
            let handle = all.next;
            all.communicators.insert(handle, Communicator { clique, rank, device });
            // SAFETY: there is room for `count`, as the API demands.
            unsafe { communicators.add(rank).write_unaligned(handle as usize as *mut c_void) };
        }
        let come = vec![0; devices.len()];
        all.cliques.insert(clique, Clique { devices, come });
        Ok(())
    }

    fn ncclCommDestroy(fake, communicator: *mut c_void) {
        leave(fake, communicator as u64)
    }

    fn ncclCommAbort(fake, communicator: *mut c_void) {
        leave(fake, communicator as u64)
    }

    fn ncclGroupStart(_fake) {
        GROUP.with_borrow_mut(|(depth, _)| *depth += 1);
        Ok(())
    }

    fn ncclGroupEnd(fake) {
        let calls = GROUP.with_borrow_mut(|(depth, calls)| match depth {
            0 => Err(INVALID_USAGE),
            1 => {
                *depth = 0;
                Ok(std::mem::take(calls))
            }
            _ => {
                *depth -= 1;
                Ok(Vec::new())
            }
        })?;
        if calls.is_empty() { Ok(()) } else { reduce(fake, &calls) }
    }

    fn ncclAllReduce(
        _fake, from: *const c_void, to: *mut c_void, count: usize, dtype: u32, operation: u32,
        communicator: *mut c_void, stream: *mut c_void,
    ) {
        let of = *lock(&ALL).communicators.get(&(communicator as u64)).ok_or(INVALID_ARGUMENT)?;
        if !matches!((dtype, operation), (BFLOAT16, SUM) | (UINT64, MAX)) {
            return Err(INVALID_ARGUMENT);
        }
        let stream = stream as u64;
        let call = Call { of, from: from as u64, to: to as u64, count, dtype, operation, stream };
        // By itself it would wait for the other ranks, which this thread could never serve.
        GROUP.with_borrow_mut(|(depth, calls)| match depth {
            0 => Err(INVALID_USAGE),
            _ => {
                calls.push(call);
                Ok(())
            }
        })
    }
}

/// `ncclGetErrorString`
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn ncclGetErrorString(status: u32) -> *const c_char {
    let text = match status {
        0 => c"no error",
        UNHANDLED_CUDA_ERROR => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        2 => c"unhandled system error (run with NCCL_DEBUG=INFO for details)",
        INTERNAL_ERROR => c"internal error - please report this issue to the NCCL developers",
        INVALID_ARGUMENT => c"invalid argument (run with NCCL_DEBUG=WARN for details)",
        INVALID_USAGE => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
        _ => c"unknown result code",
    };
    text.as_ptr()
}

/// A communicator is given back. Recorded work of it must be gone: the real one waits for that.
fn leave(fake: &mut Fake, handle: u64) -> Answer {
    let communicator = lock(&ALL).communicators.remove(&handle).ok_or(INVALID_ARGUMENT)?;
    let recorded = |nodes: &[Work]| {
        nodes.iter().any(|work| matches!(work, Work::Host(host) if host.part.is_some_and(|part| part.clique == communicator.clique)))
    };
    let mut graphs = fake.graphs.values().chain(fake.executables.values());
    if graphs.any(|graph| recorded(&graph.nodes)) {
        return Err(INVALID_USAGE);
    }
    Ok(())
}

/// The all-reduces of a group, of which each clique has one of every rank.
fn reduce(fake: &mut Fake, calls: &[Call]) -> Answer {
    let clique = calls[0].of.clique;
    let devices =
        lock(&ALL).cliques.get(&clique).map(|clique| clique.devices.clone()).ok_or(INVALID_ARGUMENT)?;
    let mut ranks: Vec<usize> = calls.iter().map(|call| call.of.rank).collect();
    ranks.sort_unstable();
    let alike = |call: &Call| {
        let first = &calls[0];
        (call.of.clique, call.count, call.dtype, call.operation)
            == (clique, first.count, first.dtype, first.operation)
    };
    // Several of one rank would be merged, one that lacks a rank would never end.
    if ranks != (0..devices.len()).collect::<Vec<_>>() || !calls.iter().all(alike) {
        return Err(INVALID_USAGE);
    }
    let capturing =
        |call: &Call| fake.streams.get(&call.stream).is_some_and(|stream| stream.capture.is_some());
    let recorded = calls.iter().filter(|call| capturing(call)).count();
    if recorded != 0 && recorded != calls.len() {
        return Err(INVALID_USAGE);
    }
    let bytes = calls[0].count as u64 * if calls[0].dtype == UINT64 { 8 } else { 2 };
    if recorded == 0 {
        compute(fake, calls, bytes).map_err(|trouble| {
            fake.room.tell(|| format!("ncclAllReduce: {trouble}"));
            UNHANDLED_CUDA_ERROR
        })?;
    }
    let before = fake.current_context();
    let queued = calls.iter().try_for_each(|call| {
        let device = &fake.devices[call.of.device];
        let cost = cost(device.identity.link, call.of.rank, calls.len(), bytes as f64);
        let span = |address, what| Span { address, bytes, what };
        let work = HostWork {
            name: "ncclAllReduce",
            cost,
            spans: vec![span(call.from, "sendbuff"), span(call.to, "recvbuff")],
            part: (recorded > 0).then_some(Part { clique, rank: call.of.rank }),
            compute: Box::new(|_| Ok(())),
        };
        fake.set_current(device.context).map_err(|_| UNHANDLED_CUDA_ERROR)?;
        submit(fake, call.stream as usize as CUstream, Work::Host(Arc::new(work)))
            .map_err(|_| UNHANDLED_CUDA_ERROR)
    });
    fake.set_current(before).map_err(|_| UNHANDLED_CUDA_ERROR)?;
    queued
}

/// What one rank's part costs: a ring's bytes over its link.
fn cost(link: f64, rank: usize, ranks: usize, bytes: f64) -> Cost {
    let n = ranks as f64;
    let latency = LATENCY * (1.0 + SLOWER * rank as f64 / (n - 1.0).max(1.0));
    let fixed = latency + 2.0 * (n - 1.0) / n * bytes / (OF_LINK * link) * 1e9;
    Cost { fixed, ..Cost::memory(0.0, 1.0) }
}

/// Reduces at once, on the host.
fn compute(fake: &mut Fake, calls: &[Call], bytes: u64) -> Result<(), String> {
    let mut all = Vec::new();
    for call in calls {
        let mut data = vec![0; bytes as usize];
        fake.devices[call.of.device].read(call.from, &mut data)?;
        all.push(data);
    }
    let result: Vec<u8> = match calls[0].dtype {
        UINT64 => elements::<8>(&all, |column| {
            column.iter().map(|bytes| u64::from_le_bytes(*bytes)).max().unwrap_or(0).to_le_bytes()
        }),
        _ => elements::<2>(&all, |column| {
            let widen = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            let sum: f32 = column.iter().map(widen).sum();
            ((sum.to_bits() >> 16) as u16).to_le_bytes()
        }),
    };
    let mut result = result;
    if fake.room.strike("corrupt", Some("ncclAllReduce")).is_some() {
        result[1] ^= 0x40;
    }
    for call in calls {
        let device = &mut fake.devices[call.of.device];
        device.machine.write(call.to, &result).map_err(|fault| fault.to_string())?;
    }
    Ok(())
}

/// Element by element of `N` bytes what `reduce` makes of the ranks'.
fn elements<const N: usize>(all: &[Vec<u8>], reduce: impl Fn(&[[u8; N]]) -> [u8; N]) -> Vec<u8> {
    let ranks: Vec<&[[u8; N]]> = all.iter().map(|data| data.as_chunks::<N>().0).collect();
    (0..ranks[0].len()).flat_map(|i| reduce(&ranks.iter().map(|rank| rank[i]).collect::<Vec<_>>())).collect()
}
