//! What the steps of a draft take, the smaller model that proposes tokens for speculation.

use std::time::Duration;

use super::ceilings::Ceilings;
use super::plan::copies;
use super::{Clock, Observer, Options, pass, plausible};
use crate::backend::weights::RandomWeights;
use crate::backend::{Residency, Session};
use crate::error::Result;
use crate::model::ModelSpec;
use crate::roofline::Roofline;
use crate::run::{Draft, DraftStep};
use crate::stats;
use crate::workload::{Phase, Stage, Workload};

/// Samples of each step.
const SAMPLES: usize = 7;
/// The most of the budget that one step may take.
const SHARE: f64 = 0.02;

/// Loads the draft, all layers, and times a decode step at each batch and context of the works. `None` where it was
/// interrupted before the first.
///
/// # Errors
/// It does not fit, or the device failed.
pub(super) fn draft(
    session: &mut dyn Session,
    model: &ModelSpec,
    works: &[Workload],
    options: &Options,
    ceilings: &mut Ceilings,
    clock: &Clock,
    observer: &mut dyn Observer,
) -> Result<Option<Draft>> {
    let Some(&precision) = options.sweeps.precisions.first() else { return Ok(None) };
    let copies = copies(session, model, precision, model.layers);
    observer.doing(&format!("loading the draft, {}", model.name), clock.left());
    let residency = Residency { model: model.clone(), layers: model.layers, precision, copies };
    session.load(&residency, &RandomWeights::new(options.seed, model))?;
    ceilings.survey_memory(session, 0.1)?;
    let mut steps: Vec<DraftStep> = Vec::new();
    let most = Duration::from_secs_f64(options.budget.as_secs_f64() * SHARE);
    for work in works.iter().filter(|work| work.phase == Phase::Decode) {
        if steps.iter().any(|step| (step.batch, step.context) == (work.batch, work.context)) {
            continue;
        }
        if observer.interrupted().is_some() {
            break;
        }
        let own = Workload { precision, ..Workload::decode(model, work.batch, work.context) };
        let label = format!("draft {}, batch {}", model.name, work.batch);
        observer.doing(&label, clock.left());
        session.prepare(&pass(&own))?;
        session.run(1)?;
        let began = clock.now();
        let (mut seconds, mut fractions) = (Vec::new(), Vec::new());
        while seconds.len() < SAMPLES && (seconds.len() < 3 || clock.since(began) < most) {
            let before = ceilings.beside(session)?;
            let executions = session.run(1)?;
            plausible::executions(&label, 1, &executions)?;
            let after = ceilings.beside(session)?;
            for execution in executions {
                let shortest = |roof: Roofline| {
                    let costs = Stage::ALL.map(|stage| own.cost(stage));
                    roof.shortest_of_parts(costs.map(|cost| (cost.flops, cost.bytes()))).0.0
                };
                fractions.push((shortest(before) + shortest(after)) / 2.0 / execution.seconds);
                seconds.push(execution.seconds);
            }
        }
        let (Some(median), Some(fraction)) = (stats::median(&seconds), stats::median(&fractions)) else {
            continue;
        };
        steps.push(DraftStep {
            batch: work.batch,
            context: work.context,
            seconds: median,
            flops: own.total().flops.0,
            bytes: own.total().bytes().0,
            fraction_of_roof: fraction,
            count: seconds.len() as u32,
        });
    }
    Ok((!steps.is_empty()).then(|| Draft { model: model.name.clone(), steps }))
}
