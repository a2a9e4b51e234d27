//! `llmroof measure`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::again::Again;
use super::device::{self, Chosen};
use super::machine::Machine;
use super::output::{Destination, say};
use super::progress::Progress;
use super::work::Able;
use super::{host, work};
use crate::backend::weights::{FirstShard, RandomWeights, WeightSource};
use crate::checkpoint::Checkpoint;
use crate::cli::{GemmArg, LayersArg, MeasureArgs, OutputArgs};
use crate::error::{Failure, Result};
use crate::export::{self, Format};
use crate::measure::{self, Ended, Instruments, Layers, Observer, Options, RealTime};
use crate::model::ModelSpec;
use crate::profiles::Catalog;
use crate::request::Sweeps;
use crate::run::{Origin, Run, Status};
use crate::telemetry::{self, ForeignLoad};
use crate::ways::Terms;

/// Time to spend on a CPU without being told.
const CPU_BUDGET: Duration = Duration::from_secs(60);
/// The same on a GPU.
const GPU_BUDGET: Duration = Duration::from_secs(25);

/// Runs `llmroof measure`.
///
/// # Errors
/// Whatever ended it, with its exit code; an interrupted, failed or invalid measurement only after all was kept.
pub fn run(args: &MeasureArgs, machine: &dyn Machine) -> Result<()> {
    let mut began = Instant::now();
    // Everything that can be refused is refused before the first second is measured.
    let again = Again::of(args)?;
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let folder = again.as_ref().map_or(args.checkpoint.as_deref(), Again::checkpoint);
    let checkpoint = folder.map(Checkpoint::open).transpose()?;
    let model = match (&checkpoint, &again) {
        (Some(checkpoint), _) => checkpoint.spec().clone(),
        (None, Some(again)) => again.run().model.clone(),
        (None, None) => catalog.model(&args.model)?,
    };
    let asked = options(args, model, Able { link: args.work.link.is_some(), fp8: false });
    let options = again.as_ref().map_or_else(|| asked.clone(), |again| again.options(asked.clone()));
    let link = again.as_ref().map_or(args.work.link.as_deref(), Again::link);
    let link = link.map(|profile| work::link(&catalog, profile)).transpose()?;
    let draft = args.ways.draft.as_deref().map(|name| catalog.model(name)).transpose()?;
    let terms = Terms { devices: catalog.devices().cloned().collect(), dollars_per_hour: args.ways.price };
    let options = Options { link, draft, terms, ..options };
    options.check()?;
    let trials = again.as_ref().map_or(args.repeat, Again::trials_left);
    let destination = Destination::of(&args.output)?;
    if let Some(again) = again.as_ref().filter(|_| trials == 0) {
        let run = again.whole()?;
        say(format_args!("nothing is missing in {}", again.path.display()));
        return destination.write(|format| export::render(&run, format));
    }
    let named = again.as_ref().map_or_else(|| args.device.clone(), |again| again.device(&args.device));
    let devices = device::choose(&named)?;
    if devices.len() > 1 {
        refuse_one_file(&args.output, devices.len())?;
    }
    let options = if again.is_none() && devices.iter().all(|chosen| chosen.info().gpu.is_some()) {
        let able = Able { link: args.work.link.is_some(), fp8: true };
        Options { sweeps: sweeps(args, &options.model, able), ..options }
    } else {
        options
    };
    let folder = again.as_ref().and_then(|again| again.path.parent());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(if again.is_some() { Path::new(".") } else { &args.reports });
    let mut progress = Progress::new(folder, !args.no_progress)?;

    let whole = options.model.clone();
    let (random, shard): (RandomWeights, FirstShard);
    let weights: &dyn WeightSource = match &checkpoint {
        Some(checkpoint) => {
            shard = FirstShard { of: checkpoint, model: &whole };
            &shard
        }
        None => {
            let shards = options.sweeps.shards(&options.model)?;
            random =
                shards.iter().fold(RandomWeights::new(args.seed, &options.model), |weights, (_, shard)| {
                    weights.and_of(shard)
                });
            &random
        }
    };
    let order = Order {
        args,
        trials,
        catalog: &catalog,
        options,
        weights,
        destination: &destination,
        again,
        machine,
    };
    let mut failures = Vec::new();
    for chosen in &devices {
        let ended = order.carry_out(chosen, began, &mut progress);
        began = Instant::now();
        let Err(failure) = ended else { continue };
        failures.push(match devices.len() {
            1 => failure,
            _ => failure.at(device::called(chosen.info())),
        });
        if progress.interrupted().is_some() {
            break;
        }
    }
    failures.sort_by_key(|failure| failure.code as u8);
    let worst = failures.pop();
    for failure in failures {
        say(failure);
    }
    worst.map_or(Ok(()), Err)
}

/// Several devices are several results: tables follow each other on stdout, one file cannot hold them.
fn refuse_one_file(output: &OutputArgs, devices: usize) -> Result<()> {
    let file = output.export.iter().find(|path| path.as_os_str() != "-");
    let what = match (file, output.output) {
        (Some(path), _) => format!("--export {}", path.display()),
        (None, Format::Json) => "-o json".into(),
        (None, Format::Csv) => "-o csv".into(),
        (None, Format::GithubActionBenchmark) => "-o github-action-benchmark".into(),
        (None, Format::Bmf) => "-o bmf".into(),
        (None, Format::Table | Format::Markdown) => return Ok(()),
    };
    Err(Failure::input(format!("{what} holds one result, and these are {devices} GPUs"))
        .hint("leave it out, --reports gets a run file of each; or give one --device"))
}

/// What is asked for, of whichever device.
struct Order<'a> {
    args: &'a MeasureArgs,
    /// Trials to be taken.
    trials: u32,
    /// The run file that is gone on with.
    again: Option<Again>,
    catalog: &'a Catalog,
    options: Options,
    weights: &'a dyn WeightSource,
    destination: &'a Destination,
    machine: &'a dyn Machine,
}

impl Order<'_> {
    /// Measures one device, for which time is spent since `began`: its run file, its table.
    fn carry_out(&self, chosen: &Chosen, began: Instant, progress: &mut Progress) -> Result<()> {
        let mut session = chosen.open(self.machine)?;
        let device = session.device().clone();
        let budget = if device.gpu.is_some() { GPU_BUDGET } else { CPU_BUDGET };
        let budget = self.args.budget.unwrap_or(budget * self.trials);
        let profile = device::profile_of(self.catalog, &device);
        let options = Options {
            budget,
            spent: began.elapsed(),
            profile: profile.as_ref().ok().map(|profile| profile.name.clone()),
            link: self.options.link.clone().or_else(|| profile.as_ref().ok()?.link()),
            gemm: device.gpu.as_ref().and(self.options.gemm.clone()),
            ..self.options.clone()
        };
        let sensors = device.gpu.as_ref().map(|_| match &device.id {
            Some(uuid) => telemetry::gpu_sensors(uuid),
            None => Err("the driver gave no UUID to find them by".into()),
        });
        let origin = Origin { argv: host::argv(), created: host::now(), host: host::describe() };
        progress.begin(budget);
        if let Some(again) = &self.again {
            progress.go_on(again)?;
        }
        let instruments = Instruments { time: &RealTime, sensors, load: Box::new(ForeignLoad::start()) };
        let ended = measure::measure(session.as_mut(), self.weights, &options, instruments, origin, progress);
        progress.end();
        let Ended { mut run, failure } = ended?;
        // The datasheet's roofs, where a profile matches the device.
        match profile {
            Ok(profile) => run.ceilings.extend(profile.ceilings()),
            Err(reason) if device.gpu.is_some() => {
                run.notes.push(format!("no datasheet percentages: {reason}"));
            }
            Err(_) => {}
        }
        let kept = progress.finish(&run);
        let shown = self.destination.write(|format| export::render(&run, format));
        let ended = failure.map_or_else(|| verdict(&run, progress), Err);
        match (kept.and(shown), ended) {
            // What could not be written comes first: every other end says that what was measured is kept.
            (Err(lost), Err(failure)) => {
                say(Failure { hint: None, ..failure });
                Err(lost)
            }
            (written, ended) => written.and(ended),
        }
    }
}

fn sweeps(args: &MeasureArgs, model: &ModelSpec, able: Able) -> Sweeps {
    work::sweeps(&args.work, &args.precision, &args.ways, model, able)
}

fn options(args: &MeasureArgs, model: ModelSpec, able: Able) -> Options {
    Options {
        sweeps: sweeps(args, &model, able),
        model,
        weights_from: args.checkpoint.as_ref().map_or("random".into(), |dir| dir.display().to_string()),
        layers: match args.layers {
            LayersArg::Auto => Layers::Auto,
            LayersArg::All => Layers::All,
            LayersArg::Count(n) => Layers::Count(n),
        },
        budget: args.budget.unwrap_or(CPU_BUDGET),
        spent: Duration::ZERO,
        soak: args.soak,
        repeat: args.repeat,
        before: None,
        gemm: Some(
            match args.device.gemm {
                GemmArg::Auto => "auto",
                GemmArg::Own => "own",
                GemmArg::Cublaslt => "cublaslt",
            }
            .into(),
        ),
        seed: args.seed,
        profile: None,
        link: None,
        draft: None,
        show_ways: args.ways.ways,
        terms: Terms::default(),
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
