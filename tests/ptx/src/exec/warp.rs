//! Exchange between the lanes of a warp.

use super::{Warp, Worker};
use crate::FaultKind;
use crate::op::{Code, Redux, Shuffle, Vote};
use crate::trouble::{Checked, lanes, trouble};

impl Worker<'_> {
    /// The member mask, the same in all lanes: those here, and all of them but for those that exited.
    pub(super) fn members(warp: &Warp, slot: u32, mask: u32) -> Checked<u32> {
        let masks = &warp.registers.words[slot as usize];
        let members = masks[mask.trailing_zeros() as usize];
        if let Some(lane) = lanes(mask).find(|&lane| masks[lane] != members) {
            return trouble(
                FaultKind::Divergence,
                lane,
                format!("member masks differ: {members:#010x}, {:#010x}", masks[lane]),
            );
        }
        if mask & !members != 0 {
            let lane = (mask & !members).trailing_zeros() as usize;
            return trouble(
                FaultKind::Divergence,
                lane,
                format!("is not in its own member mask {members:#010x}"),
            );
        }
        let missing = members & warp.alive & !mask;
        if missing != 0 {
            let lane = missing.trailing_zeros() as usize;
            let what = format!("is in the member mask {members:#010x} but not here (here: {mask:#010x})");
            return trouble(FaultKind::Divergence, lane, what);
        }
        Ok(members)
    }

    pub(super) fn shuffle(warp: &mut Warp, code: &Code, mask: u32) -> Checked {
        let Code::Shuffle { how, to, found, from, lane: by, clamp, members } = code else {
            return Ok(());
        };
        Self::members(warp, *members, mask)?;
        let words = &warp.registers.words;
        let (values, by, clamp) = (words[*from as usize], words[*by as usize], words[*clamp as usize]);
        let mut out = words[*to as usize];
        let mut inside = 0;
        for lane in lanes(mask) {
            let (by, segment, most) =
                (by[lane] as i32 & 31, clamp[lane] as i32 >> 8 & 31, clamp[lane] as i32 & 31);
            let me = lane as i32;
            let last = me & segment | most & !segment;
            let first = me & segment;
            let (source, fits) = match how {
                Shuffle::Up => (me - by, me - by >= last),
                Shuffle::Down => (me + by, me + by <= last),
                Shuffle::Butterfly => (me ^ by, me ^ by <= last),
                Shuffle::Index => (first | by & !segment, first | by & !segment <= last),
            };
            let source = if fits { source as usize } else { lane };
            if mask >> source & 1 == 0 {
                return trouble(
                    FaultKind::Divergence,
                    lane,
                    format!("takes a value from lane {source}, which is not here"),
                );
            }
            inside |= u32::from(fits) << lane;
            out[lane] = values[source];
        }
        warp.registers.words[*to as usize] = out;
        if let Some(found) = found {
            warp.registers.set_pred(*found, inside, mask);
        }
        Ok(())
    }

    pub(super) fn vote(warp: &mut Warp, code: &Code, mask: u32) -> Checked {
        let Code::Vote { how, to, from, flip, members } = code else {
            return Ok(());
        };
        Self::members(warp, *members, mask)?;
        let yes = (warp.registers.preds[*from as usize] ^ flip) & mask;
        let result = match how {
            Vote::All => yes == mask,
            Vote::Any => yes != 0,
            Vote::Uniform => yes == mask || yes == 0,
            Vote::Ballot => {
                for lane in lanes(mask) {
                    warp.registers.words[*to as usize][lane] = yes;
                }
                return Ok(());
            }
        };
        warp.registers.set_pred(*to, if result { !0 } else { 0 }, mask);
        Ok(())
    }

    pub(super) fn redux(warp: &mut Warp, code: &Code, mask: u32) -> Checked {
        let Code::Redux { how, to, from, members } = code else {
            return Ok(());
        };
        Self::members(warp, *members, mask)?;
        let values = warp.registers.words[*from as usize];
        let combine = |a: u32, b: u32| match how {
            Redux::Add => a.wrapping_add(b),
            Redux::MinU => a.min(b),
            Redux::MaxU => a.max(b),
            Redux::MinS => (a as i32).min(b as i32) as u32,
            Redux::MaxS => (a as i32).max(b as i32) as u32,
            Redux::And => a & b,
            Redux::Or => a | b,
            Redux::Xor => a ^ b,
        };
        let result = lanes(mask).map(|lane| values[lane]).reduce(combine).unwrap_or(0);
        for lane in lanes(mask) {
            warp.registers.words[*to as usize][lane] = result;
        }
        Ok(())
    }
}
