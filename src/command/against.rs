//! What `--against` names, and what a check must run to be held against it.

use std::path::Path;

use super::{device, runs};
use crate::backend::{DeviceInfo, Setup};
use crate::check::{self, Floors};
use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::input;
use crate::measure::{Layers, Options};
use crate::model::{ModelSpec, Precision};
use crate::profiles::Catalog;
use crate::request::Sweeps;
use crate::run::{Point, Run};
use crate::workload::Phase;

/// The model of checks against profiles. What is published of whole models, and so the profiles' floors, is of its size:
/// a step lasts milliseconds, launches weigh little. A GPU makes its weights in less than a second.
const MODEL: &str = "llama-8b";
/// Positions that its step attends, those of `measure`.
const CONTEXT: u32 = 1050;

/// What a device is held against.
#[derive(Debug)]
pub enum Against {
    /// The profile that matches it.
    Matching,
    /// This one.
    Profile(Box<DeviceProfile>),
    /// An earlier run, and how much less still passes.
    Run(Box<Run>, f64),
}

impl Against {
    /// Reads the value of `--against`: a file if it looks like one or is there, otherwise a profile.
    ///
    /// # Errors
    /// There is neither, or the run is none to hold a device against.
    pub fn parse(text: Option<&str>, tolerance: f64, catalog: &Catalog) -> Result<Against> {
        let Some(text) = text else { return Ok(Against::Matching) };
        let path = Path::new(text);
        if !(text.contains('/') || text.ends_with(".json") || input::present(path)) {
            return Ok(Against::Profile(Box::new(catalog.device(text)?.clone())));
        }
        let run = runs::read(path)?;
        Floors::of_run(&run, tolerance).map_err(|e| e.at(text))?;
        Ok(Against::Run(Box::new(run), tolerance))
    }

    /// What `--device` is to mean: `auto` is a device of the run's kind, so that a GPU that is gone is not mistaken for a
    /// machine without one.
    pub fn device<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Against::Run(run, _) if name.trim().eq_ignore_ascii_case("auto") => &run.device.kind,
            _ => name,
        }
    }

    /// The floors of this device.
    ///
    /// # Errors
    /// It is of another kind, or there are none.
    pub fn floors(&self, info: &DeviceInfo, catalog: &Catalog) -> Result<Floors> {
        let other = |of: &str| {
            Failure::input(format!("--against is of {of}, the device is {}", info.name))
                .hint("give a run or profile of the same kind of device, or another --device")
        };
        match self {
            Against::Matching => {
                let profile = device::profile_of(catalog, info).map_err(|reason| {
                    Failure::input(format!("nothing to hold the {} against: {reason}", info.name)).hint(
                        "run `llmroof measure` on a healthy one first, and give its run file to --against",
                    )
                })?;
                Floors::of_profile(profile)
            }
            Against::Profile(profile) if profile.driver_names.contains(&info.name) => {
                Floors::of_profile(profile)
            }
            Against::Profile(profile) => Err(other(&profile.title)),
            Against::Run(run, tolerance) if run.device.name == info.name => Floors::of_run(run, *tolerance),
            Against::Run(run, _) => Err(other(&run.device.name)),
        }
    }

    /// Refuses a CPU that runs otherwise than the run did: another number of threads has other roofs.
    ///
    /// # Errors
    /// It does.
    pub fn same_setup(&self, info: &DeviceInfo, setup: &Setup) -> Result<()> {
        let Against::Run(run, _) = self else { return Ok(()) };
        let Some(then) = run.conditions.as_ref().filter(|_| info.gpu.is_none()) else { return Ok(()) };
        let text = |isa: &str, threads: Option<u32>| {
            threads.map_or_else(|| isa.to_owned(), |threads| format!("{isa} on {threads} threads"))
        };
        let (was, is) =
            (text(&then.instruction_set, then.threads), text(&setup.instruction_set, setup.threads));
        if was == is {
            return Ok(());
        }
        Err(Failure::input(format!("--against is of {was}, this is {is}"))
            .hint("give the same --threads and --isa, or a run of these"))
    }

    /// What to measure: a decode step of one sequence, of the run's model where there is a run. Budget and time spent are
    /// the caller's.
    ///
    /// # Errors
    /// The model is not known.
    pub fn options(&self, catalog: &Catalog) -> Result<Options> {
        let (model, context, precision): (ModelSpec, u32, Precision) = match self {
            Against::Run(run, _) => {
                let decode = check::decode(run);
                let context = decode.map_or(CONTEXT.min(run.model.max_position), |point| point.context);
                (run.model.clone(), context, decode.map_or(Precision::BF16, Point::precision))
            }
            Against::Matching | Against::Profile(_) => (catalog.model(MODEL)?, CONTEXT, Precision::BF16),
        };
        Ok(Options {
            model,
            weights_from: "random".into(),
            sweeps: Sweeps {
                phases: vec![Phase::Decode],
                batches: vec![1],
                prompts: vec![context],
                contexts: vec![context],
                speculate: Vec::new(),
                mix: Vec::new(),
                kv_pages: Vec::new(),
                generate: 1,
                precisions: vec![precision],
                ranks: vec![1],
            },
            layers: Layers::Auto,
            budget: std::time::Duration::ZERO,
            spent: std::time::Duration::ZERO,
            soak: None,
            repeat: 1,
            before: None,
            gemm: None,
            seed: 1,
            profile: None,
            link: None,
            draft: None,
            show_ways: false,
            terms: crate::ways::Terms::default(),
        })
    }
}
