//! A judgement in one line.

use super::floors::Basis;
use super::judge::{Finding, Judgement, Verdict};
use crate::units::percent;

/// `ok: NVIDIA H100 80GB HBM3 (GPU-0123...): read 3.24 TB/s (97% of datasheet, floor 82%), ...`.
pub fn line(device: &str, judgement: &Judgement) -> String {
    let text = match judgement.verdict {
        Verdict::Ok => {
            let all: Vec<String> =
                judgement.findings.iter().filter_map(|finding| passed(finding, judgement.basis)).collect();
            all.join(", ")
        }
        Verdict::Failed | Verdict::Inconclusive => reason(judgement),
    };
    format!("{}: {device}: {text}", judgement.verdict.name())
}

/// Why it did not pass: doubts first where there are any, then troubles, then every floor that was missed, then what
/// may explain it.
pub fn reason(judgement: &Judgement) -> String {
    let missed = judgement.findings.iter().filter(|finding| finding.passed() == Some(false));
    let missed = missed.filter_map(|finding| missed_text(finding, judgement.basis));
    let doubts = judgement.doubts.iter().cloned();
    let parts = doubts.chain(judgement.troubles.iter().cloned()).chain(missed);
    parts.chain(judgement.remarks.iter().cloned()).collect::<Vec<_>>().join("; ")
}

/// `read 3.24 TB/s (97% of datasheet, floor 82%)`.
fn passed(finding: &Finding, basis: Basis) -> Option<String> {
    let figure = finding.floor.figure;
    let shown = figure.human(finding.measured?);
    Some(match of(finding, basis) {
        Some(of) => {
            format!("{figure} {shown} ({} of {of}, floor {})", percent(finding.share()?), floor(finding))
        }
        None => format!("{figure} {shown} (floor {})", floor(finding)),
    })
}

/// `read 2.71 TB/s is 81% of datasheet, floor 82%`.
fn missed_text(finding: &Finding, basis: Basis) -> Option<String> {
    let figure = finding.floor.figure;
    let shown = figure.human(finding.measured?);
    Some(match of(finding, basis) {
        Some(of) => {
            format!("{figure} {shown} is {} of {of}, floor {}", percent(finding.share()?), floor(finding))
        }
        None => format!("{figure} is {shown}, floor {}", floor(finding)),
    })
}

/// What the share is of; `None` where the figure is the share.
fn of(finding: &Finding, basis: Basis) -> Option<&'static str> {
    match basis {
        Basis::Run => Some("the run"),
        Basis::Datasheet if finding.floor.figure == super::Figure::Decode => None,
        Basis::Datasheet => Some("datasheet"),
    }
}

fn floor(finding: &Finding) -> String {
    percent(finding.floor.share)
}
