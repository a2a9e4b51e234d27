//! The machine that this program runs on, its command line, and the time.

use sysinfo::System;

use crate::run::Host;

/// Describes this machine.
pub fn describe() -> Host {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_all();
    let cpu = system.cpus().first().map(|cpu| cpu.brand().trim().to_string());
    Host {
        os: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
        arch: std::env::consts::ARCH.into(),
        cpu: cpu.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into()),
        physical_cores: System::physical_core_count().and_then(|n| u32::try_from(n).ok()),
        logical_cores: u32::try_from(system.cpus().len()).unwrap_or(u32::MAX),
        memory_bytes: system.total_memory() as f64,
    }
}

/// The command line. Names of files need not be UTF-8: what is not is shown by a sign that says so.
pub fn argv() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Now, RFC 3339 in UTC, to the second.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
