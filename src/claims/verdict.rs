//! What a figure makes of a claim: a function of the claimed value, the value found, and a tolerance.

use serde::Serialize;

use crate::units::figures;

/// A claimed value within this share of the one found is right.
pub const EXACT: f64 = 0.01;
/// The same where the claim says "about".
pub const ABOUT: f64 = 0.05;
/// From this ratio on a verdict names the factor, below it the percentage.
const FACTOR: f64 = 2.0;

/// How a claim holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The value is this.
    Is,
    /// The value is no more than this.
    AtMost,
    /// The value is more than this.
    MoreThan,
}

/// A figure as claimed, in base units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Claimed {
    /// How.
    pub kind: Kind,
    /// The figure.
    pub value: f64,
    /// Share of it by which the value found may differ.
    pub tolerance: f64,
}

/// Whether a claimed figure is right. The ratios are above 1: how far the claim is off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "ratio")]
pub enum Verdict {
    /// As claimed.
    Right,
    /// The claim says more than there is.
    TooHigh(f64),
    /// The claim says less than there is.
    TooLow(f64),
}

impl Claimed {
    /// The value is this.
    pub fn is(value: f64) -> Claimed {
        Claimed { kind: Kind::Is, value, tolerance: EXACT }
    }

    /// The value is about this.
    pub fn about(value: f64) -> Claimed {
        Claimed { kind: Kind::Is, value, tolerance: ABOUT }
    }

    /// The value is no more than this.
    pub fn at_most(value: f64) -> Claimed {
        Claimed { kind: Kind::AtMost, value, tolerance: EXACT }
    }

    /// The value is more than this.
    pub fn more_than(value: f64) -> Claimed {
        Claimed { kind: Kind::MoreThan, value, tolerance: EXACT }
    }

    /// Judges the claim by the value found. Both are zero or more.
    pub fn judge(&self, found: f64) -> Verdict {
        // Zero over zero is as claimed; anything over zero is infinitely more.
        let over = |a: f64, b: f64| if a == b { 1.0 } else { a / b };
        let (high, low) = (over(self.value, found), over(found, self.value));
        let most = 1.0 + self.tolerance;
        match self.kind {
            Kind::Is if high > most => Verdict::TooHigh(high),
            Kind::Is | Kind::AtMost if low > most => Verdict::TooLow(low),
            // "More than" is not fulfilled by what is equal but for noise.
            Kind::MoreThan if low <= most => Verdict::TooHigh(high.max(1.0)),
            _ => Verdict::Right,
        }
    }

    /// Judges the claim by a value that may be off by this share; `None` if another value of that range would be judged
    /// to be on another side, or if it is no number.
    pub fn judge_within(&self, found: f64, spread: f64) -> Option<Verdict> {
        if !(found.is_finite() && spread.is_finite()) {
            return None;
        }
        let side = |share: f64| std::mem::discriminant(&self.judge(found * share));
        (side(1.0 - spread.min(1.0)) == side(1.0 + spread)).then(|| self.judge(found))
    }

    /// The claimed figure with how it is claimed; `shown` is the value for people.
    pub fn words(&self, shown: &str) -> String {
        match self.kind {
            Kind::Is if self.tolerance > EXACT => format!("about {shown}"),
            Kind::Is => shown.into(),
            Kind::AtMost => format!("at most {shown}"),
            Kind::MoreThan => format!("more than {shown}"),
        }
    }
}

impl Verdict {
    /// Whether it is as claimed.
    pub fn is_right(self) -> bool {
        self == Verdict::Right
    }

    /// In words: `right`, `6.6% too high`, `too low by a factor of 127`.
    pub fn words(self) -> String {
        between(self, self)
    }

    /// How far off, above 1, and the side.
    fn off(self) -> (f64, &'static str) {
        match self {
            Verdict::Right => (1.0, "right"),
            Verdict::TooHigh(ratio) => (ratio, "too high"),
            Verdict::TooLow(ratio) => (ratio, "too low"),
        }
    }

    /// The claim's distance as a share of the value found.
    fn share(self) -> f64 {
        match self {
            Verdict::Right => 0.0,
            Verdict::TooHigh(ratio) => ratio - 1.0,
            Verdict::TooLow(ratio) => 1.0 - 1.0 / ratio,
        }
    }
}

/// The words of two verdicts on the same side, from the lesser to the greater, or of one.
fn between(least: Verdict, most: Verdict) -> String {
    let ((low, side), (high, _)) = (least.off(), most.off());
    let factor = |ratio: f64| ratio >= FACTOR;
    let percent = |verdict: Verdict| format!("{:.1}%", verdict.share() * 100.0);
    let range = |a: String, b: String| if a == b { a } else { format!("{a} to {b}") };
    match (low, high) {
        _ if least == Verdict::Right => side.into(),
        _ if !high.is_finite() => side.into(),
        _ if high <= 1.0 => format!("{side}: no more than equal"),
        _ if factor(low) => format!("{side} by a factor of {}", range(figures(low), figures(high))),
        _ if factor(high) => format!("{} to a factor of {} {side}", percent(least), figures(high)),
        _ => format!("{} {side}", range(percent(least), percent(most))),
    }
}

/// One verdict of several cases, each with its name; `None` without any.
///
/// All right is right. Some right and the claim too high (low) for all others makes it a bound. What is wrong in every
/// case is wrong by so much; all else depends on the case.
pub fn overall(cases: &[(&str, Verdict)]) -> Option<String> {
    let names = |wanted: fn(Verdict) -> bool| -> Vec<&str> {
        cases.iter().filter(|(_, verdict)| wanted(*verdict)).map(|(name, _)| *name).collect()
    };
    let right = names(Verdict::is_right);
    let high = names(|verdict| matches!(verdict, Verdict::TooHigh(_)));
    let low = names(|verdict| matches!(verdict, Verdict::TooLow(_)));
    Some(match (right.len(), high.len(), low.len()) {
        (0, 0, 0) => return None,
        (_, 0, 0) => "right".into(),
        (0, _, 0) | (0, 0, _) => format!("wrong: {}", range(cases)),
        (0, ..) => {
            format!("needs a qualification: too high for {}, too low for {}", high.join("; "), low.join("; "))
        }
        (_, _, 0) => {
            format!("right as an upper bound: right for {}, too high for the rest", right.join("; "))
        }
        (_, 0, _) => format!("needs a qualification: right for {}, too low for the rest", right.join("; ")),
        _ => format!("needs a qualification: right only for {}", right.join("; ")),
    })
}

/// The least and the most that claims on one side are off.
fn range(cases: &[(&str, Verdict)]) -> String {
    let mut verdicts: Vec<Verdict> = cases.iter().map(|(_, verdict)| *verdict).collect();
    verdicts.sort_by(|a, b| a.off().0.total_cmp(&b.off().0));
    match verdicts.as_slice() {
        [least, .., most] => between(*least, *most),
        [one] => one.words(),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_from_the_numbers() {
        for (claimed, found, words) in [
            (Claimed::is(16e9), 16.06e9, "right"),
            (Claimed::is(16e9), 15.01e9, "6.6% too high"),
            (Claimed::is(125.0), 133.2, "6.2% too low"),
            (Claimed::is(16e9), 2.0e12, "too low by a factor of 125"),
            (Claimed::about(1.0), 1.04, "right"),
            (Claimed::at_most(1.0), 0.2, "right"),
            (Claimed::at_most(1.0), 1.07, "6.5% too low"),
            (Claimed::at_most(0.0), 0.0, "right"),
            (Claimed::at_most(0.0), 0.6, "too low"),
            (Claimed::more_than(1.0), 3.0, "right"),
            (Claimed::more_than(1.0), 1.0, "too high: no more than equal"),
            (Claimed::more_than(1.0), 0.8, "25.0% too high"),
        ] {
            assert_eq!(claimed.judge(found).words(), words, "{claimed:?} {found}");
        }
    }

    #[test]
    fn one_verdict_of_several() {
        use Verdict::{Right, TooHigh, TooLow};
        for (cases, words) in [
            (vec![], None),
            (vec![Right, Right], Some("right")),
            (vec![TooHigh(1.1), TooHigh(1.5)], Some("wrong: 10.0% to 50.0% too high")),
            (vec![TooLow(128.0)], Some("wrong: too low by a factor of 128")),
            (vec![Right, TooHigh(1.5)], Some("right as an upper bound: right for a, too high for the rest")),
            (vec![TooLow(8.0), Right], Some("needs a qualification: right for b, too low for the rest")),
            (vec![Right, TooLow(1.5), TooHigh(1.5)], Some("needs a qualification: right only for a")),
            (
                vec![TooHigh(1.1), TooLow(1.2), TooLow(1.5)],
                Some("needs a qualification: too high for a, too low for b; c"),
            ),
        ] {
            let named: Vec<_> = ["a", "b", "c"].into_iter().zip(cases).collect();
            assert_eq!(overall(&named).as_deref(), words);
        }
    }
}
