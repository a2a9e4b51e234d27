//! `llmroof claims`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Destination;
use super::runs::read;
use crate::claims::{Claim, Figure, Machine, Measured, claims, machines};
use crate::cli::ClaimsArgs;
use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::export::{self, Cell, Column, Format, Listing};
use crate::model::{ModelSpec, Precision};
use crate::profiles::Catalog;
use crate::run::{Run, RunStatus};
use crate::units::Bytes;

/// The model that the claims are about.
const MODEL: &str = "llama-8b";

/// Runs `llmroof claims`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(args: &ClaimsArgs) -> Result<()> {
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let card = catalog.device(&args.device)?;
    let named = args.model.as_deref().map(|name| catalog.model(name)).transpose()?;
    let destination = Destination::of(&args.output)?;
    let runs = args.runs.iter().map(|path| measured(path)).collect::<Result<Vec<Run>>>()?;
    let model = match (named, runs.first()) {
        (Some(model), _) => model,
        (None, Some(run)) => run.model.clone(),
        (None, None) => catalog.model(MODEL)?,
    };
    for (path, run) in args.runs.iter().zip(&runs) {
        if !same_shape(&run.model, &model) {
            return Err(Failure::input(format!(
                "{}: a run of {}, the claims are held against {}",
                path.display(),
                run.model.name,
                model.name
            ))
            .hint("give runs of one model, and no --model or that one"));
        }
    }

    let machines = machines(&runs);
    let cards: Vec<&DeviceProfile> = catalog.devices().collect();
    let table = claims(&model, card, &cards, &machines)?;
    let page = Page { args, model: &model, card, machines: &machines, claims: &table };
    destination.write(|format| page.render(format))
}

/// A run that was measured.
fn measured(path: &Path) -> Result<Run> {
    let run = read(path)?;
    if run.status == RunStatus::Predicted {
        return Err(Failure::input(format!("{}: a prediction, nothing of it was measured", path.display()))
            .hint("give a run that `llmroof measure` wrote; what is predicted is shown anyway"));
    }
    Ok(run)
}

/// Whether two are the same model: their names and sources may differ.
fn same_shape(a: &ModelSpec, b: &ModelSpec) -> bool {
    let bare = |model: &ModelSpec| ModelSpec { name: String::new(), source: String::new(), ..model.clone() };
    bare(a) == bare(b)
}

/// What is shown.
struct Page<'a> {
    args: &'a ClaimsArgs,
    model: &'a ModelSpec,
    card: &'a DeviceProfile,
    machines: &'a [Machine<'a>],
    claims: &'a [Claim],
}

impl Page<'_> {
    fn render(&self, format: Format) -> Result<String> {
        match format.of_lists()? {
            Format::Json | Format::Csv => export::render_listing(&self.flat(), format),
            _ => {
                let parts =
                    std::iter::once(self.overview()).chain(self.claims.iter().map(|c| self.details(c)));
                let texts =
                    parts.map(|part| export::render_listing(&part, format)).collect::<Result<Vec<_>>>()?;
                Ok(texts.join("\n"))
            }
        }
    }

    /// How a machine is called in cells: by its name, or by a letter where there are several.
    fn label(&self, at: usize) -> String {
        match self.machines {
            [only] => only.device.clone(),
            _ => letter(at),
        }
    }

    /// Every claim with its verdict, and what the figures are.
    fn overview(&self) -> Listing {
        let mut columns = vec![column("number", "#"), column("claim", "claim")];
        columns.push(column("verdict", "by what is computed"));
        columns.push(column("measured_verdict", "by what was measured"));
        let mut notes = vec![format!(
            "predicted: computed from the model's bytes and FLOPs and, where a figure depends on a device, from the \
             datasheet of {}; nothing of it was measured",
            self.card.title
        )];
        if self.model.name != MODEL || !self.card.name.starts_with("a100") {
            notes.push(
                "the claims speak of a Llama of 8B on an A100: of another model or card a verdict says whether they would \
                 hold there"
                    .into(),
            );
        }
        let resident = self.model.resident_bytes(Precision::BF16);
        if resident.0 > self.card.memory.value {
            let has = Bytes(self.card.memory.value).human();
            notes.push(format!(
                "{} does not fit: it occupies {}, the card has {has}",
                self.model.name,
                resident.human()
            ));
        }
        for (at, machine) in self.machines.iter().enumerate() {
            let label = if self.machines.len() > 1 { format!("{}: ", letter(at)) } else { String::new() };
            let whose = match machine.is_of(self.card) {
                true => "the claims' card",
                false => "another device, by which only claims about any device are judged",
            };
            notes.push(format!("measured: {label}on {}, {whose}", machine.name));
        }
        if self.machines.is_empty() {
            notes.push("measured: no run was given".into());
        } else if !self.machines.iter().any(|machine| machine.is_of(self.card)) {
            notes.push(format!("no run here was measured on {}", self.card.title));
        }
        notes.push(
            "right is a claim within 1% of the figure found, 5% where it says about; too high or too low is the claim, by \
             that much of the figure found"
                .into(),
        );
        notes.push(format!("made by: {}", command(self.args)));
        Listing {
            title: format!(
                "What a course on LLM inference says, held against {} on {}",
                self.model.name, self.card.title
            ),
            columns,
            rows: self
                .claims
                .iter()
                .map(|claim| {
                    vec![
                        Cell::count(claim.number as u64, claim.number.to_string()),
                        Cell::text(claim.claim.clone()),
                        Cell::text(claim.verdict.clone().unwrap_or_else(|| "not judged".into())),
                        Cell::text(self.measured_verdicts(claim)),
                    ]
                })
                .collect(),
            notes,
            document: None,
        }
    }

    fn measured_verdicts(&self, claim: &Claim) -> String {
        let verdicts = claim.measured_verdicts.iter().enumerate();
        let told =
            verdicts.filter_map(|(at, verdict)| Some(format!("{}: {}", self.label(at), verdict.as_ref()?)));
        let told: Vec<String> = told.collect();
        if self.machines.is_empty() {
            "-".into()
        } else if told.is_empty() {
            "not judged".into()
        } else {
            told.join("; ")
        }
    }

    /// One claim with its figures.
    fn details(&self, claim: &Claim) -> Listing {
        Listing {
            title: format!("{}. {}", claim.number, claim.claim),
            columns: [
                ("figure", "figure"),
                ("claimed", "claimed"),
                ("predicted", "predicted"),
                ("verdict", "the claim is"),
                ("measured", "measured"),
            ]
            .map(|(name, title)| column(name, title))
            .to_vec(),
            rows: claim
                .figures
                .iter()
                .map(|figure| {
                    let shown = |value: f64| figure.unit.show(value);
                    vec![
                        Cell::text(figure.what.clone()),
                        figure.claimed.map_or_else(Cell::unknown, |claimed| {
                            Cell::text(claimed.words(&figure.unit.claimed(claimed.value)))
                        }),
                        figure.predicted.map_or_else(Cell::unknown, |value| Cell::text(shown(value))),
                        figure.verdict.map_or_else(Cell::unknown, |verdict| Cell::text(verdict.words())),
                        Cell::text(self.measured(figure)),
                    ]
                })
                .collect(),
            notes: vec![
                format!("computed: {}", claim.verdict.as_deref().unwrap_or("not judged")),
                format!("measured: {}", self.measured_verdicts(claim)),
                claim.how.clone(),
            ],
            document: None,
        }
    }

    /// What each machine measured of a figure.
    fn measured(&self, figure: &Figure) -> String {
        if self.machines.is_empty() {
            return "-".into();
        }
        if figure.measured.iter().all(Option::is_none) {
            return "not measured in this run".into();
        }
        if let ([only], [Some(measured)]) = (self.machines, figure.measured.as_slice()) {
            return in_words(figure, measured, &format!(" on {}", only.device));
        }
        let texts = figure.measured.iter().enumerate().map(|(at, measured)| {
            let text = measured.as_ref().map_or_else(|| "not measured".into(), |m| in_words(figure, m, ""));
            format!("{}: {text}", letter(at))
        });
        texts.collect::<Vec<_>>().join("; ")
    }

    /// A row for each figure and machine, in base units; in JSON the claims as they are.
    fn flat(&self) -> Listing {
        let names: Vec<&str> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
        let rows = self.claims.iter().flat_map(|claim| {
            let names = &names;
            claim.figures.iter().flat_map(move |figure| {
                // Without a machine there is a row all the same.
                (0..names.len().max(1)).map(move |at| {
                    let measured = figure.measured.get(at).and_then(Option::as_ref);
                    row(claim, figure, names.get(at).copied(), measured)
                })
            })
        });
        Listing {
            title: "Claims".into(),
            columns: COLUMNS.map(|name| column(name, name)).to_vec(),
            rows: rows.collect(),
            notes: Vec::new(),
            document: Some(json!({
                "model": self.model.name,
                "device": self.card.name,
                "machines": names,
                "claims": self.claims,
            })),
        }
    }
}

const COLUMNS: [&str; 11] = [
    "number",
    "claim",
    "figure",
    "unit",
    "claimed",
    "predicted",
    "verdict",
    "machine",
    "measured",
    "measured_verdict",
    "remark",
];

fn row(claim: &Claim, figure: &Figure, machine: Option<&str>, measured: Option<&Measured>) -> Vec<Cell> {
    let number = |value: Option<f64>| value.map_or_else(Cell::unknown, |v| Cell::number(v, v.to_string()));
    let text = |text: Option<String>| text.map_or_else(Cell::unknown, Cell::text);
    vec![
        Cell::count(claim.number as u64, claim.number.to_string()),
        Cell::text(claim.claim.clone()),
        Cell::text(figure.what.clone()),
        Cell::text(figure.unit.unit()),
        number(figure.claimed.map(|claimed| claimed.value)),
        number(figure.predicted),
        text(figure.verdict.map(|verdict| verdict.words())),
        text(machine.map(str::to_owned)),
        number(measured.map(|measured| measured.value)),
        text(measured.and_then(|measured| measured.verdict).map(|verdict| verdict.words())),
        text(measured.and_then(|measured| measured.remark.clone())),
    ]
}

fn column(name: &'static str, title: &'static str) -> Column {
    Column { name, title }
}

/// A, B, ... of the machines; beyond Z by number.
fn letter(at: usize) -> String {
    match u8::try_from(at) {
        Ok(at @ 0..=25) => char::from(b'A' + at).to_string(),
        _ => format!("#{}", at + 1),
    }
}

/// `3.563 tok/s on AMD EPYC (96.1% of what its roofs allow): the claim is 1.8% too low`.
fn in_words(figure: &Figure, measured: &Measured, place: &str) -> String {
    let remark = measured.remark.as_ref().map(|remark| format!(" ({remark})")).unwrap_or_default();
    let verdict = measured.verdict.map(|verdict| match verdict.is_right() {
        true => format!(": {}", verdict.words()),
        false => format!(": the claim is {}", verdict.words()),
    });
    let verdict = verdict.unwrap_or_default();
    format!("{}{place}{remark}{verdict}", figure.unit.show(measured.value))
}

/// The command line that gives the same page, whatever the format and wherever it went.
fn command(args: &ClaimsArgs) -> String {
    let mut words = vec!["llmroof claims".to_string()];
    words.extend(args.runs.iter().map(|path: &PathBuf| quoted(&path.display().to_string())));
    words.extend(["--device".into(), quoted(&args.device)]);
    if let Some(model) = &args.model {
        words.extend(["--model".into(), quoted(model)]);
    }
    if let Some(folder) = &args.profiles {
        words.extend(["--profiles".into(), quoted(&folder.display().to_string())]);
    }
    words.join(" ")
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:+,@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
