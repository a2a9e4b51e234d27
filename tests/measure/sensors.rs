//! Sensors of a scripted GPU, which see what it does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use llmroof::measure::Time;
use llmroof::telemetry::{Activity, Counting, Facts, Reading, Sensors};

use crate::scripted::Scripted;
use crate::virtual_time::VirtualTime;

/// Power at work.
pub const WATTS: f64 = 500.0;
/// Share of the ledger's bytes that the memory really moves.
pub const TRAFFIC: f64 = 1.02;
/// Theoretical bandwidth of the scripted GPU.
const BANDWIDTH: f64 = 64e9;

/// What the device has done.
#[derive(Debug, Default)]
pub struct World {
    /// Passes that were prepared.
    pub prepared: usize,
    joules: f64,
    bytes: f64,
    seconds: f64,
}

impl World {
    /// Work without pauses that takes so long and moves so many bytes of the ledger.
    pub fn work(&mut self, seconds: f64, bytes: f64) {
        self.joules += WATTS * seconds;
        self.bytes += bytes * TRAFFIC;
        self.seconds += seconds;
    }
}

/// What the sensors say; passes are counted from one as they are prepared.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub world: Arc<Mutex<World>>,
    /// The device's clock.
    pub time: VirtualTime,
    /// The pass from which on the clocks are held down.
    pub throttled_from: Option<usize>,
    /// The pass from which on nothing is known any more.
    pub silent_from: Option<usize>,
    /// Share of the clock that is lost in each second of the device's time.
    pub sliding: f64,
    /// Other processes.
    pub others: u32,
    /// There are no counters of traffic.
    pub no_counters: bool,
}

impl Script {
    /// Those of this device.
    pub fn of(session: &Scripted) -> Script {
        Script { world: Arc::clone(&session.world), time: session.time.clone(), ..Script::default() }
    }

    /// For `measure`.
    pub fn shared(&self) -> Result<Arc<dyn Sensors>, String> {
        Ok(Arc::new(self.clone()))
    }

    fn reached(&self, pass: Option<usize>) -> bool {
        pass.is_some_and(|pass| self.world.lock().unwrap().prepared >= pass)
    }
}

impl Sensors for Script {
    fn facts(&self) -> Facts {
        Facts {
            driver: Some("570.86.15".into()),
            ecc: Some(true),
            power_limit_watts: Some(700.0),
            other_processes: Some(self.others),
            unavailable: BTreeMap::from([("mig", "not supported by this GPU".into())]),
            ..Facts::default()
        }
    }

    fn reading(&self) -> Reading {
        let throttled = self.reached(self.throttled_from);
        let mut reading = Reading {
            at: self.time.now(),
            power_watts: Some(if self.reached(Some(1)) { WATTS } else { 75.0 }),
            sm_clock_hz: Some(if throttled {
                1.2e9
            } else {
                1.98e9 * (1.0 - self.sliding * self.time.seconds())
            }),
            memory_clock_hz: Some(1e9),
            temperature_celsius: Some(50.0),
            throttle_reasons: Some(if throttled { vec!["power_cap"] } else { Vec::new() }),
            unavailable: BTreeMap::new(),
        };
        if self.reached(self.silent_from) {
            reading.power_watts = None;
            reading.throttle_reasons = None;
            reading.unavailable = BTreeMap::from([("power_watts", "the GPU is lost".into())]);
        }
        reading
    }

    fn joules(&self) -> Result<f64, String> {
        if self.reached(self.silent_from) {
            return Err("the GPU is lost".into());
        }
        Ok(1e6 + self.world.lock().unwrap().joules)
    }

    fn count(&self) -> Result<Box<dyn Counting + '_>, String> {
        if self.no_counters {
            return Err("counters are there from Hopper on".into());
        }
        let world = self.world.lock().unwrap();
        Ok(Box::new(Counts { script: self, bytes: world.bytes, seconds: world.seconds }))
    }
}

struct Counts<'a> {
    script: &'a Script,
    bytes: f64,
    seconds: f64,
}

impl Counting for Counts<'_> {
    fn end(self: Box<Self>) -> Result<Activity, String> {
        let world = self.script.world.lock().unwrap();
        let memory = (world.bytes - self.bytes) / (world.seconds - self.seconds) / BANDWIDTH;
        Ok(Activity { memory, tensor: Some(0.25) })
    }
}
