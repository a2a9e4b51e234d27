//! What the variables `FAKE_DRIVER_*` say.

use crate::faults::Faults;
use crate::identity::{IDENTITIES, Identity, uuid, uuid_text};

/// When clocks begin to be held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Never.
    Never,
    /// After so many launches; graphs count as one.
    After(u64),
}

/// What the energy counter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Energy {
    /// Count.
    Counts,
    /// Say the same each time.
    Stuck,
    /// Fall.
    Backwards,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `FAKE_DRIVER_GPUS`: the GPUs in their slots.
    pub gpus: Vec<Identity>,
    /// Slots that CUDA shows, by `CUDA_VISIBLE_DEVICES`.
    pub visible: Vec<usize>,
    /// `FAKE_DRIVER_VERSION`, as `cuDriverGetVersion` gives it.
    pub version: i32,
    /// `FAKE_DRIVER_NAME_VERSION`, as NVML gives it.
    pub name_version: String,
    /// `FAKE_DRIVER_NCCL_VERSION`, as `ncclGetVersion` gives it.
    pub nccl_version: i32,
    /// `FAKE_DRIVER_FAULT`
    pub faults: Faults,
    /// `FAKE_DRIVER_RESERVE_ABOVE`: with more than this allocated, further memory is only reserved.
    pub reserve_above: u64,
    /// `FAKE_DRIVER_MEMORY`: bytes that can be allocated, if not those of the GPU.
    pub memory: Option<u64>,
    /// `FAKE_DRIVER_EXECUTE`: how often the kernels of each graph compute; further launches of it take time alone.
    pub execute: Option<u64>,
    /// `FAKE_DRIVER_SLOWDOWN`: all durations times this.
    pub slowdown: f64,
    /// `FAKE_DRIVER_PACE`: calls that wait take as long as the virtual work.
    pub pace: bool,
    /// `FAKE_DRIVER_THROTTLE`
    pub throttle: Throttle,
    /// `FAKE_DRIVER_THROTTLE_REASON`: too hot (`thermal`) rather than at the power limit (`power`).
    pub thermal: bool,
    /// `FAKE_DRIVER_ENERGY`
    pub energy: Energy,
    /// `FAKE_DRIVER_ECC_ERRORS`: uncorrected since the driver was loaded.
    pub ecc_errors: u64,
    /// `FAKE_DRIVER_OTHERS`: processes of others on every GPU.
    pub others: u32,
    /// `FAKE_DRIVER_SEED` of the jitter.
    pub seed: u64,
    /// `FAKE_DRIVER_VERBOSE`: tell on stderr what went wrong.
    pub verbose: bool,
}

impl Settings {
    /// From this process's environment.
    ///
    /// # Errors
    /// A value that is not understood.
    pub fn from_environment() -> Result<Settings, String> {
        Settings::read(|name| std::env::var(name).ok())
    }

    /// From a look-up of variables.
    ///
    /// # Errors
    /// A value that is not understood.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let number = |name: &str, default: f64| match get(name) {
            None => Ok(default),
            Some(text) => text.trim().parse::<f64>().map_err(|_| format!("{name}: `{text}` is no number")),
        };
        let whole = |name: &str| get(name).map(|_| number(name, 0.0).map(|value| value as u64)).transpose();
        let list = variable("FAKE_DRIVER_GPUS").unwrap_or_else(|| "h100".into());
        let gpus = list
            .split(',')
            .map(str::trim)
            .filter(|key| !key.is_empty())
            .map(|key| {
                let found = IDENTITIES.iter().find(|identity| identity.key == key);
                found.copied().ok_or_else(|| format!("FAKE_DRIVER_GPUS: there is no `{key}`"))
            })
            .collect::<Result<Vec<Identity>, String>>()?;
        let throttle = match get("FAKE_DRIVER_THROTTLE").as_deref() {
            None => Throttle::Never,
            Some("start") => Throttle::After(0),
            Some(text) => match text.strip_prefix("after:").and_then(|count| count.parse().ok()) {
                Some(count) => Throttle::After(count),
                None => return Err(format!("FAKE_DRIVER_THROTTLE: `{text}`")),
            },
        };
        let flag = |name: &str| get(name).is_some_and(|value| value != "0");
        Ok(Settings {
            visible: visible(variable("CUDA_VISIBLE_DEVICES").as_deref(), gpus.len()),
            gpus,
            version: number("FAKE_DRIVER_VERSION", 12_080.0)? as i32,
            name_version: get("FAKE_DRIVER_NAME_VERSION").unwrap_or_else(|| "570.86.15".into()),
            nccl_version: number("FAKE_DRIVER_NCCL_VERSION", 22_703.0)? as i32,
            faults: Faults::parse(&get("FAKE_DRIVER_FAULT").unwrap_or_default())?,
            reserve_above: number("FAKE_DRIVER_RESERVE_ABOVE", (1u64 << 30) as f64)? as u64,
            memory: whole("FAKE_DRIVER_MEMORY")?,
            execute: whole("FAKE_DRIVER_EXECUTE")?,
            slowdown: number("FAKE_DRIVER_SLOWDOWN", 1.0)?,
            pace: flag("FAKE_DRIVER_PACE"),
            throttle,
            thermal: match get("FAKE_DRIVER_THROTTLE_REASON").as_deref() {
                None | Some("power") => false,
                Some("thermal") => true,
                Some(text) => return Err(format!("FAKE_DRIVER_THROTTLE_REASON: `{text}`")),
            },
            energy: match get("FAKE_DRIVER_ENERGY").as_deref() {
                None => Energy::Counts,
                Some("stuck") => Energy::Stuck,
                Some("backwards") => Energy::Backwards,
                Some(text) => return Err(format!("FAKE_DRIVER_ENERGY: `{text}`")),
            },
            ecc_errors: number("FAKE_DRIVER_ECC_ERRORS", 0.0)? as u64,
            others: number("FAKE_DRIVER_OTHERS", 0.0)? as u32,
            seed: number("FAKE_DRIVER_SEED", 1.0)? as u64,
            verbose: flag("FAKE_DRIVER_VERBOSE"),
        })
    }
}

/// Slots by `CUDA_VISIBLE_DEVICES`: numbers or beginnings of UUIDs, up to the first that is unknown.
fn visible(list: Option<&str>, gpus: usize) -> Vec<usize> {
    let Some(list) = list else { return (0..gpus).collect() };
    let slot = |entry: &str| match entry.parse::<usize>() {
        Ok(slot) => Some(slot).filter(|slot| *slot < gpus),
        Err(_) => (0..gpus).find(|slot| entry.len() > 4 && uuid_text("GPU", uuid(*slot)).starts_with(entry)),
    };
    list.split(',').map(|entry| slot(entry.trim())).map_while(|slot| slot).collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, Throttle};

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn defaults_are_one_h100() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.gpus.len(), 1);
        assert_eq!((settings.gpus[0].key, settings.version, settings.slowdown), ("h100", 12_080, 1.0));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(read(&[("FAKE_DRIVER_GPUS", "h100,tpu")]).is_err_and(|text| text.contains("tpu")));
        assert!(read(&[("FAKE_DRIVER_SLOWDOWN", "much")]).is_err());
        assert!(read(&[("FAKE_DRIVER_THROTTLE", "sometimes")]).is_err());
        assert!(read(&[("FAKE_DRIVER_ENERGY", "forwards")]).is_err());
        let throttle = read(&[("FAKE_DRIVER_THROTTLE", "after:7")]).unwrap().throttle;
        assert_eq!(throttle, Throttle::After(7));
    }

    #[test]
    fn visible_devices_are_numbers_or_uuids() {
        let visible = |list| {
            read(&[("FAKE_DRIVER_GPUS", "a100,h100"), ("CUDA_VISIBLE_DEVICES", list)]).unwrap().visible
        };
        assert_eq!(
            (visible("1"), visible("1,0"), visible(""), visible("0,7,1")),
            (vec![1], vec![1, 0], vec![], vec![0])
        );
        let second = super::uuid_text("GPU", super::uuid(1));
        assert_eq!(visible(&second), [1]);
    }
}
