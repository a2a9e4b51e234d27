//! All-reduces among several GPUs of this machine, by its NCCL, where it has one.
//!
//! - `library`: NCCL, found at run time, and its communicators.
//! - `ranks`: the GPUs that are joined, and their times.
//! - `process`: a process of its own for all of it.
//!
//! One process has one communicator for each GPU. It is another than the one that measures, which is thus spared what NCCL
//! leaves in it: contexts on all GPUs that stay until its end, the measured one's among them, which every trial opens anew; and
//! calls that wait without end.

mod library;
mod process;
mod ranks;

use std::time::Duration;

pub use self::process::serve;

use self::process::{Answer, Request, ask};
use crate::backend::{AllReduced, DeviceInfo, Reduce, ReducedAmong};
use crate::error::{Failure, Result};

/// How the times are taken, for people.
const HOW: &str = "in place, back to back in CUDA graphs, the slowest rank's time in each round";

/// Times all-reduces among `ranks` GPUs of the kind of the first, which is one of them. No wait is longer than `patience`.
///
/// # Errors
/// A GPU or NCCL does not answer any more: nothing of the first GPU may be waited for.
pub(super) fn all_reduces(
    first: &DeviceInfo,
    patience: Duration,
    ranks: u32,
    reduces: &[Reduce],
) -> Result<AllReduced> {
    let gpus = match super::devices() {
        Ok(gpus) => gpus,
        Err(failure) => return Ok(AllReduced::NotTimed(failure.what)),
    };
    let ordinals = match choose(first, ranks, &gpus) {
        Ok(chosen) => chosen,
        Err(why) => return Ok(AllReduced::NotTimed(why)),
    };
    let devices = ordinals.iter().map(|ordinal| format!("cuda:{ordinal}")).collect();
    let request = Request { ordinals, patience, reduces: reduces.to_vec() };
    match ask(&request) {
        Answer::Timed { library, seconds } => {
            Ok(AllReduced::Timed(ReducedAmong { library, devices, how: HOW.into(), seconds }))
        }
        Answer::NotTimed(why) => Ok(AllReduced::NotTimed(why)),
        Answer::Hung(what) => Err(Failure::device(what).hint(
            "NCCL_DEBUG=INFO says where NCCL hangs, nvidia-smi and dmesg whether a GPU does; --timeout waits longer; with \
             the other GPUs hidden (CUDA_VISIBLE_DEVICES) all-reduces are modelled",
        )),
    }
}

/// The numbers of the GPUs that reduce: the first, and others of its kind in their order.
fn choose(first: &DeviceInfo, ranks: u32, gpus: &[DeviceInfo]) -> std::result::Result<Vec<u32>, String> {
    let slice = |info: &DeviceInfo| info.id.as_ref().is_some_and(|id| id.starts_with("MIG"));
    if slice(first) {
        return Err(format!("{} is a slice of a GPU, and slices are not joined", first.name));
    }
    let alike = |info: &&DeviceInfo| {
        info.name == first.name && info.memory == first.memory && info.id != first.id && !slice(info)
    };
    let chosen: Vec<u32> = std::iter::once(first)
        .chain(gpus.iter().filter(alike))
        .filter_map(|info| Some(info.gpu.as_ref()?.ordinal))
        .take(ranks as usize)
        .collect();
    match chosen.len() {
        found if found == ranks as usize => Ok(chosen),
        found => Err(format!("this machine shows {found} {}", first.name)),
    }
}
