//! What a check found, as lines and as a list for every format.

use serde_json::{Value, json};

use crate::check::{Finding, Judgement, Verdict, line, reason};
use crate::error::{Code, Failure, Result};
use crate::export::{Cell, Column, Listing};
use crate::units::percent;

/// One device and how it passed.
#[derive(Debug, Clone)]
pub struct Checked {
    /// `NVIDIA H100 80GB HBM3 (GPU-1b2c...)`.
    pub device: String,
    /// Whether NVIDIA's tools know more of it.
    pub is_gpu: bool,
    /// What was found, or what kept it from being found.
    pub result: Result<Judgement>,
}

impl Checked {
    /// The one line.
    pub fn line(&self) -> String {
        match &self.result {
            Ok(judgement) => line(&self.device, judgement),
            Err(failure) => format!("failed: {}: {}", self.device, Failure { hint: None, ..failure.clone() }),
        }
    }

    /// What ends the process otherwise than well.
    pub fn failure(&self) -> Option<Failure> {
        let judgement = match &self.result {
            Ok(judgement) => judgement,
            Err(failure) => return Some(failure.clone().at(&self.device)),
        };
        let (code, hint) = match judgement.verdict {
            Verdict::Ok => return None,
            Verdict::Failed if self.is_gpu => (
                Code::CheckFailed,
                "look at `nvidia-smi -q -d PERFORMANCE,CLOCK,POWER,TEMPERATURE,ECC`; `llmroof measure` shows more",
            ),
            Verdict::Failed => (
                Code::CheckFailed,
                "look at what else runs on it, and its clocks; `llmroof measure` shows more",
            ),
            Verdict::Inconclusive => {
                (Code::Inconclusive, "check again when nothing else uses it, or with a longer --budget")
            }
        };
        Some(Failure::new(code, format!("{}: {}", self.device, reason(judgement))).hint(hint))
    }

    /// Whether wrong usage kept it from being checked, which says nothing of the device.
    pub fn refused(&self) -> bool {
        self.result.as_ref().is_err_and(|failure| failure.code == Code::BadInput)
    }

    /// The device as far as a table has room for it: `NVIDIA H100 80GB HBM3 (GPU-1b2c3d4e)`.
    fn shown(&self) -> String {
        match self.device.split_once("(GPU-").and_then(|(name, id)| Some((name, id.get(..8)?))) {
            Some((name, digits)) => format!("{name}(GPU-{digits})"),
            None => self.device.clone(),
        }
    }

    fn verdict(&self) -> Verdict {
        self.result.as_ref().map_or(Verdict::Failed, |judgement| judgement.verdict)
    }

    fn findings(&self) -> &[Finding] {
        self.result.as_ref().map_or(&[], |judgement| &judgement.findings)
    }

    /// Every field under its name.
    fn json(&self) -> Value {
        let figures = self.findings().iter().map(|finding| {
            json!({
                "figure": finding.floor.figure.name(),
                "measured": finding.measured,
                "reference": finding.floor.reference,
                "share": finding.share(),
                "floor": finding.floor.share,
                "passed": finding.passed(),
                "source": finding.floor.source,
            })
        });
        json!({
            "device": self.device,
            "verdict": self.verdict().name(),
            "reason": self.failure().map(|failure| Failure { hint: None, ..failure }.to_string()),
            "exit_code": self.failure().map_or(0, |failure| failure.code as u8),
            "figures": figures.collect::<Vec<_>>(),
        })
    }
}

const COLUMNS: [Column; 8] = [
    Column { name: "device", title: "device" },
    Column { name: "verdict", title: "verdict" },
    Column { name: "figure", title: "figure" },
    Column { name: "measured", title: "measured" },
    Column { name: "share", title: "share" },
    Column { name: "floor", title: "floor" },
    Column { name: "passed", title: "passed" },
    Column { name: "source", title: "floor from" },
];

/// All devices: a row for each figure, or one where there are none.
pub fn listing(all: &[Checked]) -> Listing {
    let share =
        |share: Option<f64>| share.map_or_else(Cell::unknown, |share| Cell::number(share, percent(share)));
    let mut rows = Vec::new();
    for checked in all {
        let device = || Cell { value: checked.device.clone().into(), shown: checked.shown() };
        let start = || [device(), Cell::text(checked.verdict().name())];
        if checked.findings().is_empty() {
            let blank = std::iter::repeat_with(Cell::unknown).take(COLUMNS.len() - 2);
            rows.push(start().into_iter().chain(blank).collect());
        }
        rows.extend(checked.findings().iter().map(|finding| {
            let figure = finding.floor.figure;
            let measured = finding.measured;
            let passed = finding.passed();
            let shown = passed.map_or("-", |passed| if passed { "yes" } else { "NO" });
            let [device, verdict] = start();
            vec![
                device,
                verdict,
                Cell::text(figure.name()),
                measured.map_or_else(Cell::unknown, |value| Cell::number(value, figure.human(value))),
                share(finding.share()),
                share(Some(finding.floor.share)),
                Cell { value: passed.into(), shown: shown.into() },
                Cell::text(&finding.floor.source),
            ]
        }));
    }
    Listing {
        title: "Check: what each device reached, held against its floors".into(),
        columns: COLUMNS.to_vec(),
        rows,
        notes: all.iter().map(Checked::line).collect(),
        document: Some(all.iter().map(Checked::json).collect()),
    }
}
