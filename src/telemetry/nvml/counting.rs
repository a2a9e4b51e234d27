//! Counters of memory traffic and of the matrix units (NVML's GPM, on Hopper and later): two samples, and what lay
//! between them.

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, Nvml};

use super::reason::why;
use crate::telemetry::{Activity, Counting};

/// In the order in which their values are read.
const METRICS: [GpmMetricId; 3] =
    [GpmMetricId::DramBwUtil, GpmMetricId::AnyTensorUtil, GpmMetricId::HmmaTensorUtil];

/// Counters since their first sample.
pub struct Running<'a> {
    nvml: &'static Nvml,
    device: &'a Device<'static>,
    first: GpmSample<'static>,
}

impl<'a> Running<'a> {
    /// Takes the first sample.
    ///
    /// # Errors
    /// Why the GPU has no such counters, in one line.
    pub fn start(nvml: &'static Nvml, device: &'a Device<'static>) -> Result<Running<'a>, String> {
        // The wrapper frees a sample when it is dropped, and panics where that function is missing.
        if nvml.lib().nvmlGpmSampleFree.is_err() {
            return Err("this driver's NVML has no performance counters".into());
        }
        match device.gpm_support() {
            Ok(true) => {}
            Ok(false) => return Err("only Hopper and later have counters of memory traffic in NVML".into()),
            Err(e) => return Err(why(&e)),
        }
        Ok(Running { nvml, device, first: device.gpm_sample().map_err(|e| why(&e))? })
    }
}

impl Counting for Running<'_> {
    fn end(self: Box<Self>) -> Result<Activity, String> {
        let last = self.device.gpm_sample().map_err(|e| why(&e))?;
        let values = gpm_metrics_get(self.nvml, &self.first, &last, &METRICS).map_err(|e| why(&e))?;
        activity(values.into_iter().map(|metric| metric.map(|result| result.value).map_err(|e| why(&e))))
    }
}

/// Shares from the percentages of [`METRICS`]. The second and third stand for the same: not every GPU has both.
fn activity(percentages: impl IntoIterator<Item = Result<f64, String>>) -> Result<Activity, String> {
    let mut shares = percentages.into_iter().map(|answer| {
        answer.and_then(|percent| match percent {
            percent if percent.is_finite() && percent >= 0.0 => Ok(percent / 100.0),
            percent => Err(format!("the counter says {percent}%")),
        })
    });
    let mut next = || shares.next().unwrap_or_else(|| Err("no data".into()));
    let memory = next()?;
    let (any, half) = (next(), next());
    Ok(Activity { memory, tensor: any.or(half).ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<f64, String> {
        Err("not supported by this GPU or driver".into())
    }

    #[test]
    fn percentages_become_shares() {
        let both = activity([Ok(92.5), Ok(12.0), Ok(11.0)]).unwrap();
        assert_eq!(both, Activity { memory: 0.925, tensor: Some(0.12) });
        assert_eq!(activity([Ok(50.0), refused(), Ok(25.0)]).unwrap().tensor, Some(0.25));
    }

    #[test]
    fn what_is_refused_or_no_number_is_never_zero() {
        assert_eq!(activity([Ok(50.0), refused(), refused()]).unwrap().tensor, None);
        assert_eq!(activity([Ok(50.0), Ok(f64::NAN), refused()]).unwrap().tensor, None);
        assert!(activity([refused(), Ok(1.0), Ok(1.0)]).is_err());
        assert!(activity([Ok(f64::NAN), Ok(1.0), Ok(1.0)]).unwrap_err().contains("NaN"));
        assert!(activity([]).is_err());
    }
}
