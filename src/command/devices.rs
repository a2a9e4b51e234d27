//! `llmroof devices`.

use super::output::Destination;
use crate::backend::DeviceInfo;
use crate::cli::CatalogArgs;
use crate::device::{DeviceProfile, Fact};
use crate::error::{Failure, Result};
use crate::export::{self, Cell, Column, Listing};
use crate::model::DType;
use crate::profiles::Catalog;
use crate::units::{Bytes, BytesPerSec, FlopsPerSec, figures};

/// Runs `llmroof devices`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(args: &CatalogArgs) -> Result<()> {
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let destination = Destination::of(&args.output)?;
    let listing = match &args.name {
        Some(name) => one(catalog.device(name)?)?,
        None => all(&catalog, &present()),
    };
    destination.write(|format| export::render_listing(&listing, format))
}

/// The devices of this machine. To be wired to the backends: nothing is looked for yet.
fn present() -> Vec<DeviceInfo> {
    Vec::new()
}

const COLUMNS: [Column; 9] = [
    Column { name: "name", title: "device" },
    Column { name: "title", title: "" },
    Column { name: "here", title: "here" },
    Column { name: "memory_bytes", title: "memory" },
    Column { name: "memory_bandwidth", title: "bandwidth" },
    Column { name: "peak_bf16", title: "bf16 peak" },
    Column { name: "ridge", title: "ridge" },
    Column { name: "cache_bytes", title: "cache" },
    Column { name: "watts", title: "power" },
];

/// This machine's devices first, then the profiles.
fn all(catalog: &Catalog, here: &[DeviceInfo]) -> Listing {
    let mut rows: Vec<Vec<Cell>> = here
        .iter()
        .map(|info| {
            let mut row = match catalog.device_of_driver(&info.name) {
                Some(profile) => profile_row(profile),
                None => vec![Cell::unknown(); COLUMNS.len()],
            };
            row[0] = Cell::text(info.kind);
            row[1] = Cell::text(info.name.clone());
            row[2] = yes(true);
            row[3] = Cell::number(info.memory.0, info.memory.human());
            if let Some(cache) = info.cache {
                row[7] = Cell::number(cache.0, cache.human());
            }
            row
        })
        .collect();
    rows.extend(catalog.devices().map(profile_row));
    Listing {
        title: "Devices: datasheet figures, dense, bf16 with fp32 accumulation; ridge in FLOP/B".into(),
        columns: COLUMNS.to_vec(),
        rows,
        notes: vec!["`llmroof devices NAME` shows every figure with its source".into()],
        document: None,
    }
}

fn profile_row(profile: &DeviceProfile) -> Vec<Cell> {
    let [memory, bandwidth, cache] =
        [&profile.memory, &profile.memory_bandwidth, &profile.cache].map(|f| f.value);
    let (peak, ridge) = match profile.roofline(DType::Bf16) {
        Some(roof) => {
            let ridge = roof.ridge().0;
            (
                Cell::number(roof.peak.0, exact(roof.peak.0, 1e12, FlopsPerSec::UNIT)),
                Cell::number(ridge, figures(ridge)),
            )
        }
        None => (Cell::unknown(), Cell::unknown()),
    };
    vec![
        Cell::text(profile.name.clone()),
        Cell::text(profile.title.clone()),
        yes(false),
        Cell::number(memory, Bytes(memory).human()),
        Cell::number(bandwidth, exact(bandwidth, 1e9, BytesPerSec::UNIT)),
        peak,
        ridge,
        Cell::number(cache, Bytes(cache).human()),
        Cell::number(profile.power.value, format!("{} W", profile.power.value)),
    ]
}

/// A datasheet's figure with all of its digits, in its usual unit: `1555 GB/s`, `989.4 TFLOP/s`.
fn exact(value: f64, factor: f64, unit: &str) -> String {
    let prefix = if factor == 1e12 { "T" } else { "G" };
    format!("{} {prefix}{unit}", (value / factor * 1e3).round() / 1e3)
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
            exact(profile.memory_bandwidth.value, 1e9, BytesPerSec::UNIT),
        ),
        row("memory".into(), &profile.memory, bytes(&profile.memory)),
        row("cache".into(), &profile.cache, bytes(&profile.cache)),
        row("units".into(), &profile.units, profile.units.value.to_string()),
        row("power".into(), &profile.power, format!("{} W", profile.power.value)),
    ];
    let peaks = profile.peak.iter();
    rows.extend(
        peaks.map(|(t, fact)| row(format!("peak.{t}"), fact, exact(fact.value, 1e12, FlopsPerSec::UNIT))),
    );
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
