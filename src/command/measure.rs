//! `llmroof measure`.

use std::time::Duration;

use super::device::{open_device, profile_of};
use super::output::Destination;
use super::progress::Progress;
use super::{host, work};
use crate::backend::weights::{RandomWeights, WeightSource};
use crate::checkpoint::Checkpoint;
use crate::cli::{ActivationsArg, LayersArg, MeasureArgs};
use crate::error::{Failure, Result};
use crate::export;
use crate::measure::{self, Layers, Observer, Options};
use crate::model::{DType, ModelSpec};
use crate::profiles::Catalog;
use crate::run::{Origin, Run, Status};

/// Time to spend on a CPU without being told.
const CPU_BUDGET: Duration = Duration::from_secs(60);

/// Runs `llmroof measure`.
///
/// # Errors
/// Whatever ended it, with its exit code; an interrupted or invalid measurement only after all was kept.
pub fn run(args: &MeasureArgs) -> Result<()> {
    // Everything that can be refused is refused before the first second is measured.
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let model = match &checkpoint {
        Some(checkpoint) => checkpoint.spec().clone(),
        None => catalog.model(&args.model)?,
    };
    let mut options = options(args, model);
    options.check()?;
    let destination = Destination::of(&args.output)?;
    let budget = options.budget;
    let mut progress = Progress::new(&args.reports, budget, !args.no_progress)?;
    let mut session = open_device(&args.device)?;
    options.profile = profile_of(&catalog, session.device()).ok().map(|profile| profile.name.clone());

    let random: RandomWeights;
    let weights: &dyn WeightSource = match &checkpoint {
        Some(checkpoint) => checkpoint,
        None => {
            random = RandomWeights::new(args.seed, &options.model);
            &random
        }
    };
    let origin = Origin { argv: std::env::args().collect(), created: host::now(), host: host::describe() };
    let measured = measure::measure(session.as_mut(), weights, &options, origin, &mut progress);
    progress.end();
    let mut run = measured?;
    // The datasheet's roofs, where a profile matches the device.
    if let Some(name) = &run.device.profile {
        run.ceilings.extend(catalog.device(name)?.ceilings());
    }
    let path = progress.keep(&run)?.display().to_string();
    eprintln!("run file: {path}");
    destination.write(|format| export::render(&run, format))?;
    verdict(&run, &progress)
}

fn options(args: &MeasureArgs, model: ModelSpec) -> Options {
    Options {
        model,
        weights_from: args.checkpoint.as_ref().map_or("random".into(), |dir| dir.display().to_string()),
        sweeps: work::sweeps(&args.work),
        layers: match args.layers {
            LayersArg::Auto => Layers::Auto,
            LayersArg::All => Layers::All,
            LayersArg::Count(n) => Layers::Count(n),
        },
        activations: match args.activations {
            ActivationsArg::Bf16 => DType::Bf16,
            ActivationsArg::F32 => DType::F32,
        },
        budget: args.budget.unwrap_or(CPU_BUDGET),
        repeat: args.repeat,
        seed: args.seed,
        profile: None,
    }
}

/// How the process ends: as interrupted, as invalid, or well.
fn verdict(run: &Run, progress: &Progress) -> Result<()> {
    if let Some(code) = progress.interrupted() {
        return Err(measure::interruption(code));
    }
    let invalid = run.points.iter().filter(|point| point.status == Status::Invalid).count();
    if invalid > 0 {
        return Err(Failure::invalid(format!("{invalid} points lie above their measured roof"))
            .hint("the machine changed its speed during the run, or the ledger is wrong: measure again"));
    }
    Ok(())
}
