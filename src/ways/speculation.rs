//! Speculation: what verifying several proposed tokens in one pass costs, and from which acceptance on it pays.

use super::{Step, steps};
use crate::model::Precision;
use crate::run::Run;

/// A pass that verifies several tokens of each sequence at once, held against one that makes a single token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// Types.
    pub precision: Precision,
    /// Sequences.
    pub batch: u32,
    /// Positions that the last token attends.
    pub context: u32,
    /// Tokens of each sequence in the pass: the one that is certain and those that the draft proposed.
    pub tokens: u32,
    /// T(k)/T(1).
    pub cost: f64,
    /// Bytes of the pass over those of a pass of one token.
    pub bytes_ratio: f64,
    /// What the draft's k - 1 steps take, in steps of the model; `None` where no draft was measured.
    pub draft: Option<f64>,
}

/// Mean new tokens of a cycle that verifies `tokens`, where each proposed one is accepted with this chance and the first
/// that is not ends it: 1 + a + a^2 + ... (the model itself gives one more than was accepted).
pub fn tokens_per_cycle(acceptance: f64, tokens: u32) -> f64 {
    (0..tokens).map(|i| acceptance.powi(i as i32)).sum()
}

impl Verified {
    /// What a cycle costs in steps of the model: the draft's and the verifying pass.
    pub fn cycle(&self) -> f64 {
        self.cost + self.draft.unwrap_or(0.0)
    }

    /// Smallest mean number of accepted proposals at which a cycle makes more tokens than as many steps would; `None` where
    /// even all of them are too few.
    pub fn break_even_accepted(&self) -> Option<f64> {
        let accepted = (self.cycle() - 1.0).max(0.0);
        (accepted <= f64::from(self.tokens - 1)).then_some(accepted)
    }

    /// The same as a chance for each proposed token.
    pub fn break_even_acceptance(&self) -> Option<f64> {
        self.break_even_accepted()?;
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if tokens_per_cycle(middle, self.tokens) < self.cycle() { low = middle } else { high = middle }
        }
        Some(high)
    }
}

/// All verifying passes of a run whose pass of one token was measured too, in the run's order.
pub fn verified(run: &Run) -> Vec<Verified> {
    let pass = |s: &Step| (s.point.precision(), s.point.batch, s.point.context, s.point.ranks);
    let of = |step: Step| {
        let one = steps(run).find(|one| one.point.tokens == 1 && pass(one) == pass(&step))?;
        let draft = run
            .draft
            .iter()
            .flat_map(|draft| &draft.steps)
            .find(|draft| (draft.batch, draft.context) == (step.point.batch, step.point.context));
        // The draft ran at another time: it counts under the run's read ceiling like everything else.
        let draft = draft.and_then(|draft| {
            let bandwidth = run.roofline()?.bandwidth.0;
            let shortest = (draft.bytes / bandwidth).max(draft.flops / one.point.roof_flops_per_second);
            Some(f64::from(step.point.tokens - 1) * shortest / draft.fraction_of_roof / one.seconds)
        });
        Some(Verified {
            precision: step.point.precision(),
            batch: step.point.batch,
            context: step.point.context,
            tokens: step.point.tokens,
            cost: step.seconds / one.seconds,
            bytes_ratio: step.bytes() / one.bytes(),
            draft,
        })
    };
    steps(run).filter(|step| step.point.tokens > 1 && step.point.ranks == 1).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verified(tokens: u32, cost: f64, draft: Option<f64>) -> Verified {
        let precision = Precision::BF16;
        Verified { precision, batch: 1, context: 100, tokens, cost, bytes_ratio: 1.0, draft }
    }

    #[test]
    fn four_tokens_at_an_acceptance_of_a_half_make_nearly_two() {
        assert_eq!(tokens_per_cycle(0.5, 4), 1.875);
        assert_eq!((tokens_per_cycle(0.0, 8), tokens_per_cycle(1.0, 8)), (1.0, 8.0));
    }

    #[test]
    fn a_free_pass_pays_from_the_first_accepted_token_and_a_dear_one_never() {
        assert_eq!(verified(4, 1.0, None).break_even_accepted(), Some(0.0));
        assert_eq!(verified(2, 1.2, Some(1.0)).break_even_accepted(), None);
        assert_eq!(verified(4, 1.1, Some(0.6)).break_even_accepted().map(|x| (x * 10.0).round()), Some(7.0));
    }

    proptest! {
        #[test]
        fn at_the_break_even_acceptance_a_cycle_is_worth_its_cost(tokens in 2u32..9, cost in 1.0f64..3.0, draft in 0.0f64..2.0) {
            let verified = verified(tokens, cost, Some(draft));
            if let Some(acceptance) = verified.break_even_acceptance() {
                prop_assert!((tokens_per_cycle(acceptance, tokens) - verified.cycle()).abs() < 1e-6);
                let accepted = verified.break_even_accepted().unwrap();
                prop_assert!((1.0 + accepted - verified.cycle()).abs() < 1e-12);
            } else {
                prop_assert!(verified.cycle() > f64::from(tokens));
            }
        }
    }
}
