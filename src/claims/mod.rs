//! What a course on LLM inference says of an A100, claim by claim, against what a model's ledger and a card's datasheet
//! give, and against measured runs.
//!
//! Every verdict is judged here from numbers: the claim's, the one computed and, where the claim is about any device or
//! the run's device is the card, the one measured.

mod bound;
mod bytes;
mod intensity;
mod machine;
mod quantised;
mod quantity;
mod times;
mod verdict;
mod wall;

pub use machine::{Found, Machine, machines};
pub use quantity::Quantity;
pub use verdict::{Claimed, Kind, Verdict, overall};

use serde::Serialize;

use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
use crate::roofline::Roofline;
use crate::units::Bytes;

/// Prompt tokens of the request that the claims speak of.
pub const PROMPT: u32 = 1000;
/// Its generated tokens.
pub const GENERATE: u32 = 100;
/// Positions attended in the middle of its generation.
pub const CONTEXT: u32 = PROMPT + GENERATE / 2;

/// Bandwidth that the claims reckon with, rounded from the A100's datasheet, in bytes per second.
const COURSE_BANDWIDTH: f64 = 2.0e12;

/// Of a figure whose interval has the claim's border in it.
const UNSURE: &str = "too close to judge by";

/// What the claims are held against.
struct Case<'a> {
    model: &'a ModelSpec,
    card: &'a DeviceProfile,
    /// The card's datasheet roofs in bf16.
    roof: Roofline,
    /// The catalogue.
    cards: &'a [&'a DeviceProfile],
    machines: &'a [Machine<'a>],
}

/// One claim with the figures that it is judged by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// Its number in the table, from 1.
    pub number: usize,
    /// What is claimed.
    pub claim: String,
    /// Verdict on the figures computed from the ledger and the datasheet; null where nothing could be judged.
    pub verdict: Option<String>,
    /// Verdict on the measured figures, by machine; null where nothing could be judged.
    pub measured_verdicts: Vec<Option<String>>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// How the figures are made.
    pub how: String,
}

/// One figure of a claim; values are in base units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is of.
    pub what: String,
    /// Its unit.
    pub unit: Quantity,
    /// The value claimed; null for a figure that explains another.
    pub claimed: Option<Claimed>,
    /// Computed from the ledger and, where it depends on a device, from the datasheet.
    pub predicted: Option<f64>,
    /// What the claim is by the computed value.
    pub verdict: Option<Verdict>,
    /// By machine: what was measured; null where its runs have nothing.
    pub measured: Vec<Option<Measured>>,
}

/// A figure out of the measured points of one machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// What a reader must know of it.
    pub remark: Option<String>,
    /// What the claim is by it; null where the claim is about another device.
    pub verdict: Option<Verdict>,
}

/// Whether a measured figure says something of the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Only on the card that the claim is held against.
    Card,
    /// On any device.
    Any,
    /// It cannot be judged by.
    Nothing,
}

impl Figure {
    /// A figure without values.
    fn of(what: impl Into<String>, unit: Quantity) -> Figure {
        Figure {
            what: what.into(),
            unit,
            claimed: None,
            predicted: None,
            verdict: None,
            measured: Vec::new(),
        }
    }

    /// The computed value, and the claim that it judges.
    fn predicted(mut self, value: f64, claimed: Option<Claimed>) -> Figure {
        self.predicted = Some(value);
        self.claimed = claimed;
        self.verdict = claimed.map(|claimed| claimed.judge(value));
        self
    }

    /// What the machines measured.
    fn measured(mut self, case: &Case, about: About, find: impl Fn(&Machine) -> Option<Found>) -> Figure {
        let judged = |machine: &Machine| match about {
            About::Any => true,
            About::Card => machine.is_of(case.card),
            About::Nothing => false,
        };
        self.measured = case
            .machines
            .iter()
            .map(|machine| {
                let found = find(machine)?;
                let claimed = self.claimed.filter(|_| judged(machine));
                let verdict = claimed.and_then(|claimed| claimed.judge_within(found.value, found.spread));
                let unsure = (claimed.is_some() && verdict.is_none()).then(|| UNSURE.to_string());
                let remarks: Vec<String> = found.remark.into_iter().chain(unsure).collect();
                Some(Measured {
                    value: found.value,
                    verdict,
                    remark: (!remarks.is_empty()).then(|| remarks.join(", ")),
                })
            })
            .collect();
        self
    }

    /// A figure that nothing in a run measures.
    fn unmeasured(self, case: &Case) -> Figure {
        self.measured(case, About::Nothing, |_| None)
    }
}

impl Case<'_> {
    /// The claim with its verdicts.
    fn claim(&self, claim: &str, figures: Vec<Figure>, how: String) -> Claim {
        let judged = |of: &dyn Fn(&Figure) -> Option<Verdict>| {
            let cases: Vec<(&str, Verdict)> =
                figures.iter().filter_map(|figure| Some((figure.what.as_str(), of(figure)?))).collect();
            overall(&cases)
        };
        let verdict = judged(&|figure| figure.verdict);
        let all = figures.iter().filter(|figure| figure.claimed.is_some()).count();
        let by_machine = |at: usize| {
            let of = |figure: &Figure| figure.measured.get(at)?.as_ref()?.verdict;
            // What is right of some figures need not be of those that were not measured.
            let count = figures.iter().filter_map(of).count();
            Some(format!("{}, by {count} of {all} figures", judged(&of)?))
        };
        let measured_verdicts = (0..self.machines.len()).map(by_machine).collect();
        Claim { number: 0, claim: claim.into(), verdict, measured_verdicts, figures, how }
    }

    /// A card of the catalogue.
    fn other(&self, name: &str) -> Option<(&DeviceProfile, Roofline)> {
        let card = self.cards.iter().find(|card| card.name == name)?;
        Some((card, card.roofline(DType::Bf16)?))
    }

    /// The weights of a step, and the cache at a context.
    fn streamed(&self) -> Bytes {
        self.model.streamed_bytes(Precision::BF16)
    }

    fn kv(&self, context: u32) -> Bytes {
        self.model.kv_bytes_per_token(DType::Bf16) * f64::from(context)
    }
}

/// Holds every claim against a model on a card, and against what machines measured of that model.
///
/// # Errors
/// A card without a bf16 peak, or a model that is not made for as many positions as the claims speak of.
pub fn claims(
    model: &ModelSpec,
    card: &DeviceProfile,
    cards: &[&DeviceProfile],
    machines: &[Machine],
) -> Result<Vec<Claim>> {
    let roof = card.roofline(DType::Bf16).ok_or_else(|| {
        Failure::input(format!("{} has no bf16 peak", card.name)).hint("add peak.bf16 to the profile")
    })?;
    if model.max_position < PROMPT + GENERATE {
        return Err(Failure::input(format!(
            "{} was made for {} positions, the claims are about {PROMPT} tokens of prompt and {GENERATE} more",
            model.name, model.max_position
        ))
        .hint("give llama-8b, or another model of at least as many positions"));
    }
    let case = Case { model, card, roof, cards, machines };
    let all = [
        bytes::weights(&case),
        bytes::ceiling(&case),
        intensity::ridge(&case),
        intensity::decode(&case),
        intensity::prefill(&case),
        intensity::rate(&case),
        times::prefill(&case),
        times::request(&case),
        wall::passed(&case),
        bound::batches(&case),
        quantised::int4(&case),
    ];
    Ok(all.into_iter().enumerate().map(|(at, claim)| Claim { number: at + 1, ..claim }).collect())
}
