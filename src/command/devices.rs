//! `llmroof devices`.

use serde_json::Value;

use super::device::profile_of;
use super::here::{Here, here};
use super::output::Destination;
use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::CudaBackend;
use crate::backend::{Backend, DeviceInfo};
use crate::cli::CatalogArgs;
use crate::device::{DeviceProfile, Fact, ProfileFloors, ProfileLink};
use crate::error::{Failure, Result};
use crate::export::{self, Cell, Column, Listing};
use crate::model::DType;
use crate::profiles::Catalog;
use crate::telemetry::gpu_sensors;
use crate::units::{Bytes, Seconds, figures, percent};

/// Runs `llmroof devices`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(args: &CatalogArgs) -> Result<()> {
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let destination = Destination::of(&args.output)?;
    let listing = match &args.name {
        Some(name) => one(catalog.device(name)?)?,
        None => all(&catalog, &Machine::look(&catalog)),
    };
    destination.write(|format| export::render_listing(&listing, format))
}

/// The devices of this machine. That there is no GPU is no error here.
struct Machine {
    /// GPUs first, what is known of each beside it.
    devices: Vec<(DeviceInfo, Option<Here>)>,
    /// Why there is no GPU.
    no_gpu: Option<String>,
}

impl Machine {
    fn look(catalog: &Catalog) -> Machine {
        let (gpus, no_gpu) = match CudaBackend.devices() {
            Ok(gpus) => (gpus, None),
            Err(failure) => (Vec::new(), Some(format!("no GPU: {failure}"))),
        };
        let cpu = CpuBackend.devices().unwrap_or_default();
        let devices = gpus.into_iter().chain(cpu).map(|info| {
            let profile = profile_of(catalog, &info).map(|profile| profile.name.clone());
            let known = here(&info, |uuid| Ok(gpu_sensors(uuid)?.facts()), profile);
            (info, known)
        });
        Machine { devices: devices.collect(), no_gpu }
    }
}

const COLUMNS: [Column; 9] = [
    Column { name: "name", title: "device" },
    Column { name: "title", title: "" },
    Column { name: "here", title: "here" },
    Column { name: "memory_bytes", title: "memory" },
    Column { name: "memory_bandwidth", title: "GB/s" },
    Column { name: "peak_bf16", title: "TFLOP/s" },
    Column { name: "ridge", title: "ridge" },
    Column { name: "cache_bytes", title: "cache" },
    Column { name: "watts", title: "power" },
];

/// This machine's devices first, then the profiles.
fn all(catalog: &Catalog, machine: &Machine) -> Listing {
    let mut rows: Vec<Vec<Cell>> = machine
        .devices
        .iter()
        .map(|(info, known)| {
            let mut row = match profile_of(catalog, info) {
                Ok(profile) => profile_row(profile),
                Err(_) => vec![Cell::unknown(); COLUMNS.len()],
            };
            row[0] = Cell::text(known.as_ref().map_or_else(|| info.kind.to_owned(), Here::name));
            row[1] = Cell { value: info.name.clone().into(), shown: shortened(&info.name) };
            row[2] = yes(true);
            row[3] = Cell::number(info.memory.0, info.memory.human());
            if let Some(cache) = info.cache {
                row[7] = Cell::number(cache.0, cache.human());
            }
            row
        })
        .collect();
    rows.extend(catalog.devices().map(profile_row));
    let known = || machine.devices.iter().filter_map(|(_, known)| known.as_ref());
    let mut notes: Vec<String> = known().flat_map(Here::lines).collect();
    notes.extend(machine.no_gpu.clone());
    notes.push("`llmroof devices NAME` shows every figure with its source".into());
    let document = rows.iter().enumerate().map(|(at, row)| {
        let fields =
            COLUMNS.iter().zip(row).map(|(column, cell)| (column.name.to_owned(), cell.value.clone()));
        let known = machine.devices.get(at).and_then(|(_, known)| known.as_ref());
        let gpu = known.map_or(Value::Null, Here::json);
        Value::Object(fields.chain([("gpu".to_owned(), gpu)]).collect())
    });
    Listing {
        title: "Devices: datasheet bandwidth and dense bf16 peak with fp32 accumulation; ridge in FLOP/B"
            .into(),
        columns: COLUMNS.to_vec(),
        document: Some(Value::Array(document.collect())),
        rows,
        notes,
    }
}

fn profile_row(profile: &DeviceProfile) -> Vec<Cell> {
    let [memory, bandwidth, cache] =
        [&profile.memory, &profile.memory_bandwidth, &profile.cache].map(|f| f.value);
    let (peak, ridge) = match profile.roofline(DType::Bf16) {
        Some(roof) => {
            let ridge = roof.ridge().0;
            (Cell::number(roof.peak.0, exact(roof.peak.0 * 1e-12)), Cell::number(ridge, figures(ridge)))
        }
        None => (Cell::unknown(), Cell::unknown()),
    };
    vec![
        Cell::text(profile.name.clone()),
        Cell::text(profile.title.clone()),
        yes(false),
        Cell::number(memory, Bytes(memory).human()),
        Cell::number(bandwidth, exact(bandwidth * 1e-9)),
        peak,
        ridge,
        Cell::number(cache, Bytes(cache).human()),
        Cell::number(profile.power.value, format!("{} W", profile.power.value)),
    ]
}

/// A datasheet's figure with all of its digits: `1555`, `989.4`.
fn exact(value: f64) -> String {
    ((value * 1e3).round() / 1e3).to_string()
}

/// A device's name as far as the list has room for it.
fn shortened(name: &str) -> String {
    const ROOM: usize = 34;
    if name.chars().count() <= ROOM {
        return name.into();
    }
    name.chars().take(ROOM - 1).chain(['…']).collect()
}

fn yes(here: bool) -> Cell {
    Cell { value: here.into(), shown: if here { "yes" } else { "" }.into() }
}

/// One profile: each figure with its source; in JSON the profile itself.
fn one(profile: &DeviceProfile) -> Result<Listing> {
    let row = |name: String, fact: &Fact, shown: String| {
        vec![Cell::text(name), Cell::number(fact.value, shown), Cell::text(fact.source.clone())]
    };
    let bytes = |fact: &Fact| Bytes(fact.value).human();
    let mut rows = vec![
        row(
            "memory_bandwidth".into(),
            &profile.memory_bandwidth,
            exact(profile.memory_bandwidth.value * 1e-9) + " GB/s",
        ),
        row("memory".into(), &profile.memory, bytes(&profile.memory)),
        row("cache".into(), &profile.cache, bytes(&profile.cache)),
        row("units".into(), &profile.units, profile.units.value.to_string()),
        row("power".into(), &profile.power, format!("{} W", profile.power.value)),
    ];
    let peaks = profile.peak.iter();
    rows.extend(
        peaks.map(|(t, fact)| row(format!("peak.{t}"), fact, exact(fact.value * 1e-12) + " TFLOP/s")),
    );
    let floors = profile.floors.iter().flat_map(ProfileFloors::facts);
    rows.extend(floors.map(|(field, fact)| row(format!("floors.{field}"), fact, percent(fact.value))));
    let links = profile.link.iter().flat_map(ProfileLink::facts);
    rows.extend(links.map(|(field, fact)| {
        let shown = match field {
            "bandwidth" => exact(fact.value * 1e-9) + " GB/s",
            "latency" => Seconds(fact.value).human(),
            _ => format!("{} cards", fact.value),
        };
        row(format!("link.{field}"), fact, shown)
    }));
    let document = serde_json::to_value(profile)
        .map_err(|e| Failure::invalid(format!("{} cannot be written: {e}", profile.name)))?;
    let mut notes = Vec::new();
    for dtype in profile.peak.keys() {
        if let Some(roof) = profile.roofline(*dtype) {
            notes.push(format!("ridge {dtype}: {} FLOP/B", figures(roof.ridge().0)));
        }
    }
    notes.push(format!("the driver calls it {}", profile.driver_names.join(" or ")));
    Ok(Listing {
        title: format!("{}: {}", profile.name, profile.title),
        columns: vec![
            Column { name: "figure", title: "figure" },
            Column { name: "value", title: "value" },
            Column { name: "source", title: "source" },
        ],
        rows,
        notes,
        document: Some(document),
    })
}
