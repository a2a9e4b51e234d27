//! Which CPUs the threads may use, and how large the caches are.

/// Last-level cache assumed where the system does not say.
pub const ASSUMED_CACHE: usize = 32 << 20;

/// Cache sizes of the first CPU in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caches {
    /// Second level, of one core.
    pub second: Option<usize>,
    /// Last level.
    pub last: Option<usize>,
}

impl Caches {
    /// Asks the system.
    pub fn read() -> Caches {
        let mut found = Caches { second: None, last: None };
        let mut highest = 0;
        for index in 0..8 {
            let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
            let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok();
            let (Some(level), Some(size)) = (read("level"), read("size")) else { break };
            let (Ok(level), Some(size)) = (level.trim().parse::<u32>(), parse_size(size.trim())) else {
                continue;
            };
            if read("type").is_some_and(|kind| kind.trim() == "Instruction") {
                continue;
            }
            if level == 2 {
                found.second = Some(size);
            }
            if level >= highest {
                highest = level;
                found.last = Some(size);
            }
        }
        found
    }
}

/// `32768K`, `32M` in bytes.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// CPUs this process may run on, one of every physical core first, then their siblings; and the number of
/// physical cores among them. Empty where threads cannot be pinned.
#[cfg(target_os = "linux")]
pub fn cpus() -> (Vec<usize>, usize) {
    let mut first = Vec::new();
    let mut siblings = Vec::new();
    let mut cores: Vec<String> = Vec::new();
    for &cpu in affinity().unwrap_or_default() {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let core = std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string());
        if cores.contains(&core) {
            siblings.push(cpu);
        } else {
            cores.push(core);
            first.push(cpu);
        }
    }
    let physical = first.len();
    first.append(&mut siblings);
    (first, physical)
}

/// CPUs this process may run on, and the number of physical cores among them: not known here.
#[cfg(not(target_os = "linux"))]
pub fn cpus() -> (Vec<usize>, usize) {
    (Vec::new(), sysinfo::System::physical_core_count().unwrap_or(1))
}

/// CPUs that the process was given, as seen before any thread was pinned; `None` where the system does not say.
pub fn affinity() -> Option<&'static [usize]> {
    static FOUND: std::sync::OnceLock<Option<Vec<usize>>> = std::sync::OnceLock::new();
    FOUND.get_or_init(read_affinity).as_deref()
}

/// Threads that the system lets run at once, as seen before any thread was pinned.
pub fn parallelism() -> usize {
    static FOUND: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// CPUs the calling thread may run on; `None` where the system does not say.
#[cfg(target_os = "linux")]
fn read_affinity() -> Option<Vec<usize>> {
    // SAFETY: the set is plain data that the call fills; its size is passed along.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return None;
        }
        Some((0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

/// CPUs the calling thread may run on: not known here.
#[cfg(not(target_os = "linux"))]
fn read_affinity() -> Option<Vec<usize>> {
    None
}

/// Keeps the calling thread on these CPUs; tells whether that worked.
#[cfg(target_os = "linux")]
pub fn pin(cpus: &[usize]) -> bool {
    // SAFETY: the set is plain data, built here; its size is passed along.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

/// Keeps the calling thread on these CPUs: not possible here.
#[cfg(not(target_os = "linux"))]
pub fn pin(_cpus: &[usize]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("32768K"), Some(32 << 20));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        assert_eq!(parse_size("12 apples"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_allowed_cpu_is_listed_once() {
        let (mut cpus, cores) = cpus();
        assert!(cores >= 1 && cores <= cpus.len());
        cpus.sort_unstable();
        assert_eq!(Some(cpus.as_slice()), affinity());
    }
}
