//! Energy of the CPU packages from the kernel's powercap files (RAPL, on Intel and AMD).

use std::fs;
use std::path::{Path, PathBuf};

use super::EnergyMeter;

/// One package's counter.
#[derive(Debug)]
struct Domain {
    file: PathBuf,
    /// The counter begins again at zero after this many microjoules.
    range: u64,
    last: u64,
    total: u64,
}

/// The packages of this machine.
#[derive(Debug)]
pub struct Rapl {
    name: String,
    domains: Vec<Domain>,
}

impl Rapl {
    /// Opens the package counters below `powercap`.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn open(powercap: &Path) -> Result<Rapl, String> {
        let folders = fs::read_dir(powercap).map_err(|_| format!("{} does not exist", powercap.display()))?;
        let mut packages: Vec<PathBuf> = folders
            .flatten()
            .map(|entry| entry.path())
            // `intel-rapl:0` is a package (AMD's too); `intel-rapl:0:0` is a part of one.
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'))
            })
            .collect();
        packages.sort();
        let mut domains = Vec::new();
        let mut names = Vec::new();
        for package in packages {
            let file = package.join("energy_uj");
            let last = read(&file).map_err(|e| format!("{} is not readable: {e}", file.display()))?;
            let range = read(&package.join("max_energy_range_uj")).unwrap_or(u64::MAX);
            names.push(fs::read_to_string(package.join("name")).unwrap_or_default().trim().to_owned());
            domains.push(Domain { file, range, last, total: 0 });
        }
        if domains.is_empty() {
            return Err(format!("{} lists no CPU package", powercap.display()));
        }
        Ok(Rapl { name: format!("RAPL {}", names.join(" ")), domains })
    }
}

impl EnergyMeter for Rapl {
    fn name(&self) -> &str {
        &self.name
    }

    fn joules(&mut self) -> Option<f64> {
        for domain in &mut self.domains {
            let now = read(&domain.file).ok()?;
            let step = if now >= domain.last {
                now - domain.last
            } else {
                now.saturating_add(domain.range.saturating_sub(domain.last))
            };
            domain.total = domain.total.saturating_add(step);
            domain.last = now;
        }
        Some(self.domains.iter().map(|domain| domain.total as f64 * 1e-6).sum())
    }
}

fn read(file: &Path) -> std::io::Result<u64> {
    fs::read_to_string(file)?.trim().parse().map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_when_the_counter_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("intel-rapl:0");
        fs::create_dir(&package).unwrap();
        fs::create_dir(folder.path().join("intel-rapl:0:0")).unwrap();
        fs::write(package.join("name"), "package-0\n").unwrap();
        fs::write(package.join("max_energy_range_uj"), "10000000\n").unwrap();
        fs::write(package.join("energy_uj"), "9000000\n").unwrap();
        let mut meter = Rapl::open(folder.path()).unwrap();
        assert_eq!(meter.name(), "RAPL package-0");
        fs::write(package.join("energy_uj"), "9500000\n").unwrap();
        assert_eq!(meter.joules(), Some(0.5));
        fs::write(package.join("energy_uj"), "1000000\n").unwrap();
        assert_eq!(meter.joules(), Some(2.0));
    }

    #[test]
    fn says_why_there_is_no_meter() {
        let folder = tempfile::tempdir().unwrap();
        let reason = Rapl::open(&folder.path().join("powercap")).unwrap_err();
        assert!(reason.ends_with("powercap does not exist"), "{reason}");
        let reason = Rapl::open(folder.path()).unwrap_err();
        assert!(reason.ends_with("lists no CPU package"), "{reason}");
    }
}
