//! `measure --append` and `--resume`: a run file that is gone on with.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::runs;
use crate::cli::{DeviceArgs, GemmArg, MeasureArgs};
use crate::error::{Failure, Result};
use crate::export::file;
use crate::measure::{Layers, Options};
use crate::request::Sweeps;
use crate::run::{Conditions, Plan, Run, RunStatus, Status};

/// A run file that is there, and what of it is wanted.
#[derive(Debug)]
pub struct Again {
    /// Where it is.
    pub path: PathBuf,
    /// Nobody else goes on with it meanwhile.
    pub lock: File,
    run: Run,
    plan: Plan,
    conditions: Conditions,
}

impl Again {
    /// What the arguments name; `None` for a new run.
    ///
    /// # Errors
    /// The file cannot be read or is being measured into, or it is no measured run.
    pub fn of(args: &MeasureArgs) -> Result<Option<Again>> {
        let (path, more) = match (&args.append, &args.resume) {
            (Some(path), _) => (path, args.repeat),
            (_, Some(path)) => (path, 0),
            _ => return Ok(None),
        };
        // First the lock: what is read is then what is there.
        let lock = file::lock(path)?;
        file::sweep(path);
        let run = runs::read(path)?;
        let (Some(mut plan), Some(conditions)) = (run.plan.clone(), run.conditions.clone()) else {
            let why = match run.conditions {
                None => "was predicted, not measured",
                Some(_) => "was written by an older llmroof, which did not keep what was asked for",
            };
            return Err(Failure::input(format!("{}: this run {why}", path.display()))
                .hint("measure into a new run file"));
        };
        plan.repeat = plan.repeat.saturating_add(more);
        Ok(Some(Again { path: path.clone(), lock, run, plan, conditions }))
    }

    /// The checkpoint whose weights it ran with; `None` for random ones.
    pub fn checkpoint(&self) -> Option<&Path> {
        let from = self.conditions.weights_from.as_str();
        (from != "random").then(|| Path::new(from))
    }

    /// The device profile over whose link its all-reduces are modelled.
    pub fn link(&self) -> Option<&str> {
        self.plan.link.as_deref()
    }

    /// The options of its plan in place of those of the command line.
    pub fn options(&self, asked: Options) -> Options {
        Options {
            model: self.run.model.clone(),
            weights_from: self.conditions.weights_from.clone(),
            sweeps: Sweeps::from(&self.plan),
            layers: Layers::Count(self.plan.layers),
            seed: self.conditions.seed,
            repeat: self.plan.repeat,
            gemm: self.plan.gemm.clone(),
            before: Some(self.run.clone()),
            ..asked
        }
    }

    /// The device that it ran on.
    pub fn device(&self, asked: &DeviceArgs) -> DeviceArgs {
        let of_cpu = self.run.device.kind == "cpu";
        let name = match &self.run.device.id {
            Some(id) if !of_cpu => id.clone(),
            _ => self.run.device.kind.clone(),
        };
        DeviceArgs {
            name,
            gemm: match self.plan.gemm.as_deref() {
                Some("own") => GemmArg::Own,
                Some("cublaslt") => GemmArg::Cublaslt,
                _ => GemmArg::Auto,
            },
            threads: self.conditions.threads.filter(|_| of_cpu),
            isa: if of_cpu { self.conditions.instruction_set.clone() } else { "auto".into() },
            timeout: asked.timeout,
        }
    }

    /// Trials that are still to be taken, of the pass that lacks the most.
    pub fn trials_left(&self) -> u32 {
        let steps = self.run.points.iter().filter(|point| point.stage.is_none());
        let passes = Sweeps::from(&self.plan).workloads(&self.run.model).map_or(0, |works| works.len());
        let fewest = match steps.clone().count() < passes {
            true => 0,
            false => steps.map(|step| step.trials.len() as u32).min().unwrap_or(0),
        };
        self.plan.repeat.saturating_sub(fewest)
    }

    /// The run, of which nothing is missing. A process that ended between its last point and its end left it marked
    /// partial: that is made good, in the file as well.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn whole(&self) -> Result<Run> {
        let mut run = self.run.clone();
        if run.status == RunStatus::Partial {
            let invalid = run.points.iter().any(|point| point.status == Status::Invalid);
            run.status = if invalid { RunStatus::Invalid } else { RunStatus::Complete };
            file::write_locked(&self.path, run.to_json()?.as_bytes())?;
        }
        Ok(run)
    }

    /// The run as it is.
    pub fn run(&self) -> &Run {
        &self.run
    }
}
