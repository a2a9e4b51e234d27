//! What people are shown of a comparison: which rows and columns, in which units, and the lines around them.

use crate::compare::{
    Comparison, Cost, Detectable, DevicePass, Metric, Money, Pair, PairVerdict, Side, pass, title,
};
use crate::export::grid::Grid;
use crate::run::Key;
use crate::units::{Seconds, figures, percent};

/// A comparison in words and columns.
pub(super) struct View {
    /// The verdict in one sentence.
    pub verdict: String,
    /// What must stand out.
    pub warning: Option<String>,
    /// What was compared with what.
    pub sides: Vec<String>,
    /// The pairs that say something: every step, and the stages that changed or may have.
    pub pairs: Grid,
    /// Why a pair has its verdict, where that is not plain; then the notes.
    pub below: Vec<String>,
    /// For each pass on two devices what explains it, and the ratios.
    pub devices: Vec<(String, Grid)>,
    /// Money and energy.
    pub costs: Option<Grid>,
}

impl View {
    /// The view of a comparison.
    pub fn of(comparison: &Comparison) -> View {
        let devices = comparison.devices.iter().flat_map(|devices| &devices.passes);
        View {
            verdict: comparison.sentence.clone(),
            warning: comparison.warning.clone(),
            sides: vec![side("BASE", &comparison.base), side("NEW", &comparison.new)],
            pairs: pairs(comparison),
            below: below(comparison),
            devices: devices.map(|pass| (pass.sentence.clone(), ratios(pass))).collect(),
            costs: (!comparison.costs.is_empty()).then(|| costs(&comparison.costs)),
        }
    }
}

fn side(name: &str, side: &Side) -> String {
    let plural = |count: u32, one: &str| match count {
        1 => format!("1 {one}"),
        n => format!("{n} {one}{}", if one.ends_with('s') { "es" } else { "s" }),
    };
    let trials = if side.predicted { "predicted".into() } else { plural(side.trials, "trial") };
    let processes = match side.processes {
        0 | 1 => String::new(),
        n => format!(" of {}", plural(n, "process")),
    };
    format!(
        "{name}: {} on {}, llmroof {}, {trials}{processes} in {}, from {}",
        side.model,
        side.device,
        side.tool,
        plural(side.runs, "run"),
        side.created
    )
}

/// Whether the table shows this pair: all steps, and the stages that are not plainly the same. Those of two devices have
/// a table of their own.
fn shown(comparison: &Comparison, pair: &Pair) -> bool {
    let plain = matches!(pair.verdict, PairVerdict::Same | PairVerdict::NotJudged);
    pair.key.stage.is_none() || !plain && comparison.devices.is_none()
}

fn pairs(comparison: &Comparison) -> Grid {
    let mut grid = Grid::default();
    grid.column("phase", false);
    for heading in ["batch", "BASE", "NEW", "NEW/BASE", "95% interval", "spread"] {
        grid.column(heading, true);
    }
    let open = comparison.pairs.iter().any(wants_trials);
    if open {
        grid.column("could see", true);
        grid.column("trials to settle", true);
    }
    grid.column("verdict", false);
    for pair in comparison.pairs.iter().filter(|pair| shown(comparison, pair)) {
        let key = &pair.key;
        let cell = |side: &Option<crate::compare::Measured>| {
            side.as_ref().map_or("-".into(), |side| match comparison.metric {
                Metric::Time => Seconds(side.median_seconds).human(),
                Metric::Roof => percent(side.fraction_of_roof),
            })
        };
        let spread = [&pair.base, &pair.new].into_iter().filter_map(|side| side.as_ref()?.spread);
        let mut row = vec![
            phase(key),
            key.batch.to_string(),
            cell(&pair.base),
            cell(&pair.new),
            pair.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            pair.interval.map_or("-".into(), |i| format!("{:.3} to {:.3}", i.low, i.high)),
            spread.reduce(f64::max).map_or("-".into(), percent),
        ];
        if open {
            let detectable = pair.detectable.filter(|_| wants_trials(pair));
            row.push(
                detectable.and_then(|d| d.slowdown).map_or(String::new(), |s| format!("+{}", percent(s))),
            );
            row.push(detectable.map_or(String::new(), to_settle));
        }
        row.push(pair.verdict.name().into());
        grid.rows.push(row);
    }
    grid
}

/// Whether all that is wrong with a pair is that its trials are too few or too noisy.
fn wants_trials(pair: &Pair) -> bool {
    pair.verdict == PairVerdict::Inconclusive && pair.detectable.is_some() && pair.cycles.is_none()
}

fn to_settle(detectable: Detectable) -> String {
    match (detectable.trials_to_settle, detectable.slowdown) {
        (Some(trials), _) => format!("{trials} a side"),
        (None, None) => format!("at least {}", detectable.trials_at_least),
        (None, Some(_)) => "over 1000".into(),
    }
}

/// A step by its phase, a stage indented below it.
fn phase(key: &Key) -> String {
    key.stage.map_or_else(|| key.phase.to_string(), |stage| format!("  {stage}"))
}

fn below(comparison: &Comparison) -> Vec<String> {
    let mut lines: Vec<String> = comparison
        .pairs
        .iter()
        .filter(|pair| !matches!(pair.verdict, PairVerdict::Same | PairVerdict::NotJudged))
        // The table and the sentences of two devices say it all.
        .filter(|pair| !wants_trials(pair) && comparison.devices.is_none())
        .map(|pair| format!("{}: {}: {}", pair.verdict.name(), title(&pair.key), pair.reason))
        .collect();
    let noted = |pair: &Pair| {
        let title = title(&pair.key);
        pair.notes.iter().map(move |note| format!("note: {title}: {note}")).collect::<Vec<_>>()
    };
    lines.extend(comparison.pairs.iter().flat_map(noted));
    let hidden = comparison.pairs.iter().filter(|pair| !shown(comparison, pair)).count();
    if hidden > 0 && comparison.devices.is_none() {
        lines.push(format!(
            "{hidden} stages that are the same or too short to judge are not listed; -o csv and -o json hold them"
        ));
    }
    if comparison.pairs.iter().any(wants_trials) {
        lines.push(
            "could see: the smallest slowdown that these trials find nine times in ten; trials to settle: about how many \
             on each side decide it, should what was seen be the truth"
                .into(),
        );
    }
    if comparison.metric == Metric::Roof {
        lines.push(
            "compared are times over the shortest that the roofs beside them allow: above 1 is further from the roof"
                .into(),
        );
    }
    lines.extend(comparison.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn ratios(device_pass: &DevicePass) -> Grid {
    let mut grid = Grid::default();
    grid.column("NEW over BASE", false);
    for heading in ["on paper", "ceilings", "measured", "95% interval"] {
        grid.column(heading, true);
    }
    grid.column("limited by", false);
    let x = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
    for ratio in &device_pass.ratios {
        let limit = if ratio.base_limit == ratio.new_limit {
            ratio.base_limit.name().to_owned()
        } else {
            format!("{}, then {}", ratio.base_limit.name(), ratio.new_limit.name())
        };
        grid.rows.push(vec![
            phase(&ratio.key),
            x(ratio.datasheet),
            x(ratio.ceiling),
            format!("{}{}", x(Some(ratio.result)), if ratio.predicted { " (predicted)" } else { "" }),
            ratio.interval.map_or("-".into(), |i| format!("{:.2} to {:.2}", i.low, i.high)),
            limit,
        ]);
    }
    grid
}

fn costs(costs: &[Cost]) -> Grid {
    let mut grid = Grid::default();
    grid.column("cost", false);
    for heading in ["$/Mtoken BASE", "$/Mtoken NEW", "NEW/BASE", "J/token BASE", "J/token NEW"] {
        grid.column(heading, true);
    }
    let figure = |of: Option<f64>| of.map_or("-".into(), figures);
    for Cost { key, base, new, ratio } in costs {
        let (dollars, joules) =
            (|m: &Money| figure(m.dollars_per_million_tokens), |m: &Money| figure(m.joules_per_token));
        grid.rows.push(vec![
            pass(key),
            dollars(base),
            dollars(new),
            ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            joules(base),
            joules(new),
        ]);
    }
    grid
}
