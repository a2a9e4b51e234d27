//! How much of the machine others used while something was measured.

use std::time::Instant;

/// What others use of the machine.
pub trait Load {
    /// CPU cores' worth of work that others did since the measurement began; `None` where that is not known.
    fn cores(&self) -> Option<f64>;
}

/// CPU seconds of the whole machine and of this process at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    all: f64,
    own: f64,
}

/// Measures the load of other processes from [`ForeignLoad::start`] on.
#[derive(Debug)]
pub struct ForeignLoad {
    start: Option<(Reading, Instant)>,
}

impl ForeignLoad {
    /// Begins now.
    pub fn start() -> ForeignLoad {
        ForeignLoad { start: reading().map(|reading| (reading, Instant::now())) }
    }
}

impl Load for ForeignLoad {
    /// Time stolen by a hypervisor included; `None` where the system does not say.
    fn cores(&self) -> Option<f64> {
        let (first, since) = self.start?;
        let now = reading()?;
        let others = (now.all - first.all) - (now.own - first.own);
        let seconds = since.elapsed().as_secs_f64();
        (seconds > 0.0).then(|| (others / seconds).max(0.0))
    }
}

#[cfg(target_os = "linux")]
fn reading() -> Option<Reading> {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    if ticks <= 0.0 {
        return None;
    }
    let all = busy_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
    let own = own_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(Reading { all: all as f64 / ticks, own: own as f64 / ticks })
}

#[cfg(not(target_os = "linux"))]
fn reading() -> Option<Reading> {
    None
}

/// Ticks that all CPUs were busy: user, nice, system, irq, softirq, steal of the first line of /proc/stat.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _iowait) = (next()?, next()?);
    let (irq, softirq, steal) = (next()?, next()?, next().unwrap_or(0));
    user.checked_add(nice)?.checked_add(system)?.checked_add(irq)?.checked_add(softirq)?.checked_add(steal)
}

/// Ticks of this process: fields 14 and 15 of /proc/self/stat, counted after the name in parentheses.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn own_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_that_count_as_busy() {
        let stat = "cpu  100 10 20 5000 300 1 2 40 0 0\ncpu0 50 5 10 2500 150 0 1 20 0 0\n";
        assert_eq!(busy_ticks(stat), Some(100 + 10 + 20 + 1 + 2 + 40));
        assert_eq!(busy_ticks("nonsense"), None);
    }

    #[test]
    fn reads_past_a_process_name_with_spaces_and_parentheses() {
        let stat = "42 (a (b) c) R 1 42 42 0 -1 4194304 100 0 0 0 700 30 0 0 20 0 2 0 12345";
        assert_eq!(own_ticks(stat), Some(730));
    }
}
