//! What both libraries share: the settings, the faults, and for every GPU its virtual clock and meters. NVML is
//! answered from here without waiting for what CUDA executes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::costs::{Cost, Unit};
use crate::faults::Faults;
use crate::identity::Identity;
use crate::settings::{Energy, Settings, Throttle};

/// Locks, also after a panic with the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Debug)]
pub struct Room {
    /// As read at the start.
    pub settings: Settings,
    /// Counted as they are asked for.
    pub faults: Mutex<Faults>,
    /// By slot.
    pub meters: Vec<Mutex<Meter>>,
    /// When the library was first called.
    pub started: Instant,
}

static ROOM: Mutex<Option<Arc<Room>>> = Mutex::new(None);

impl Room {
    fn new(settings: Settings) -> Room {
        Room {
            faults: Mutex::new(settings.faults.clone()),
            meters: settings.gpus.iter().map(|_| Mutex::new(Meter::default())).collect(),
            started: Instant::now(),
            settings,
        }
    }

    /// The process's; the first call reads the environment.
    pub fn get() -> Arc<Room> {
        let mut room = lock(&ROOM);
        let made = room.get_or_insert_with(|| {
            let settings = Settings::from_environment().unwrap_or_else(|trouble| {
                // A test that is set up wrongly must not pass by accident.
                eprintln!("fake driver: {trouble}");
                std::process::abort();
            });
            Arc::new(Room::new(settings))
        });
        Arc::clone(made)
    }

    /// Replaces it by one with these settings: for tests that link the library.
    pub fn install(settings: Settings) {
        *lock(&ROOM) = Some(Arc::new(Room::new(settings)));
    }

    /// What is to be answered now, if this call is to fail.
    pub fn strike(&self, function: &str, kernel: Option<&str>) -> Option<i64> {
        lock(&self.faults).strike(function, kernel)
    }

    /// The GPU in a slot with its meter.
    pub fn gpu(&self, slot: usize) -> Option<(&Identity, MutexGuard<'_, Meter>)> {
        Some((self.settings.gpus.get(slot)?, lock(self.meters.get(slot)?)))
    }

    /// Whether clocks are held back on this GPU.
    pub fn throttled(&self, meter: &Meter) -> bool {
        match self.settings.throttle {
            Throttle::Never => false,
            Throttle::After(launches) => meter.launches >= launches,
        }
    }

    /// Says on stderr what went wrong, where that is wanted.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.settings.verbose {
            eprintln!("fake driver: {}", what());
        }
    }
}

/// How work comes to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By a call of its own.
    Direct,
    /// As a node of a graph.
    Graph,
}

/// The virtual clock of a GPU and what else grows with its work. Times are nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Device time so far: all work, one after the other.
    pub now: f64,
    /// With pacing, how long the device had nothing to do: `now` and this are never behind the host's clock when work
    /// begins.
    pub idle: f64,
    /// Launches so far, a graph's as one.
    pub launches: u64,
    /// Joules beyond idling.
    pub joules: f64,
    /// Bytes from and to memory.
    pub bytes: f64,
    /// Time at which the matrix units were busy.
    pub matrix: f64,
    /// Watts of the last work, and when it was submitted.
    pub last: Option<(f64, Instant)>,
    /// Bytes that this process has allocated.
    pub allocated: u64,
    /// This process has a context there.
    pub context: bool,
    steps: u64,
    /// Of the whole graph that runs.
    graph_jitter: f64,
    energy: (u64, f64),
}

/// Nanoseconds of a copy between host and device before its first byte.
const COPY: f64 = 4_000.0;
/// Seconds after its last work for which a GPU still looks busy.
const AFTERGLOW: f64 = 2.0;

impl Meter {
    /// A number around 0 with a deviation of about 1, the same in every run.
    fn jitter(&mut self, seed: u64) -> f64 {
        self.steps += 1;
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.steps;
        let mut sum = 0.0;
        for _ in 0..4 {
            bits =
                (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 27;
            sum += (bits >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        sum * 1.732
    }

    /// A launch, of a graph or by itself.
    pub fn launch(&mut self, room: &Room) {
        self.launches += 1;
        self.graph_jitter = 0.002 * self.jitter(room.settings.seed);
    }

    /// Work begins; not before it was submitted.
    fn begin(&mut self, room: &Room) {
        if room.settings.pace {
            self.idle = self.idle.max(room.started.elapsed().as_secs_f64() * 1e9 - self.now);
        }
    }

    /// The clock runs over a piece of work. `early`: it began while the one before drained.
    pub fn work(&mut self, room: &Room, gpu: &Identity, cost: &Cost, place: Place, early: bool) {
        self.begin(room);
        let bandwidth = gpu.bandwidth * cost.of_bandwidth;
        let memory = cost.bytes / bandwidth * 1e9;
        let peak = match cost.unit {
            Unit::Bf16 => gpu.peaks.bf16,
            Unit::F16 => gpu.peaks.f16,
            Unit::Int8 => gpu.peaks.int8,
            Unit::Fp8 => gpu.peaks.fp8,
            Unit::F32 => gpu.peaks.f32,
        };
        let compute = cost.flops / (peak * cost.of_peak) * 1e9;
        let fixed = cost.fixed
            + match (place, early) {
                (Place::Graph, true) => 0.9e3,
                (Place::Graph, false) => 1.3e3,
                (Place::Direct, true) => 1.6e3,
                (Place::Direct, false) => 2.5e3,
            };
        let ideal = memory.max(compute);
        let share = if ideal > 0.0 { (0.62 * memory / ideal).max(0.95 * compute / ideal) } else { 0.1 };
        let jitter = 1.0 + self.graph_jitter + 0.002 * self.jitter(room.settings.seed);
        let held_back = if room.throttled(self) { 1.25 } else { 1.0 };
        let duration = (ideal + fixed) * jitter * held_back * room.settings.slowdown;
        let watts = gpu.idle + (gpu.power - gpu.idle) * share;
        self.now += duration;
        self.joules += (watts - gpu.idle) * duration * 1e-9;
        self.last = Some((watts, Instant::now()));
        if !cost.cached {
            self.bytes += cost.bytes;
        }
        if cost.unit != Unit::F32 && compute > 0.0 {
            // As a fraction of the units' peak.
            self.matrix += compute * cost.of_peak * room.settings.slowdown;
        }
    }

    /// A copy between host and device.
    pub fn copy(&mut self, room: &Room, bytes: u64) {
        self.begin(room);
        self.now += (COPY + bytes as f64 / 25e9 * 1e9) * room.settings.slowdown;
        self.bytes += bytes as f64;
    }

    /// Watts of the work under way; `None` where there is none.
    pub fn busy(&self) -> Option<f64> {
        self.last.filter(|(_, when)| when.elapsed().as_secs_f64() < AFTERGLOW).map(|(watts, _)| watts)
    }

    /// The energy counter in joules. It moves every 100 ms, of host and virtual time together.
    pub fn energy(&mut self, room: &Room, gpu: &Identity) -> f64 {
        let host = room.started.elapsed().as_secs_f64();
        let tick = ((host + self.now * 1e-9) * 10.0) as u64 + 1;
        if tick > self.energy.0 {
            // Since the machine booted, as the real one.
            let used = match room.settings.energy {
                Energy::Counts => gpu.idle * host + self.joules,
                Energy::Stuck => 0.0,
                Energy::Backwards => -gpu.idle * host,
            };
            self.energy = (tick, 1e6 + used);
        }
        self.energy.1
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, Place, Room};
    use crate::costs::Cost;
    use crate::settings::Settings;

    #[test]
    fn the_clock_runs_at_the_gpu_s_rates_and_repeats_itself() {
        let room = Room::new(Settings::read(|_| None).unwrap());
        let gpu = room.settings.gpus[0];
        let run = || {
            let mut meter = Meter::default();
            for _ in 0..100 {
                meter.work(&room, &gpu, &Cost::memory(3.35e9, 1.0), Place::Graph, false);
            }
            meter
        };
        let meter = run();
        // A millisecond each, a little for the launch, and a jitter that averages out.
        assert!((meter.now / 100e6 - 1.0013).abs() < 2e-3, "{}", meter.now);
        assert_eq!(run().now, meter.now);
        assert_eq!(meter.bytes, 3.35e11);
        // 0.62 of the range between idling and the limit for a tenth of a second.
        assert!((meter.joules / (630.0 * 0.62 * meter.now * 1e-9) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn throttling_slows_down_once_it_begins() {
        let read = |name: &str| (name == "FAKE_DRIVER_THROTTLE").then(|| "after:2".to_string());
        let room = Room::new(Settings::read(read).unwrap());
        let mut meter = Meter::default();
        let mut took = Vec::new();
        for _ in 0..3 {
            let before = meter.now;
            meter.launch(&room);
            meter.work(&room, &room.settings.gpus[0], &Cost::memory(1e9, 0.9), Place::Direct, false);
            took.push(meter.now - before);
        }
        assert!(took[1] > 1.2 * took[0] && (took[2] / took[1] - 1.0).abs() < 0.03, "{took:?}");
    }
}
