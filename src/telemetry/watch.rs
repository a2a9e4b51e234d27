//! Reads a GPU's sensors beside a measurement, from a thread of its own.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Reading, Sensors};

/// Readings that are kept: two hours of ten a second. Then the oldest go.
const KEPT: usize = 72_000;
/// How long a driver that does not answer may hold up the end.
const PATIENCE: Duration = Duration::from_secs(2);

type Readings = Arc<Mutex<VecDeque<Reading>>>;

/// A thread that reads the sensors until this is dropped.
#[derive(Debug)]
pub struct Watch {
    readings: Readings,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins with a reading at once, then one every so often. Where no thread can be had there are no readings.
    pub fn start(sensors: Arc<dyn Sensors>, every: Duration) -> Watch {
        let readings = Readings::default();
        let (stop, stopped) = mpsc::channel::<()>();
        let kept = Arc::clone(&readings);
        let watching = move || {
            let mut due = Instant::now();
            loop {
                let reading = sensors.reading();
                {
                    let mut kept = locked(&kept);
                    if kept.len() == KEPT {
                        kept.pop_front();
                    }
                    kept.push_back(reading);
                }
                let now = Instant::now();
                due += every;
                if due <= now {
                    // Readings that take long are not made up for: the driver would be asked back to back.
                    due = now + every;
                }
                match stopped.recv_timeout(due.saturating_duration_since(now)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        };
        let thread = thread::Builder::new().name("sensors".into()).spawn(watching).ok();
        Watch { readings, stop: Some(stop), thread }
    }

    /// What was read so far, the oldest first.
    pub fn readings(&self) -> Vec<Reading> {
        locked(&self.readings).iter().cloned().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        let Some(thread) = self.thread.take() else { return };
        // A call into a driver that hangs must not hang the program too: its thread is left behind.
        let until = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            if Instant::now() >= until {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

/// Nothing that holds the lock can panic halfway through a change.
fn locked(readings: &Mutex<VecDeque<Reading>>) -> MutexGuard<'_, VecDeque<Reading>> {
    readings.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Counting, Facts};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives one power after the other, then dies.
    struct Script {
        watts: Vec<f64>,
        calls: AtomicUsize,
        hang: Duration,
    }

    impl Script {
        fn new(watts: &[f64], hang: Duration) -> Arc<Script> {
            Arc::new(Script { watts: watts.to_vec(), calls: AtomicUsize::new(0), hang })
        }
    }

    impl Sensors for Script {
        fn facts(&self) -> Facts {
            Facts::default()
        }

        fn reading(&self) -> Reading {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            thread::sleep(self.hang);
            let power_watts = self.watts.get(call).copied();
            let lost = power_watts.is_none().then(|| ("power_watts", "the GPU is lost".to_owned()));
            Reading {
                at: Instant::now(),
                power_watts,
                sm_clock_hz: None,
                memory_clock_hz: None,
                temperature_celsius: None,
                throttle_reasons: None,
                unavailable: lost.into_iter().collect(),
            }
        }

        fn joules(&self) -> Result<f64, String> {
            Err("none".into())
        }

        fn count(&self) -> Result<Box<dyn Counting + '_>, String> {
            Err("none".into())
        }
    }

    #[test]
    fn readings_come_in_order_and_go_on_when_the_gpu_is_lost() {
        let script = Script::new(&[100.0, 200.0, 300.0], Duration::ZERO);
        let watch = Watch::start(script.clone(), Duration::from_millis(1));
        while script.calls.load(Ordering::SeqCst) < 6 {
            thread::yield_now();
        }
        let readings = watch.readings();
        assert!(readings.len() >= 5);
        let watts: Vec<Option<f64>> = readings.iter().take(5).map(|reading| reading.power_watts).collect();
        assert_eq!(watts, [Some(100.0), Some(200.0), Some(300.0), None, None]);
        assert_eq!(readings[3].unavailable["power_watts"], "the GPU is lost");
        assert!(readings.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn a_watch_that_was_dropped_reads_no_more() {
        let script = Script::new(&[], Duration::ZERO);
        drop(Watch::start(script.clone(), Duration::from_millis(1)));
        // The thread was joined: it is not reading any more.
        let calls = script.calls.load(Ordering::SeqCst);
        assert_eq!(Arc::strong_count(&script), 1);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(script.calls.load(Ordering::SeqCst), calls);
    }

    #[test]
    fn the_end_does_not_wait_for_the_next_reading() {
        let script = Script::new(&[], Duration::ZERO);
        let watch = Watch::start(script.clone(), Duration::from_secs(3600));
        while script.calls.load(Ordering::SeqCst) < 1 {
            thread::yield_now();
        }
        drop(watch);
        assert_eq!(Arc::strong_count(&script), 1);
    }

    #[test]
    fn a_driver_that_hangs_does_not_hang_the_program() {
        let script = Script::new(&[], Duration::from_secs(3600));
        let watch = Watch::start(script.clone(), Duration::from_millis(1));
        while script.calls.load(Ordering::SeqCst) < 1 {
            thread::yield_now();
        }
        drop(watch);
        // Its thread is still in the call.
        assert_eq!(Arc::strong_count(&script), 2);
    }
}
