//! Verdicts: of a pair, and of the whole comparison from its pairs'.

use schemars::JsonSchema;
use serde::Serialize;

use super::Pair;

/// What is known of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairVerdict {
    /// Slower by more than the margin.
    Slower,
    /// Faster by more than the margin.
    Faster,
    /// Within the margin.
    Same,
    /// The trials allow no verdict.
    Inconclusive,
    /// A stage too short to be judged: under 1% of the step on both sides.
    NotJudged,
    /// Only one side has this point.
    Unmatched,
}

/// The one verdict of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one point is slower.
    Slower,
    /// No point is slower, all are decided, and at least one is faster.
    Faster,
    /// All points are within the margin.
    Same,
    /// No point is slower, but at least one may be, or nothing could be judged.
    Inconclusive,
}

/// How many pairs got which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Slower by more than the margin.
    pub slower: u32,
    /// Faster by more than the margin.
    pub faster: u32,
    /// Within the margin.
    pub same: u32,
    /// Without a verdict.
    pub inconclusive: u32,
    /// Too short to be judged.
    pub not_judged: u32,
    /// On one side only.
    pub unmatched: u32,
}

impl PairVerdict {
    /// Lower-case name as people read it.
    pub fn name(self) -> &'static str {
        match self {
            PairVerdict::Slower => "slower",
            PairVerdict::Faster => "faster",
            PairVerdict::Same => "same",
            PairVerdict::Inconclusive => "inconclusive",
            PairVerdict::NotJudged => "not judged",
            PairVerdict::Unmatched => "unmatched",
        }
    }
}

impl Verdict {
    /// Lower-case name as people read it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Slower => "slower",
            Verdict::Faster => "faster",
            Verdict::Same => "same",
            Verdict::Inconclusive => "inconclusive",
        }
    }

    /// The verdict that the pairs' verdicts make.
    pub(super) fn of(counts: &Counts) -> Verdict {
        match counts {
            Counts { slower: 1.., .. } => Verdict::Slower,
            Counts { inconclusive: 1.., .. } => Verdict::Inconclusive,
            Counts { faster: 1.., .. } => Verdict::Faster,
            Counts { same: 1.., .. } => Verdict::Same,
            _ => Verdict::Inconclusive,
        }
    }
}

impl Counts {
    /// Counts the verdicts of pairs.
    pub(super) fn of(pairs: &[Pair]) -> Counts {
        let mut counts = Counts::default();
        for pair in pairs {
            *match pair.verdict {
                PairVerdict::Slower => &mut counts.slower,
                PairVerdict::Faster => &mut counts.faster,
                PairVerdict::Same => &mut counts.same,
                PairVerdict::Inconclusive => &mut counts.inconclusive,
                PairVerdict::NotJudged => &mut counts.not_judged,
                PairVerdict::Unmatched => &mut counts.unmatched,
            } += 1;
        }
        counts
    }
}
