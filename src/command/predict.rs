//! `llmroof predict`.

use std::path::Path;

use super::output::{Destination, say};
use super::work::Able;
use super::{host, work};
use crate::cli::PredictArgs;
use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::export::{self, Format, file};
use crate::model::DType;
use crate::predict::{explain, predict_draft, predict_over};
use crate::profiles::Catalog;
use crate::run::{Origin, Run};
use crate::ways::{Terms, ways};

/// Runs `llmroof predict`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(args: &PredictArgs) -> Result<()> {
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let model = catalog.model(&args.model)?;
    let device = catalog.device(&args.device)?;
    let destination = Destination::of(&args.output)?;

    let origin = Origin { argv: host::argv(), created: host::now(), host: host::describe() };
    let link = match &args.work.link {
        Some(profile) => Some(work::link(&catalog, profile)?),
        None => device.link(),
    };
    let able = Able { link: link.is_some(), fp8: device.peak.contains_key(&DType::Fp8) };
    let sweeps = work::sweeps(&args.work, &args.precision, &args.ways, &model, able);
    let mut run = predict_over(&model, device, link.as_ref(), &sweeps, origin)?;
    if let Some(name) = &args.ways.draft {
        run.draft = Some(predict_draft(&catalog.model(name)?, device, &sweeps)?);
    }
    let several = run.points.iter().any(|p| p.is_verifying() || p.ranks > 1) || sweeps.precisions.len() > 1;
    if several || args.ways.ways {
        let terms =
            Terms { devices: catalog.devices().cloned().collect(), dollars_per_hour: args.ways.price };
        run.ways = ways(&run, &terms);
    }
    let explanation = if args.explain {
        if let Some(&ranks) = sweeps.ranks.first().filter(|&&ranks| ranks > 1) {
            return Err(Failure::input(format!(
                "--explain is of a model on one device, --tp begins at {ranks}"
            ))
            .hint("leave out one of the two, or give --tp 1 as well"));
        }
        let cards: Vec<&DeviceProfile> = catalog.devices().collect();
        Some(explain(&run, device, &sweeps, &cards)?)
    } else {
        None
    };
    if let Some(folder) = &args.reports {
        keep(&run, folder)?;
    }
    destination.write(|format| {
        let text = export::render(&run, format)?;
        Ok(match (&explanation, format) {
            (Some(explanation), Format::Table) => format!("{text}\n{explanation}"),
            (Some(explanation), Format::Markdown) => format!("{text}\n```text\n{explanation}```\n"),
            _ => text,
        })
    })
}

/// Writes the run file to the folder of run files.
fn keep(run: &Run, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| {
        Failure::input(format!("{}: {e}", folder.display())).hint("give --reports a folder you may write to")
    })?;
    let path = folder.join(file::run_file_name(run));
    file::check_writable(&path)?;
    file::write_atomic(&path, run.to_json()?.as_bytes())?;
    say(format_args!("run file: {}", path.display()));
    Ok(())
}
