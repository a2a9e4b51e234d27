//! Why NVML refused something, in words.

use std::collections::BTreeMap;

use nvml_wrapper::error::NvmlError;

/// The reason in a few words, to stand after a field's name.
pub fn why(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => "not supported by this GPU or driver".into(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            "not known to this driver's NVML".into()
        }
        NvmlError::NoPermission => "no permission".into(),
        NvmlError::OperatingSystem => "blocked by the operating system or the container".into(),
        NvmlError::GpuLost => "the GPU is lost: it fell off the bus".into(),
        NvmlError::ResetRequired => "the GPU needs a reset".into(),
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".into(),
        NvmlError::Uninitialized => "NVML is no longer there".into(),
        NvmlError::LibRmVersionMismatch => {
            "NVML and the loaded driver are of different versions: reboot after an update".into()
        }
        NvmlError::InvalidArg | NvmlError::NotFound => "no such GPU".into(),
        NvmlError::NoData => "no data".into(),
        NvmlError::UnexpectedVariant(code) => format!("NVML gave the unknown answer {code}"),
        // One line, whatever the library put into it.
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Collects the reasons of the fields that stay `None`.
#[derive(Debug, Default)]
pub struct Refusals {
    pub reasons: BTreeMap<&'static str, String>,
}

impl Refusals {
    /// The value, or `None` with its reason noted under this field's name.
    pub fn take<T>(&mut self, field: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        answer.map_err(|error| self.add(field, why(&error))).ok()
    }

    /// Notes why this field is `None`.
    pub fn add(&mut self, field: &'static str, reason: impl Into<String>) {
        self.reasons.insert(field, reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_field_has_its_reason_and_the_others_their_values() {
        let mut refused = Refusals::default();
        assert_eq!(refused.take("ecc", Ok(true)), Some(true));
        assert_eq!(refused.take::<u32>("mig", Err(NvmlError::NotSupported)), None);
        assert_eq!(refused.take::<u32>("power_watts", Err(NvmlError::GpuLost)), None);
        assert_eq!(refused.reasons.len(), 2);
        assert_eq!(refused.reasons["mig"], "not supported by this GPU or driver");
        assert!(refused.reasons["power_watts"].contains("lost"));
    }

    #[test]
    fn reasons_are_one_line() {
        let errors = [
            NvmlError::FailedToLoadSymbol("undefined\nsymbol".into()),
            NvmlError::StringTooLong { max_len: 1, actual_len: 2 },
            NvmlError::UnexpectedVariant(4711),
            NvmlError::Unknown,
            NvmlError::Timeout,
        ];
        for error in errors {
            let reason = why(&error);
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
        }
        assert!(why(&NvmlError::UnexpectedVariant(4711)).contains("4711"));
    }
}
