//! The catalogue: the device and model profiles that the program carries, and those of `--profiles DIR`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::input;
use crate::model::ModelSpec;
use crate::units::Bytes;

// `DEVICES` and `MODELS`: path and text of each file below profiles/, listed by build.rs.
include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Known devices and models, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    devices: BTreeMap<String, DeviceProfile>,
    models: BTreeMap<String, ModelSpec>,
}

impl Catalog {
    /// The embedded profiles, and over them those of `extra/devices/*.toml` and `extra/models/*.toml`: a
    /// profile of the same name replaces the embedded one.
    ///
    /// # Errors
    /// A folder or file that cannot be read, or a profile that is wrong: the file and its line or field are
    /// named.
    pub fn load(extra: Option<&Path>) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        for (path, text) in DEVICES {
            catalog.add_device(text).map_err(|e| e.at(path))?;
        }
        for (path, text) in MODELS {
            catalog.add_model(text).map_err(|e| e.at(path))?;
        }
        if let Some(folder) = extra {
            let (devices, models) =
                (toml_files(&folder.join("devices"))?, toml_files(&folder.join("models"))?);
            if devices.is_none() && models.is_none() {
                return Err(Failure::input(format!("{}: no profiles here", folder.display()))
                    .hint("--profiles takes a folder with devices/*.toml or models/*.toml"));
            }
            for path in devices.into_iter().flatten() {
                catalog.add_device(&input::text(&path, input::PROFILE)?).map_err(|e| e.at(path.display()))?;
            }
            for path in models.into_iter().flatten() {
                catalog.add_model(&input::text(&path, input::PROFILE)?).map_err(|e| e.at(path.display()))?;
            }
        }
        Ok(catalog)
    }

    fn add_device(&mut self, text: &str) -> Result<()> {
        let device = DeviceProfile::from_toml(text)?;
        check_name(&device.name)?;
        self.devices.insert(device.name.clone(), device);
        Ok(())
    }

    fn add_model(&mut self, text: &str) -> Result<()> {
        let model = ModelSpec::from_toml(text)?;
        check_name(&model.name)?;
        self.models.insert(model.name.clone(), model);
        Ok(())
    }

    /// All devices, ordered by name.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceProfile> {
        self.devices.values()
    }

    /// All models, the smallest first.
    pub fn models(&self) -> Vec<&ModelSpec> {
        let mut models: Vec<_> = self.models.values().collect();
        models.sort_by(|a, b| a.parameters().total_cmp(&b.parameters()));
        models
    }

    /// The device of this name, or of this driver name.
    ///
    /// # Errors
    /// There is none; the hint names the nearest.
    pub fn device(&self, name: &str) -> Result<&DeviceProfile> {
        named(&self.devices, name).or_else(|| self.device_of_driver(name)).ok_or_else(|| {
            Failure::input(format!("unknown device \"{name}\"")).hint(nearest(
                name,
                self.devices.keys(),
                "`llmroof devices` lists all; --profiles DIR adds more",
            ))
        })
    }

    /// The profile of a GPU that is here: the driver calls it exactly so, its memory is within 8% of the profile's
    /// (drivers report GiB, less what they keep), and the bandwidth that its clock and bus make within 7%
    /// (datasheets round, and one says 7.7 TB/s where the memory could 8.2). `memory` is in bytes, `bandwidth` in
    /// bytes per second.
    ///
    /// # Errors
    /// Why there is none, in one line: points under another card's roof would be worse than none.
    pub fn device_for(
        &self,
        name: &str,
        memory: f64,
        bandwidth: Option<f64>,
    ) -> std::result::Result<&DeviceProfile, String> {
        if name.contains(" MIG ") {
            return Err(format!("\"{name}\" is a slice of a GPU, datasheets are of whole ones"));
        }
        let profile = self
            .device_of_driver(name)
            .ok_or_else(|| format!("no profile has the driver name \"{name}\""))?;
        if !near(memory, profile.memory.value, 0.08) {
            let (has, states) = (Bytes(memory).human(), Bytes(profile.memory.value).human());
            return Err(format!("it has {has} of memory, a {} {states}", profile.name));
        }
        match bandwidth {
            None => Err("its driver does not say the memory's clock and bus width".into()),
            Some(rate) if near(rate, profile.memory_bandwidth.value, 0.07) => Ok(profile),
            Some(rate) => Err(format!(
                "its memory clock and bus width make {:.0} GB/s, a {} has {:.0}",
                rate * 1e-9,
                profile.name,
                profile.memory_bandwidth.value * 1e-9
            )),
        }
    }

    /// The profile of the card that the driver calls so. Exactly so: an A10G is no A10, and a guess would put
    /// its points under another card's roof.
    pub fn device_of_driver(&self, name: &str) -> Option<&DeviceProfile> {
        self.devices.values().find(|device| device.driver_names.iter().any(|known| known == name))
    }

    /// The preset of this name, or the model that a `config.json` (or the folder that holds it) describes,
    /// named after the folder.
    ///
    /// # Errors
    /// There is none, or the file is no Llama's; the hint names the nearest preset or the field.
    pub fn model(&self, name_or_path: &str) -> Result<ModelSpec> {
        if let Some(model) = named(&self.models, name_or_path) {
            return Ok(model.clone());
        }
        let path = Path::new(name_or_path);
        if input::present(path) || name_or_path.contains('/') || name_or_path.ends_with(".json") {
            return from_config(path);
        }
        Err(Failure::input(format!("unknown model \"{name_or_path}\"")).hint(nearest(
            name_or_path,
            self.models.keys(),
            "`llmroof models` lists all; the path of a config.json works as well",
        )))
    }
}

/// The entry of this name, in whatever case it is written.
fn named<'a, T>(entries: &'a BTreeMap<String, T>, name: &str) -> Option<&'a T> {
    entries.get(name).or_else(|| entries.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// Whether a figure is the expected one but for this share. What is no number is not.
fn near(figure: f64, expected: f64, share: f64) -> bool {
    (figure / expected - 1.0).abs() <= share
}

/// A name must be something that can be typed as an option's value and is no path.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control()) {
        return Err(Failure::input(format!("name \"{name}\" cannot be used"))
            .hint("a name is one word without spaces and slashes, like h100-sxm5"));
    }
    Ok(())
}

/// Reads the `config.json` at this path or in this folder.
fn from_config(path: &Path) -> Result<ModelSpec> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
    let text = input::text(&file, input::CONFIG)?;
    // The real path has a folder's name even where the given one is `.` or `config.json`.
    let name = fs::canonicalize(&file)
        .ok()
        .and_then(|real| Some(real.parent()?.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "config.json".into());
    ModelSpec::from_config_json(&text, &name).map_err(|e| e.at(file.display()))
}

/// The TOML files of a folder, ordered by name; `None` where there is no such folder.
fn toml_files(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    if !input::present(folder) {
        return Ok(None);
    }
    let unreadable = |e: std::io::Error| {
        Failure::input(format!("{}: {e}", folder.display())).hint("give a folder that can be read")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(Some(files))
}

/// A hint with the known names that are like this one, and how to see the others.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>, listing: &str) -> String {
    const ALIKE: f64 = 0.75;
    let name = name.to_lowercase();
    let mut alike: Vec<(f64, &str)> = known
        .map(|k| (if k.contains(&name) { 1.0 } else { strsim::jaro_winkler(&name, k) }, k.as_str()))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let best: Vec<&str> = match alike.first() {
        // Part of several names: all of them are meant.
        Some((1.0, _)) => alike.iter().filter(|(s, _)| *s == 1.0).map(|(_, k)| *k).take(4).collect(),
        Some((_, k)) => vec![k],
        None => return listing.to_string(),
    };
    format!("did you mean {}? {listing}", best.join(" or "))
}
