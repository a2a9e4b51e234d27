//! Device profiles.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof::device::DeviceProfile;
use llmroof_fuzz::answered;

fuzz_target!(|text: &str| {
    if let Some(profile) = answered(DeviceProfile::from_toml(text)) {
        assert!(!profile.ceilings().is_empty());
    }
});
