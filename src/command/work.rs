//! What the arguments of `measure` and `predict` ask for.

use crate::cli::{ActivationsArg, HeadArg, KvArg, PhaseArg, PrecisionArgs, WaysArgs, WeightsArg, WorkArgs};
use crate::device::Link;
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
use crate::profiles::Catalog;
use crate::request::Sweeps;
use crate::workload::Phase;

/// What `--ways` may add by itself, because the device is known to do it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Able {
    /// There is a link to model all-reduces over.
    pub link: bool,
    /// Weights in fp8.
    pub fp8: bool,
}

/// The work that these arguments name.
pub fn sweeps(
    args: &WorkArgs,
    precision: &PrecisionArgs,
    ways: &WaysArgs,
    model: &ModelSpec,
    able: Able,
) -> Sweeps {
    let sweeps = Sweeps {
        phases: match args.phase {
            PhaseArg::Prefill => vec![Phase::Prefill],
            PhaseArg::Decode => vec![Phase::Decode],
            PhaseArg::All => vec![Phase::Prefill, Phase::Decode],
        },
        batches: args.batch.0.clone(),
        prompts: args.prompt.0.clone(),
        contexts: args.context.as_ref().map_or_else(Vec::new, |sweep| sweep.0.clone()),
        generate: args.generate,
        precisions: precisions(precision, activations(precision.activations)),
        ranks: args.tp.0.clone(),
        speculate: ways.speculate.as_ref().map_or_else(Vec::new, |sweep| sweep.0.clone()),
        mix: ways.mix.as_ref().map_or_else(Vec::new, |sweep| sweep.0.clone()),
        kv_pages: precision.kv_page.as_ref().map_or_else(Vec::new, |sweep| sweep.0.clone()),
    };
    if ways.ways { past_the_wall(sweeps, model, able) } else { sweeps }
}

/// The sweeps with every way past the memory wall that the model has and that was not asked for otherwise.
fn past_the_wall(mut sweeps: Sweeps, model: &ModelSpec, able: Able) -> Sweeps {
    if let [only] = sweeps.precisions[..]
        && !only.weights.is_quantised()
        && only.activations == DType::Bf16
    {
        let dtypes = [DType::Int8, DType::Int4].into_iter().chain(able.fp8.then_some(DType::Fp8));
        let narrower = dtypes.map(|dtype| Precision { weights: dtype, head: dtype, ..only });
        sweeps.precisions.extend(narrower.filter(|precision| precision.check(model).is_ok()));
    }
    if sweeps.speculate.is_empty() {
        sweeps.speculate = vec![4, 8];
    }
    if able.link && sweeps.ranks == [1] && model.shard(2).is_ok() {
        sweeps.ranks.push(2);
    }
    sweeps
}

/// The link of a device profile that was named for it.
///
/// # Errors
/// There is no such profile, or it has no link; the hint has those that do.
pub fn link(catalog: &Catalog, profile: &str) -> Result<Link> {
    let device = catalog.device(profile)?;
    device.link().ok_or_else(|| {
        let with: Vec<&str> =
            catalog.devices().filter(|d| d.link.is_some()).map(|d| d.name.as_str()).collect();
        Failure::input(format!("the profile {} has no link", device.name)).hint(format!(
            "give --link one of {}, or write [link] in a profile of yours (--profiles)",
            with.join(", ")
        ))
    })
}

/// The type that an argument names; bf16 where there is none.
pub fn activations(named: Option<ActivationsArg>) -> DType {
    match named {
        None | Some(ActivationsArg::Bf16) => DType::Bf16,
        Some(ActivationsArg::F32) => DType::F32,
        Some(ActivationsArg::Int8) => DType::Int8,
    }
}

/// The types that these arguments name, with these activations; each once, in the order given.
pub fn precisions(args: &PrecisionArgs, activations: DType) -> Vec<Precision> {
    let mut precisions = Vec::new();
    for weights in &args.weights {
        let weights = match weights {
            WeightsArg::Bf16 => DType::Bf16,
            WeightsArg::Int8 => DType::Int8,
            WeightsArg::Int4 => DType::Int4,
            WeightsArg::Fp8 => DType::Fp8,
        };
        let head = match args.head {
            HeadArg::Same => weights,
            HeadArg::Bf16 => DType::Bf16,
        };
        // bf16 weights have no use for narrower inputs: in a list with others they run with bf16.
        let activations = match (activations, weights) {
            (DType::Int8, DType::Bf16) if args.weights.len() > 1 => DType::Bf16,
            _ => activations,
        };
        let kv = match args.kv {
            None => Precision { activations, ..Precision::BF16 }.border(),
            Some(KvArg::Bf16) => DType::Bf16,
            Some(KvArg::Int8) => DType::Int8,
            Some(KvArg::Fp8) => DType::Fp8,
        };
        let precision = Precision { weights, head, activations, kv };
        if !precisions.contains(&precision) {
            precisions.push(precision);
        }
    }
    precisions
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn ways_add_what_the_device_can_do() {
        let model = Catalog::load(None).unwrap().model("llama-8b").unwrap();
        let weights = |options: &[&str], able: Able| -> Vec<DType> {
            let line = [&["llmroof", "predict", "-d", "l4", "--ways"], options].concat();
            let Command::Predict(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            let sweeps = sweeps(&args.work, &args.precision, &args.ways, &model, able);
            sweeps.precisions.iter().map(|precision| precision.weights).collect()
        };
        let narrow = [DType::Bf16, DType::Int8, DType::Int4, DType::Fp8];
        assert_eq!(weights(&[], Able { fp8: true, link: false }), narrow);
        assert_eq!(weights(&[], Able::default()), narrow[..3]);
        // Whoever names types gets these.
        assert_eq!(weights(&["--weights", "int8"], Able { fp8: true, link: false }), [DType::Int8]);
    }
}
