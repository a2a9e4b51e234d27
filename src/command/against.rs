//! What `--against` names, and what a check must run to be held against it.

use std::path::Path;

use super::{device, runs};
use crate::backend::DeviceInfo;
use crate::check::{self, Floors};
use crate::cli::DeviceArgs;
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

    /// What is to be checked, where the command line leaves it open. `auto` is a device of the run's kind, so that a GPU
    /// that is gone is not mistaken for a machine without one; a CPU has the run's threads and instruction set, for others
    /// have other roofs.
    ///
    /// # Errors
    /// Threads or an instruction set were asked for that the run did not have.
    pub fn device(&self, asked: DeviceArgs) -> Result<DeviceArgs> {
        let Against::Run(run, _) = self else { return Ok(asked) };
        let is = |text: &str, word: &str| text.trim().eq_ignore_ascii_case(word);
        let name = if is(&asked.name, "auto") { run.device.kind.clone() } else { asked.name };
        let then = run.conditions.as_ref().filter(|_| is(&name, "cpu") && run.device.kind == "cpu");
        let Some(then) = then else { return Ok(DeviceArgs { name, ..asked }) };
        let other = |was: &str, option: &str, given: &str| {
            Failure::input(format!("--against is of {was}, and {option} is {given}"))
                .hint(format!("leave {option} out, or give a run that was measured so"))
        };
        let threads = match (asked.threads, then.threads) {
            (Some(given), Some(was)) if given != was => {
                return Err(other(&format!("{was} threads"), "--threads", &given.to_string()));
            }
            (given, was) => was.or(given),
        };
        if !is(&asked.isa, "auto") && asked.isa != then.instruction_set {
            return Err(other(&then.instruction_set, "--isa", &asked.isa));
        }
        Ok(DeviceArgs { name, threads, isa: then.instruction_set.clone(), ..asked })
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
