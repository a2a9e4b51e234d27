//! JUnit XML: a test case per pair of points. Slower is a failure; without a verdict it was skipped, unless the caller
//! counts that as a failure.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::compare::{Comparison, Pair, PairVerdict, title};
use crate::error::{Failure, Result};

/// The report.
///
/// # Errors
/// A text that XML cannot hold.
pub(super) fn render(comparison: &Comparison, fails_inconclusive: bool) -> Result<String> {
    let mut suite = TestSuite::new("llmroof compare");
    suite.add_property(("verdict", comparison.verdict.name()));
    suite.add_property(("sentence", comparison.sentence.as_str()));
    suite.add_property(("threshold", comparison.threshold.to_string().as_str()));
    for pair in &comparison.pairs {
        suite.add_test_case(case(pair, fails_inconclusive));
    }
    if let Some(warning) = &comparison.warning {
        suite.set_system_err(format!("WARNING: {warning}"));
    }
    suite.set_system_out(comparison.notes.join("\n"));
    let mut report = Report::new("llmroof");
    report.add_test_suite(suite);
    let report =
        report.to_string().map_err(|e| Failure::invalid(format!("the report cannot be written: {e}")))?;
    // The library leaves out what XML forbids, but for these two.
    Ok(report.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
}

fn case(pair: &Pair, fails_inconclusive: bool) -> TestCase {
    let mut status = match pair.verdict {
        PairVerdict::Slower => TestCaseStatus::non_success(NonSuccessKind::Failure),
        PairVerdict::Inconclusive if fails_inconclusive => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        PairVerdict::Inconclusive | PairVerdict::NotJudged | PairVerdict::Unmatched => {
            TestCaseStatus::skipped()
        }
        PairVerdict::Faster | PairVerdict::Same => TestCaseStatus::success(),
    };
    status.set_message(format!("{}: {}", pair.verdict.name(), pair.reason));
    status.set_type(pair.verdict.name());
    let mut case = TestCase::new(title(&pair.key), status);
    case.set_classname(format!("{}.{}", pair.key.model, pair.key.phase));
    case.set_system_out(format!("{}: {}", pair.verdict.name(), pair.reason));
    case
}
