//! The all-reduces of several ranks: timed among GPUs where there are as many, otherwise modelled over a link.

use super::{Clock, Observer, Options};
use crate::backend::{AllReduced, Reduce, ReducedAmong, Session};
use crate::device::Link;
use crate::error::Result;
use crate::run::{AllReduce, AllReduceFrom, Collectives};
use crate::units::{Bytes, Seconds};
use crate::workload::{AllReduces as OfOneSize, Workload};

/// What is known of all-reduces.
#[derive(Debug, Default)]
pub(super) struct AllReduces {
    link: Option<Link>,
    timed: Vec<Collectives>,
    /// Why they are not timed, by the number of ranks.
    reasons: Vec<(u32, String)>,
}

impl AllReduces {
    /// Times those of all works on a GPU; elsewhere there is nothing that would join the ranks.
    ///
    /// # Errors
    /// A device does not answer any more.
    pub fn time(
        session: &mut dyn Session,
        options: &Options,
        works: &[Workload],
        clock: &Clock,
        observer: &mut dyn Observer,
    ) -> Result<AllReduces> {
        let mut known = AllReduces { link: options.link.clone(), ..AllReduces::default() };
        let joined = session.device().gpu.is_some();
        for ranks in options.sweeps.ranks.iter().copied().filter(|&ranks| joined && ranks > 1) {
            if observer.interrupted().is_some() {
                break;
            }
            observer.doing(&format!("all-reduces among {ranks} GPUs"), clock.left());
            let reduces = sizes(works, ranks);
            match session.all_reduces(ranks, &reduces)? {
                AllReduced::Timed(timed) => known.timed.push(known.collectives(ranks, &reduces, timed)),
                AllReduced::NotTimed(why) => known.reasons.push((ranks, why)),
            }
        }
        Ok(known)
    }

    fn collectives(&self, ranks: u32, reduces: &[Reduce], timed: ReducedAmong) -> Collectives {
        let ReducedAmong { library, devices, how, seconds } = timed;
        let all_reduces =
            reduces.iter().zip(seconds).filter_map(|(&Reduce { reduction, bytes }, samples)| {
                let bytes = bytes as f64;
                let modelled = self.link.as_ref().and_then(|link| link.all_reduce(ranks, Bytes(bytes)));
                AllReduce::measured(reduction, bytes, samples, modelled)
            });
        Collectives { ranks, library, devices, how, all_reduces: all_reduces.collect() }
    }

    /// Those that were timed, for the run file.
    pub fn list(&self) -> Vec<Collectives> {
        self.timed.clone()
    }

    /// Seconds of all of a pass, one after the other, and where they are from. `None` for one rank, and where they are not
    /// known.
    pub fn of(&self, work: &Workload) -> Option<(Seconds, AllReduceFrom)> {
        let all = work.all_reduces();
        let timed = |reduce: &OfOneSize| Some(Seconds(reduce.count * self.timed(work.ranks, reduce)?));
        let measured: Option<Seconds> =
            (!all.is_empty()).then(|| all.iter().map(timed).sum::<Option<Seconds>>()).flatten();
        let link = self.link.as_ref();
        let modelled = || work.all_reduce_seconds(|ranks, bytes| link?.all_reduce(ranks, bytes));
        measured
            .map(|seconds| (seconds, AllReduceFrom::Measured))
            .or_else(|| Some((modelled()?, AllReduceFrom::Modelled)))
    }

    fn timed(&self, ranks: u32, reduce: &OfOneSize) -> Option<f64> {
        let among = self.timed.iter().find(|among| among.ranks == ranks)?;
        let same = |one: &&AllReduce| (one.reduction, one.bytes) == (reduce.reduction, reduce.bytes.0);
        Some(among.all_reduces.iter().find(same)?.seconds)
    }

    /// What a reader must know of times that they are in.
    pub fn notes(&self, ranks: &[u32]) -> Vec<String> {
        let is_timed = |ranks: &u32| self.timed.iter().any(|among| among.ranks == *ranks);
        let others: Vec<u32> = ranks.iter().copied().filter(|ranks| !is_timed(ranks)).collect();
        let timed = self.timed.iter().map(|among| {
            let Collectives { ranks, library, devices, how, .. } = among;
            let against = match (&self.link, against_model(among)) {
                (Some(link), Some(times)) => {
                    format!("; {times} times what is modelled over the link of {}", link.profile)
                }
                _ => String::new(),
            };
            format!(
                "all-reduces of {ranks} ranks are measured: {library} among {}, {how}, by themselves, and counted after \
                 the rank's work{against}",
                devices.join(", ")
            )
        });
        let reasons = self
            .reasons
            .iter()
            .map(|(ranks, why)| format!("all-reduces of {ranks} ranks are not measured: {why}"));
        timed.chain(reasons).chain(Link::note(self.link.as_ref(), &others)).collect()
    }
}

/// Each kind and size once, the small ones first.
fn sizes(works: &[Workload], ranks: u32) -> Vec<Reduce> {
    let of_ranks = works.iter().filter(|work| work.ranks == ranks);
    let all = of_ranks.flat_map(Workload::all_reduces);
    let mut sizes: Vec<Reduce> =
        all.map(|one| Reduce { reduction: one.reduction, bytes: one.bytes.0 as u64 }).collect();
    sizes.sort_by_key(|one| one.bytes);
    let mut once = Vec::new();
    for size in sizes {
        if !once.contains(&size) {
            once.push(size);
        }
    }
    once
}

/// `1.32` or `0.98 to 1.61`: measured over modelled, over all sizes.
fn against_model(among: &Collectives) -> Option<String> {
    let ratios = among.all_reduces.iter().filter_map(|one| Some(one.seconds / one.modelled_seconds?));
    let (low, high) = ratios.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    let [low, high] = [low, high].map(|ratio| format!("{ratio:.2}"));
    match among.all_reduces.iter().any(|one| one.modelled_seconds.is_some()) {
        false => None,
        true if low == high => Some(low),
        true => Some(format!("{low} to {high}")),
    }
}
