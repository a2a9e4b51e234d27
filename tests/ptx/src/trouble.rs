//! A fault as it is found, before it is known where.

use crate::FaultKind;

/// What is wrong, and for which lane of the warp.
#[derive(Debug)]
pub struct Trouble {
    pub kind: FaultKind,
    pub lane: Option<usize>,
    pub what: String,
}

/// Of something that can go wrong.
pub type Checked<T = ()> = Result<T, Box<Trouble>>;

/// A fault that a lane causes.
#[cold]
pub fn trouble<T>(kind: FaultKind, lane: impl Into<Option<usize>>, what: impl Into<String>) -> Checked<T> {
    Err(Box::new(Trouble { kind, lane: lane.into(), what: what.into() }))
}

/// Indices of the bits that are set.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
