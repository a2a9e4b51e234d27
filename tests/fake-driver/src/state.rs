//! Everything the CUDA side knows: devices, what was made on them, and who is current.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use cudarc::driver::sys::CUresult::{self, *};
use ptx_interpreter::Machine;

use crate::codes::{Answer, Stop, refuse};
use crate::identity::Identity;
use crate::module::{Function, Module};
use crate::room::{Room, lock};
use crate::settings::Settings;
use crate::work::Work;

/// Address space of one device.
const SPACE: u64 = 1 << 40;
/// Where in it memory that is only reserved begins.
const RESERVED: u64 = 1 << 39;
/// Where the first device's begins; the interpreter's first address.
const START: u64 = 0x7000_0000_0000;
/// Memory that a context takes for itself.
const CONTEXT_BYTES: u64 = 500 << 20;
/// Allocations of fewer bytes are always held.
const ALWAYS_HELD: u64 = 1 << 20;

/// One allocation in device memory.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// As asked for.
    pub bytes: u64,
    /// There is nothing behind it.
    pub reserved: bool,
}

/// One GPU as CUDA shows it.
#[derive(Debug)]
pub struct Device {
    /// Which of the machine's GPUs.
    pub slot: usize,
    /// What it is.
    pub identity: Identity,
    /// Its memory and what executes.
    pub machine: Machine,
    /// Live allocations by address.
    pub blocks: BTreeMap<u64, Block>,
    /// Bytes of live allocations as the driver rounds them.
    pub allocated: u64,
    next_reserved: u64,
    /// How many of the blocks have nothing behind them.
    reserved: usize,
    /// Kernels are timed and not executed for now.
    pub timed_only: bool,
    /// A kernel was not executed, so what it would have written is missing.
    pub skipped: bool,
    /// The primary context's handle; 0: not active.
    pub context: u64,
    /// How often it was retained and not released.
    pub retained: u32,
    /// Its flags.
    pub flags: u32,
    /// What every call answers from now on.
    pub lost: Option<CUresult>,
    /// What the next call that looks will answer.
    pub pending: Option<CUresult>,
    /// Nothing ever ends any more.
    pub hung: bool,
}

impl Device {
    fn new(slot: usize, identity: Identity, position: usize) -> Device {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let base = SPACE * position as u64;
        Device {
            slot,
            identity,
            machine: Machine::new(workers).above(base),
            blocks: BTreeMap::new(),
            allocated: 0,
            next_reserved: START + base + RESERVED,
            reserved: 0,
            timed_only: false,
            skipped: false,
            context: 0,
            retained: 0,
            flags: 0,
            lost: None,
            pending: None,
            hung: false,
        }
    }

    /// Bytes that can be allocated, and all there are.
    pub fn memory(&self, settings: &Settings) -> (u64, u64) {
        let others = u64::from(settings.others) << 30;
        let usable = self.identity.memory.saturating_sub(CONTEXT_BYTES + others);
        let usable = settings.memory.map_or(usable, |bytes| bytes.min(usable));
        (usable.saturating_sub(self.allocated), self.identity.memory)
    }

    /// Allocates; `None` where there is no room.
    pub fn allocate(&mut self, bytes: u64, settings: &Settings) -> Option<u64> {
        let rounded = bytes.checked_next_multiple_of(512)?;
        if rounded > self.memory(settings).0 {
            return None;
        }
        let reserved = bytes >= ALWAYS_HELD && self.allocated + rounded > settings.reserve_above;
        let address = if reserved {
            let address = self.next_reserved;
            self.next_reserved += rounded.next_multiple_of(2 << 20) + (2 << 20);
            address
        } else {
            self.machine.allocate(bytes, &format!("allocation {}", self.blocks.len()))
        };
        self.allocated += rounded;
        self.reserved += usize::from(reserved);
        self.blocks.insert(address, Block { bytes, reserved });
        Some(address)
    }

    /// Gives an allocation back: whether one begins there.
    pub fn free(&mut self, address: u64) -> bool {
        let Some(block) = self.blocks.remove(&address) else { return false };
        self.allocated -= block.bytes.next_multiple_of(512);
        self.reserved -= usize::from(block.reserved);
        block.reserved || self.machine.free(address).is_ok()
    }

    /// The allocation that holds all of a range.
    pub fn find(&self, address: u64, bytes: u64) -> Option<(u64, Block)> {
        let (base, block) = self.blocks.range(..=address).next_back()?;
        (address - base).checked_add(bytes).filter(|end| *end <= block.bytes)?;
        Some((*base, *block))
    }

    /// Kernels compute: no memory is without anything behind it, and nobody asked for their time alone.
    pub fn executes(&self) -> bool {
        self.reserved == 0 && !self.timed_only
    }

    /// Reads memory for the host. Bytes that nothing wrote are a fault of the program's, unless a kernel that was not
    /// executed may have been meant to write them.
    pub fn read(&self, from: u64, into: &mut [u8]) -> Result<(), String> {
        let read = if self.skipped { self.machine.peek(from, into) } else { self.machine.read(from, into) };
        read.map_err(|fault| fault.to_string())
    }

    /// What went wrong asynchronously comes to light.
    pub fn settle(&mut self) -> Answer {
        if self.hung {
            return Err(Stop::Hang);
        }
        match self.pending.take() {
            None => {
                self.machine.settle();
                Ok(())
            }
            Some(code) => {
                if crate::codes::is_sticky(code) {
                    self.lost = Some(code);
                }
                refuse(code)
            }
        }
    }
}

/// Work that a stream collects instead of running it.
#[derive(Debug)]
pub struct Capture {
    /// So far, in order.
    pub nodes: Vec<Work>,
    /// 0: global, 1: of the thread, 2: relaxed.
    pub mode: u32,
    /// Who began.
    pub thread: ThreadId,
    /// Something was called that a capture does not allow.
    pub broken: bool,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its device.
    pub device: usize,
    /// Waits for the legacy stream and the other way round.
    pub blocking: bool,
    /// Its priority.
    pub priority: i32,
    /// Being captured.
    pub capture: Option<Capture>,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recorded {
    /// Nowhere yet.
    Never,
    /// At this virtual time in nanoseconds.
    At(f64),
    /// In a stream being captured.
    Captured(u64),
}

/// An event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Its device.
    pub device: usize,
    /// It keeps time.
    pub timing: bool,
    /// Where it was last recorded.
    pub recorded: Recorded,
}

/// A graph, or one that can be launched.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Its device.
    pub device: usize,
    /// In order.
    pub nodes: Arc<Vec<Work>>,
    /// How often it was launched.
    pub launches: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Fake {
    /// What NVML shares.
    pub room: Arc<Room>,
    /// `cuInit` was called.
    pub initialised: bool,
    /// As CUDA numbers them.
    pub devices: Vec<Device>,
    /// By handle, as all below.
    pub streams: HashMap<u64, Stream>,
    /// See above.
    pub events: HashMap<u64, Event>,
    /// See above.
    pub modules: HashMap<u64, Module>,
    /// See above.
    pub functions: HashMap<u64, Function>,
    /// See above.
    pub graphs: HashMap<u64, Graph>,
    /// See above.
    pub executables: HashMap<u64, Graph>,
    /// Page-locked host memory: bytes by address.
    pub host: HashMap<usize, usize>,
    /// Contexts that are no more.
    pub destroyed: Vec<u64>,
    /// How long the caller sleeps when the call is through.
    pub wait: Option<Duration>,
    next: u64,
}

static FAKE: Mutex<Option<Fake>> = Mutex::new(None);

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(0) };
    /// How strict captures are with this thread.
    pub static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
}

impl Fake {
    fn new(room: Arc<Room>) -> Fake {
        let settings = &room.settings;
        let devices = settings.visible.iter().enumerate();
        let devices =
            devices.filter_map(|(i, &slot)| Some(Device::new(slot, *settings.gpus.get(slot)?, i))).collect();
        Fake {
            room,
            initialised: false,
            devices,
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            host: HashMap::new(),
            destroyed: Vec::new(),
            wait: None,
            next: 0x5500_0000_1000,
        }
    }

    /// Runs with the process's driver.
    pub fn with<T>(run: impl FnOnce(&mut Fake) -> T) -> T {
        let mut fake = lock(&FAKE);
        run(fake.get_or_insert_with(|| Fake::new(Room::get())))
    }

    /// A fresh driver with these settings, as in a process that has just begun: for tests that link the library.
    pub fn install(settings: Settings) {
        let mut fake = lock(&FAKE);
        Room::install(settings);
        CURRENT.set(0);
        CAPTURE_MODE.set(0);
        *fake = Some(Fake::new(Room::get()));
    }

    /// A handle that was never given out.
    pub fn handle(&mut self) -> u64 {
        self.next += 0x40;
        self.next
    }

    /// `cuInit` was called.
    pub fn ready(&self) -> Answer {
        if self.initialised { Ok(()) } else { refuse(CUDA_ERROR_NOT_INITIALIZED) }
    }

    /// The device with this number.
    pub fn device(&mut self, number: i32) -> Answer<&mut Device> {
        self.ready()?;
        let device = usize::try_from(number).ok().and_then(|number| self.devices.get_mut(number));
        device.ok_or(Stop::Code(CUDA_ERROR_INVALID_DEVICE))
    }

    /// Handle of this thread's context; 0: none.
    pub fn current_context(&self) -> u64 {
        CURRENT.get()
    }

    /// Makes a context this thread's.
    pub fn set_current(&mut self, context: u64) -> Answer {
        self.ready()?;
        if context != 0 && !self.devices.iter().any(|device| device.context == context) {
            let destroyed = self.destroyed.contains(&context);
            return refuse(if destroyed {
                CUDA_ERROR_CONTEXT_IS_DESTROYED
            } else {
                CUDA_ERROR_INVALID_CONTEXT
            });
        }
        CURRENT.set(context);
        Ok(())
    }

    /// This thread's device, if it can still be used.
    pub fn current(&self) -> Answer<usize> {
        self.ready()?;
        let context = CURRENT.get();
        let found = self.devices.iter().position(|device| context != 0 && device.context == context);
        let Some(index) = found else {
            let destroyed = self.destroyed.contains(&context);
            return refuse(if destroyed {
                CUDA_ERROR_CONTEXT_IS_DESTROYED
            } else {
                CUDA_ERROR_INVALID_CONTEXT
            });
        };
        match self.devices[index].lost {
            Some(code) => refuse(code),
            None => Ok(index),
        }
    }

    /// This thread's device, whatever state it is in.
    pub fn current_device(&mut self) -> Option<&mut Device> {
        let context = CURRENT.get();
        self.devices.iter_mut().find(|device| context != 0 && device.context == context)
    }

    /// A call that might disturb a capture under way: refused where the capture asks for that, which it breaks.
    pub fn may_disturb(&mut self) -> Answer {
        let (mine, strictness) = (std::thread::current().id(), CAPTURE_MODE.get());
        let mut hit = false;
        for capture in self.streams.values_mut().filter_map(|stream| stream.capture.as_mut()) {
            let concerned = match (capture.mode, strictness) {
                (2, _) | (_, 2) => false,
                (0, 0) => true,
                _ => capture.thread == mine,
            };
            capture.broken |= concerned;
            hit |= concerned;
        }
        if hit { refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }

    /// The legacy stream is used: impossible while a stream that waits for it is captured.
    pub fn use_legacy(&mut self, device: usize) -> Answer {
        let mut hit = false;
        for stream in self.streams.values_mut().filter(|stream| stream.device == device && stream.blocking) {
            if let Some(capture) = &mut stream.capture {
                capture.broken = true;
                hit = true;
            }
        }
        if hit { refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) } else { Ok(()) }
    }

    /// Whether nothing of a device ends for now: it hangs, or waits for another.
    pub fn stalls(&self, device: usize) -> bool {
        self.devices[device].hung || crate::nccl::waits(device)
    }

    /// Virtual time of a device.
    #[cfg(test)]
    pub fn now(&self, device: usize) -> f64 {
        self.room.gpu(self.devices[device].slot).map_or(0.0, |(_, meter)| meter.now)
    }

    /// With pacing, the call waits until the work would have ended, had it begun when it was submitted.
    pub fn pace(&mut self, device: usize) {
        if self.room.settings.pace {
            let slot = self.devices[device].slot;
            let end = self.room.gpu(slot).map_or(0.0, |(_, meter)| (meter.now + meter.idle) * 1e-9);
            let ahead = end - self.room.started.elapsed().as_secs_f64();
            self.wait = (ahead > 0.0).then(|| Duration::from_secs_f64(ahead.min(60.0)));
        }
    }
}
