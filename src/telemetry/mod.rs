//! What is watched beside a measurement: energy, and the load that others put on the machine.

mod load;
mod rapl;

pub use load::ForeignLoad;

/// A counter of energy since some moment.
pub trait EnergyMeter {
    /// What it counts, for instance `RAPL package-0`.
    fn name(&self) -> &str;

    /// Joules since the meter was opened; `None` where it could not be read this time.
    fn joules(&mut self) -> Option<f64>;
}

/// The energy meter of the CPU.
///
/// # Errors
/// Why there is none, in one line.
pub fn cpu_energy() -> Result<Box<dyn EnergyMeter>, String> {
    Ok(Box::new(rapl::Rapl::open(std::path::Path::new("/sys/class/powercap"))?))
}
