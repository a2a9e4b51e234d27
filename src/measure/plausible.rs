//! Times that no device can have taken: a clock that says so is not measured with.

use crate::backend::{Execution, Probe, Probed, Repeated};
use crate::error::{Failure, Result};
use crate::workload::Stage;

/// Checks `n` executions of a pass: each step took some time, no stage took less than none. A stage of exactly zero
/// is shorter than the clock's tick.
///
/// # Errors
/// [`crate::error::Code::Invalid`], naming pass and part.
pub(super) fn executions(pass: &str, n: usize, executions: &[Execution]) -> Result<()> {
    if executions.len() != n {
        return Err(lying(format!("{pass}: {} executions came back of {n}", executions.len())));
    }
    for execution in executions {
        let step = execution.seconds;
        if !(step.is_finite() && step > 0.0) {
            return Err(lying(format!("{pass}: a step took {step} s by the device's clock")));
        }
        for (stage, seconds) in Stage::ALL.into_iter().zip(execution.stages) {
            if !(seconds.is_finite() && seconds >= 0.0) {
                return Err(lying(format!("{pass}: {stage} took {seconds} s by the device's clock")));
            }
        }
        if let Some(wall) = execution.wall_seconds.filter(|wall| !(wall.is_finite() && *wall >= 0.0)) {
            return Err(lying(format!("{pass}: a step took {wall} s by the host's clock")));
        }
    }
    Ok(())
}

/// Checks executions back to back.
///
/// # Errors
/// As [`executions`].
pub(super) fn repeated(pass: &str, repeated: &Repeated) -> Result<()> {
    match repeated.seconds {
        seconds if seconds.is_finite() && seconds > 0.0 && repeated.executions > 0 => Ok(()),
        seconds => Err(lying(format!(
            "{pass}: {} steps in a row took {seconds} s by the device's clock",
            repeated.executions
        ))),
    }
}

/// The rate of a probe.
///
/// # Errors
/// It is no positive number, or no work was done in it.
pub(super) fn rate(probe: Probe, probed: Probed) -> Result<f64> {
    let rate = probed.rate();
    if rate.is_finite() && rate > 0.0 && probed.seconds > 0.0 {
        return Ok(rate);
    }
    Err(lying(format!("the probe {probe:?} did {} in {} s", probed.amount, probed.seconds)))
}

fn lying(what: String) -> Failure {
    Failure::invalid(what).hint(
        "no such time can be: the device's clock or its driver is at fault, restart the device or report it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution() -> Execution {
        Execution { seconds: 2.0, stages: [0.1; 7], repeats: 1, wall_seconds: Some(2.1) }
    }

    fn refused(change: impl Fn(&mut Execution)) -> String {
        let mut wrong = execution();
        change(&mut wrong);
        let all = [execution(), wrong];
        executions("decode batch 8", 2, &all).unwrap_err().to_string()
    }

    #[test]
    fn a_time_that_cannot_be_is_refused_by_the_name_of_its_pass_and_part() {
        executions("decode batch 8", 1, &[execution()]).unwrap();
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let said = refused(|e| e.seconds = step);
            assert!(said.starts_with("decode batch 8: a step took "), "{said}");
        }
        for stage in [-1e-9, f64::NAN, f64::INFINITY] {
            let said = refused(|e| e.stages[1] = stage);
            assert!(said.starts_with("decode batch 8: qkv took "), "{said}");
        }
        assert!(refused(|e| e.wall_seconds = Some(-1.0)).contains("host's clock"));
        assert!(executions("prefill", 2, &[execution()]).is_err(), "one is missing");
    }

    #[test]
    fn a_stage_that_the_clock_does_not_resolve_is_no_lie() {
        let mut short = execution();
        short.stages[0] = 0.0;
        executions("decode", 1, &[short]).unwrap();
    }

    #[test]
    fn a_probe_must_have_done_something_in_some_time() {
        let probed = |amount, seconds| rate(Probe::MemoryRead, Probed { amount, seconds });
        assert_eq!(probed(10.0, 2.0).unwrap(), 5.0);
        for (amount, seconds) in
            [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (-1.0, -1.0), (f64::NAN, 1.0), (1.0, f64::NAN)]
        {
            assert!(probed(amount, seconds).is_err(), "{amount} in {seconds}");
        }
    }

    #[test]
    fn executions_in_a_row_take_time_together() {
        repeated("decode", &Repeated { executions: 3, seconds: 1.0 }).unwrap();
        for (executions, seconds) in [(0, 1.0), (3, 0.0), (3, -1.0), (3, f64::NAN)] {
            assert!(repeated("decode", &Repeated { executions, seconds }).is_err());
        }
    }
}
