//! What `--device` means: which of the GPUs that are here, or the CPU. Decides from the list alone.

use crate::backend::DeviceInfo;
use crate::error::{Failure, Result};

/// What `--device` can be, for hints.
const FORMS: &str = "give --device auto, cpu, cuda, cuda:N, cuda:all, a GPU's UUID or its PCI address; `llmroof devices` lists all";
/// Hexadecimal digits of a UUID that are enough to name a GPU.
const PREFIX: usize = 4;
/// Compute capability that the kernels need.
const OLDEST: (u32, u32) = (8, 0);

/// What the text asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU if there is one that can run, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU that can run.
    First,
    /// The GPU of this number in the driver's order.
    Ordinal(u32),
    /// Every GPU that can run.
    All,
    /// The GPU whose UUID begins with these digits, in lower case and without hyphens.
    Uuid(String),
    /// The GPU at this PCI address.
    Pci(PciAddress),
}

/// Domain, bus, device, function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress(u32, u32, u32, u32);

/// What was chosen from a list of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The CPU, and why if that was not asked for.
    Cpu(Option<String>),
    /// GPUs by their places in the list, at least one; and what to say about those left out.
    Gpus(Vec<usize>, Option<String>),
}

impl Wanted {
    /// Reads the value of `--device`, in whatever case.
    ///
    /// # Errors
    /// It is none of the forms.
    pub fn parse(text: &str) -> Result<Wanted> {
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "auto" => return Ok(Wanted::Auto),
            "cpu" => return Ok(Wanted::Cpu),
            "cuda" => return Ok(Wanted::First),
            "cuda:all" => return Ok(Wanted::All),
            _ => {}
        }
        let found = match lower.strip_prefix("cuda:") {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().ok().map(Wanted::Ordinal)
            }
            Some(_) => None,
            None => digits_of_uuid(&lower)
                .map(Wanted::Uuid)
                .or_else(|| PciAddress::parse(&lower).map(Wanted::Pci)),
        };
        found.ok_or_else(|| {
            Failure::input(format!("there is no device \"{}\"", text.escape_debug())).hint(FORMS)
        })
    }

    /// Chooses among the GPUs that are here. The CPU needs no list: it is not asked for one.
    ///
    /// # Errors
    /// There is no such GPU, there are several of whom one must be named, or there is none at all.
    pub fn choose(&self, gpus: &Result<Vec<DeviceInfo>>) -> Result<Selection> {
        let found = match (self, gpus) {
            (Wanted::Cpu, _) => return Ok(Selection::Cpu(None)),
            (Wanted::Auto, Err(failure)) => {
                return Ok(Selection::Cpu(Some(format!("no GPU: {}", failure.what))));
            }
            (_, Err(failure)) => return Err(failure.clone()),
            (_, Ok(found)) => found.as_slice(),
        };
        let able: Vec<usize> = (0..found.len()).filter(|&at| obstacle(&found[at]).is_none()).collect();
        let obstacles: Vec<String> = found.iter().filter_map(obstacle).collect();
        let matching = |same: &dyn Fn(&DeviceInfo) -> bool| -> Vec<usize> {
            (0..found.len()).filter(|&at| same(&found[at])).collect()
        };
        let chosen = match self {
            Wanted::Auto if able.is_empty() => {
                return Ok(Selection::Cpu(Some(format!("no GPU: {}", none_able(&obstacles)))));
            }
            Wanted::First | Wanted::All if able.is_empty() => {
                return Err(Failure::device(none_able(&obstacles))
                    .hint("give --device cpu, or use a GPU of compute capability 8.0 (Ampere) or later"));
            }
            Wanted::All => {
                let left_out = (!obstacles.is_empty()).then(|| format!("left out: {}", obstacles.join("; ")));
                return Ok(Selection::Gpus(able, left_out));
            }
            Wanted::Cpu | Wanted::Auto | Wanted::First => able,
            Wanted::Ordinal(number) => matching(&|info| ordinal(info) == Some(*number)),
            Wanted::Pci(address) => matching(&|info| pci(info) == Some(*address)),
            Wanted::Uuid(digits) => {
                let chosen = matching(&|info| uuid(info).is_some_and(|uuid| uuid.starts_with(digits)));
                if chosen.len() > 1 {
                    let names: Vec<String> = chosen.iter().map(|&at| called(&found[at])).collect();
                    return Err(Failure::input(format!(
                        "\"{digits}\" begins the UUIDs of {}",
                        names.join(", ")
                    ))
                    .hint("give more digits"));
                }
                chosen
            }
        };
        match chosen.first() {
            Some(&at) => Ok(Selection::Gpus(vec![at], None)),
            None => Err(Failure::device(format!("there is no GPU {}", self.text()))
                .hint(format!("here are: {}", list(found)))),
        }
    }

    /// As people write it.
    fn text(&self) -> String {
        match self {
            Wanted::Auto => "auto".into(),
            Wanted::Cpu => "cpu".into(),
            Wanted::First => "cuda".into(),
            Wanted::Ordinal(number) => format!("cuda:{number}"),
            Wanted::All => "cuda:all".into(),
            Wanted::Uuid(digits) => format!("whose UUID begins with {digits}"),
            Wanted::Pci(PciAddress(domain, bus, device, function)) => {
                format!("at PCI address {domain:08x}:{bus:02x}:{device:02x}.{function:x}")
            }
        }
    }
}

impl PciAddress {
    /// `00000000:3b:00.0`, `0000:3b:00.0`, `3b:00.0` or `3b:00`.
    fn parse(text: &str) -> Option<PciAddress> {
        let hex = |digits: &str| {
            let valid =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        let (address, function) = text.split_once('.').unwrap_or((text, "0"));
        let parts: Vec<u32> = address.split(':').map(hex).collect::<Option<_>>()?;
        let (domain, bus, device) = match parts[..] {
            [domain, bus, device] => (domain, bus, device),
            [bus, device] => (0, bus, device),
            _ => return None,
        };
        let possible = bus < 256 && device < 32;
        possible.then_some(PciAddress(domain, bus, device, hex(function)?))
    }
}

/// The digits of a UUID or of its beginning: `gpu-1b2c3d4e-5f...` or the same without `gpu-` or `mig-`.
fn digits_of_uuid(lower: &str) -> Option<String> {
    let bare = ["gpu-", "mig-"].iter().find_map(|kind| lower.strip_prefix(kind)).unwrap_or(lower);
    if !bare.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return None;
    }
    let digits = bare.replace('-', "");
    (PREFIX..=32).contains(&digits.len()).then_some(digits)
}

fn uuid(info: &DeviceInfo) -> Option<String> {
    digits_of_uuid(&info.id.as_deref()?.to_ascii_lowercase())
}

fn ordinal(info: &DeviceInfo) -> Option<u32> {
    info.gpu.as_ref().map(|gpu| gpu.ordinal)
}

fn pci(info: &DeviceInfo) -> Option<PciAddress> {
    PciAddress::parse(&info.gpu.as_ref()?.pci.to_ascii_lowercase())
}

/// Why the kernels cannot run on this GPU.
fn obstacle(info: &DeviceInfo) -> Option<String> {
    match info.gpu.as_ref().map(|gpu| gpu.capability) {
        Some(capability) if capability >= OLDEST => None,
        Some((major, minor)) => Some(format!(
            "{} has compute capability {major}.{minor}, the kernels need {}.{}",
            info.name, OLDEST.0, OLDEST.1
        )),
        None => Some(format!("the driver does not say what {} can do", info.name)),
    }
}

fn none_able(obstacles: &[String]) -> String {
    if obstacles.is_empty() { "the NVIDIA driver shows no device".into() } else { obstacles.join("; ") }
}

/// `cuda:0 NVIDIA H100 PCIe GPU-1b2c...`.
pub fn called(info: &DeviceInfo) -> String {
    let number = ordinal(info).map_or_else(|| info.kind.to_owned(), |number| format!("cuda:{number}"));
    [Some(number), Some(info.name.clone()), info.id.clone()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

fn list(found: &[DeviceInfo]) -> String {
    let names: Vec<String> = found.iter().map(called).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::GpuInfo;
    use crate::error::Code;
    use crate::units::Bytes;

    fn gpu(ordinal: u32, name: &str, id: &str, pci: &str, capability: (u32, u32)) -> DeviceInfo {
        DeviceInfo {
            kind: "cuda",
            name: name.into(),
            id: Some(id.into()),
            memory: Bytes(80e9),
            cache: None,
            detail: String::new(),
            gpu: Some(GpuInfo {
                ordinal,
                pci: pci.into(),
                capability,
                multiprocessors: 132,
                cuda: "12.8".into(),
                memory_clock: None,
                bus_width: None,
            }),
        }
    }

    /// An old card first, then two H100s whose UUIDs begin alike.
    fn three() -> Result<Vec<DeviceInfo>> {
        Ok(vec![
            gpu(0, "Tesla V100", "GPU-ffff0000-0000-4000-8000-000000000000", "00000000:0a:00.0", (7, 0)),
            gpu(1, "NVIDIA H100", "GPU-1b2c3d4e-0000-4000-8000-000000000001", "00000000:3b:00.0", (9, 0)),
            gpu(2, "NVIDIA H100", "GPU-1b2cffff-0000-4000-8000-000000000002", "0001:3b:00.0", (9, 0)),
        ])
    }

    fn chosen(text: &str, gpus: &Result<Vec<DeviceInfo>>) -> Result<Selection> {
        Wanted::parse(text)?.choose(gpus)
    }

    fn one(at: usize) -> Selection {
        Selection::Gpus(vec![at], None)
    }

    #[test]
    fn every_form_finds_its_gpu() {
        let gpus = three();
        for (text, at) in [
            ("auto", 1),
            ("AUTO", 1),
            ("cuda", 1),
            ("cuda:0", 0),
            ("cuda:2", 2),
            ("CUDA:2", 2),
            ("GPU-1b2c3d4e-0000-4000-8000-000000000001", 1),
            ("1B2C3D4E000040008000000000000001", 1),
            ("gpu-1B2cF", 2),
            ("MIG-1b2c3", 1),
            ("ffff", 0),
            ("00000000:3B:00.0", 1),
            ("3b:00.0", 1),
            ("3b:0", 1),
            ("0001:3b:00.0", 2),
        ] {
            assert_eq!(chosen(text, &gpus).unwrap(), one(at), "{text}");
        }
        assert_eq!(chosen("cpu", &gpus).unwrap(), Selection::Cpu(None));
    }

    #[test]
    fn all_are_those_that_can_run() {
        let Selection::Gpus(all, Some(left_out)) = chosen("cuda:all", &three()).unwrap() else { panic!() };
        assert_eq!(all, [1, 2]);
        assert!(left_out.contains("Tesla V100 has compute capability 7.0"), "{left_out}");
    }

    #[test]
    fn auto_falls_back_to_the_cpu_and_says_why() {
        let absent = Err(Failure::device("libcuda.so.1 was not found").hint("install it"));
        let old = three().map(|gpus| gpus[..1].to_vec());
        for (gpus, word) in [(absent, "was not found"), (old, "capability 7.0"), (Ok(vec![]), "no device")] {
            let Selection::Cpu(Some(why)) = chosen("auto", &gpus).unwrap() else { panic!() };
            assert!(why.starts_with("no GPU: ") && why.contains(word) && !why.contains("hint"), "{why}");
        }
    }

    #[test]
    fn what_is_not_here_is_the_devices_trouble() {
        let absent: Result<Vec<DeviceInfo>> = Err(Failure::device("libcuda.so.1 was not found"));
        let old = three().map(|gpus| gpus[..1].to_vec());
        for (text, gpus) in [
            ("cuda:0", &absent),
            ("cuda", &absent),
            ("cuda:all", &absent),
            ("1b2c3", &absent),
            ("3b:00.0", &absent),
            ("cuda", &old),
            ("cuda:all", &old),
            ("cuda:3", &three()),
            ("cuda:4294967295", &three()),
            ("1b2c4", &three()),
            ("3c:00.0", &three()),
            ("cuda:0", &Ok(vec![])),
        ] {
            assert_eq!(chosen(text, gpus).unwrap_err().code, Code::Device, "{text}");
        }
        let said = chosen("cuda:7", &three()).unwrap_err().to_string();
        assert!(
            said.contains("there is no GPU cuda:7") && said.contains("cuda:1 NVIDIA H100 GPU-1b2c3d4e"),
            "{said}"
        );
    }

    #[test]
    fn what_means_nothing_is_bad_input() {
        for text in [
            "",
            "tpu",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cuda:+1",
            "cuda:99999999999",
            "gpu",
            "GPU-",
            "1b2",
            "GPU-1b2",
            "1b2c3d4e-0000-4000-8000-0000000000011",
            "1b2g",
            "3b:00.0:1",
            "3b:40.0",
            "300:00.0",
            "cuda 0",
            "\u{7}",
        ] {
            let failure = Wanted::parse(text).unwrap_err();
            assert_eq!(failure.code, Code::BadInput, "{text}");
            let said = failure.to_string();
            assert!(said.contains("cuda:N") && said.contains("UUID") && !said.contains('\u{7}'), "{said}");
        }
        let several = chosen("1b2c", &three()).unwrap_err();
        assert_eq!(several.code, Code::BadInput);
        assert!(several.what.contains("cuda:1") && several.what.contains("cuda:2"), "{several}");
    }

    proptest::proptest! {
        /// Whatever is typed, and whatever is here: a device of the list, the CPU, or one line.
        #[test]
        fn nothing_that_can_be_typed_panics(text in "(cuda:|GPU-|MIG-)?[0-9a-zA-Z:.\\- ]{0,40}", count in 0..3_usize) {
            let gpus = three().map(|gpus| gpus[..count].to_vec());
            match chosen(&text, &gpus) {
                Ok(Selection::Gpus(chosen, _)) => {
                    proptest::prop_assert!(!chosen.is_empty() && chosen.iter().all(|&at| at < count));
                }
                Ok(Selection::Cpu(_)) => {}
                Err(failure) => proptest::prop_assert!(failure.hint.is_some() && !failure.to_string().contains('\n')),
            }
        }
    }
}
