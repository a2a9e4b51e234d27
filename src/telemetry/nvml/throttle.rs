//! Names of the bits by which NVML says what holds the clocks back.

use std::sync::LazyLock;

/// Bits that say something about the clocks but hold back nothing that could run faster: an idle GPU, and clocks
/// that someone set.
const NO_THROTTLING: u64 = 0x1 | 0x2;

/// NVML's own names.
const NAMED: [(u64, &str); 7] = [
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
];

/// Every bit's name, in order. A bit that this version does not know keeps its number.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..u64::BITS)
        .map(|at| {
            let bit = 1_u64 << at;
            let known = NAMED.iter().find(|(known, _)| *known == bit);
            known.map_or_else(|| format!("{bit:#x}"), |(_, name)| (*name).to_owned())
        })
        .collect()
});

/// The reasons among these bits, in their order; empty where nothing holds the clocks.
pub fn names(bits: u64) -> Vec<&'static str> {
    let throttling = bits & !NO_THROTTLING;
    NAMES
        .iter()
        .enumerate()
        .filter(|(at, _)| throttling >> at & 1 == 1)
        .map(|(_, name)| name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml_wrapper::bitmasks::device::ThrottleReasons;

    #[test]
    fn idle_and_chosen_clocks_are_no_throttling() {
        assert!(names(0).is_empty());
        let bits = ThrottleReasons::GPU_IDLE | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING;
        assert!(names(bits.bits()).is_empty());
        assert_eq!(names((bits | ThrottleReasons::SW_POWER_CAP).bits()), ["sw_power_cap"]);
    }

    /// The names here against the wrapper's, which has them from nvml.h.
    #[test]
    fn every_bit_that_nvml_names_has_that_name() {
        let mut seen = 0;
        for (name, reason) in ThrottleReasons::all().iter_names() {
            if reason.bits() & !NO_THROTTLING != 0 {
                assert_eq!(names(reason.bits()), [name.to_lowercase()]);
                seen += 1;
            }
        }
        assert_eq!(seen, NAMED.len());
    }

    #[test]
    fn unknown_bits_keep_their_number() {
        assert_eq!(names(0x8 | 0x200 | 1 << 63), ["hw_slowdown", "0x200", "0x8000000000000000"]);
    }
}
