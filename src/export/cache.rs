//! What the key/value cache takes of decode's bytes, and from which context on it takes as much as the weights.

use crate::model::Precision;
use crate::run::{Point, Run};
use crate::units::percent;
use crate::workload::Phase;

/// The share of a pass's bytes that are keys and values.
pub(super) fn share(run: &Run, point: &Point) -> f64 {
    let total = run.workload(point).total();
    total.kv_bytes.0 / total.bytes().0
}

/// A line for each of the types: the share from the shortest to the longest context at the smallest batch, and where the
/// cache's bytes are the weights' at each batch.
pub(super) fn lines(run: &Run) -> Vec<String> {
    // A shard has its part of both: of several ranks the fewest speak for all.
    let ranks = run.points.iter().map(|p| p.ranks).min();
    let decode = |p: &&Point| p.stage.is_none() && p.is_plain(Phase::Decode);
    let steps = || run.points.iter().filter(decode).filter(|p| Some(p.ranks) == ranks);
    let mut types: Vec<Precision> = Vec::new();
    for point in steps() {
        if !types.contains(&point.precision()) {
            types.push(point.precision());
        }
    }
    let several = types.len() > 1;
    let line = |precision: &Precision| {
        let of = || steps().filter(|p| p.precision() == *precision);
        let smallest = of().map(|p| p.batch).min()?;
        let shares: Vec<(u32, f64)> =
            of().filter(|p| p.batch == smallest).map(|p| (p.context, share(run, p))).collect();
        let (first, last) = (shares.iter().min_by_key(|s| s.0)?, shares.iter().max_by_key(|s| s.0)?);
        let mut batches: Vec<u32> = of().map(|p| p.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        let equal = |batch: &u32| {
            let position = run.model.kv_bytes_per_token(precision.kv) * f64::from(*batch);
            format!("{:.0} (batch {batch})", run.model.streamed_bytes(*precision).0 / position.0)
        };
        let equal: Vec<String> = batches.iter().map(equal).collect();
        let range = match first.0 == last.0 {
            true => format!("{} of decode's bytes at context {}", percent(first.1), first.0),
            false => format!(
                "{} of decode's bytes at context {} to {} at {}",
                percent(first.1),
                first.0,
                percent(last.1),
                last.0
            ),
        };
        let name = if several { format!("{}: ", precision.name()) } else { String::new() };
        Some(format!(
            "KV cache: {name}{range}, batch {smallest}; as many bytes as the weights at a context of {}",
            equal.join(", ")
        ))
    };
    types.iter().filter_map(line).collect()
}
