//! Who else computes on the GPU.

use std::collections::BTreeSet;

/// How many of the processes that NVML lists are not this one. NVML gives the numbers of the machine, not those of a
/// container, so there this process cannot be told from the others: it counts as one of those listed.
///
/// # Errors
/// In a container with one process listed: it may be this one.
pub fn others(listed: &BTreeSet<u32>, own: u32, contained: bool) -> Result<u32, &'static str> {
    let count = |pids: usize| u32::try_from(pids).unwrap_or(u32::MAX);
    let foreign = listed.iter().filter(|&&pid| pid != own).count();
    if foreign < listed.len() || !contained {
        return Ok(count(foreign));
    }
    match listed.len() {
        0 => Ok(0),
        1 => Err("one process is listed, and in a container it may be this one"),
        more => Ok(count(more - 1)),
    }
}

/// Whether this process has other numbers than the machine gives it. Where the system does not say, it has not.
pub fn contained() -> bool {
    // The number of the first namespace is fixed in the kernel (PROC_PID_INIT_INO).
    std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|namespace| namespace.to_str().is_some_and(|name| name != "pid:[4026531836]"))
}

#[cfg(test)]
mod tests {
    fn others(listed: &[u32], own: u32, contained: bool) -> Result<u32, &'static str> {
        super::others(&listed.iter().copied().collect(), own, contained)
    }

    #[test]
    fn on_the_machine_itself_only_this_process_is_left_out() {
        assert_eq!(others(&[], 7, false), Ok(0));
        assert_eq!(others(&[7], 7, false), Ok(0));
        assert_eq!(others(&[7, 8, 9], 7, false), Ok(2));
        assert_eq!(others(&[8], 7, false), Ok(1));
    }

    #[test]
    fn in_a_container_this_process_may_be_any_of_those_listed() {
        assert_eq!(others(&[], 7, true), Ok(0));
        assert!(others(&[4242], 7, true).is_err());
        assert_eq!(others(&[4242, 4243, 4244], 7, true), Ok(2));
        // A driver that does translate the numbers.
        assert_eq!(others(&[7], 7, true), Ok(0));
        assert_eq!(others(&[7, 8], 7, true), Ok(1));
    }
}
