//! The tables below the points: what servers do, what speculation costs, and what each way past the memory wall is worth.

use super::grid::Grid;
use super::serving;
use crate::run::{Basis, Run, RunStatus};
use crate::units::figures;
use crate::ways::{ACCEPTANCES, Verified, tokens_per_cycle, verified};

/// A table with what stands above and below it.
pub(super) struct Titled {
    /// Its title.
    pub title: String,
    /// Rows and columns.
    pub grid: Grid,
    /// Lines below it.
    pub below: Vec<String>,
}

/// The tables of a run; none where it has nothing about them.
pub(super) fn tables(run: &Run) -> Vec<Titled> {
    let own = [speculation(run), ways(run)].into_iter().flatten();
    serving::tables(run).into_iter().chain(own).collect()
}

fn speculation(run: &Run) -> Option<Titled> {
    let all = verified(run);
    let first = all.first()?;
    let types = all.iter().any(|v| v.precision != first.precision);
    let mut grid = Grid::default();
    if types {
        grid.column("weights", false);
    }
    for title in ["context", "batch", "k", "T(k)/T(1)", "bytes", "draft", "pays from", "acceptance"] {
        grid.column(title, true);
    }
    for acceptance in ACCEPTANCES {
        grid.column(format!("at {acceptance}"), true);
    }
    for v in &all {
        let never = || "never".to_owned();
        let mut row = if types { vec![v.precision.weights.to_string()] } else { Vec::new() };
        row.extend([
            v.context.to_string(),
            v.batch.to_string(),
            v.tokens.to_string(),
            format!("{:.3}", v.cost),
            format!("{:.3}", v.bytes_ratio),
            v.draft.map_or("-".into(), |draft| format!("{draft:.3}")),
            v.break_even_accepted()
                .map_or_else(never, |accepted| format!("{accepted:.2} of {}", v.tokens - 1)),
            v.break_even_acceptance().map_or_else(never, |a| format!("{a:.2}")),
        ]);
        let gain = |v: &Verified, a: f64| tokens_per_cycle(a, v.tokens) / v.cycle();
        row.extend(ACCEPTANCES.map(|acceptance| format!("{:.2}x", gain(v, acceptance))));
        grid.rows.push(row);
    }
    let draft = match &run.draft {
        Some(draft) => format!(
            "draft is the time of {}'s k - 1 steps in steps of {}, {}",
            draft.model,
            run.model.name,
            if run.status == RunStatus::Predicted { "predicted" } else { "measured here" }
        ),
        None => "no draft was measured (--draft): its time is not counted".into(),
    };
    Some(Titled {
        title: "Speculation: one pass verifies k tokens of each sequence".into(),
        grid,
        below: vec![
            "T(k)/T(1) is taken at equal memory bandwidth: of each pass the shortest time under the read ceiling over its \
             measured share of the roof; bytes is the same ratio of the bytes"
                .into(),
            draft,
            "pays from: the smallest mean number of accepted tokens at which a cycle makes more than as many single steps \
             would; acceptance: the same as a chance for each token; at 0.6 and so on: times as many tokens per second, \
             with that acceptance assumed"
                .into(),
        ],
    })
}

fn ways(run: &Run) -> Option<Titled> {
    if run.ways.is_empty() {
        return None;
    }
    let energy = run.ways.iter().any(|way| way.joules_per_million_tokens.is_some());
    let price = run.ways.iter().any(|way| way.dollars_per_million_tokens.is_some());
    let mut grid = Grid::default();
    grid.column("way", false);
    for title in ["nominal", "ideal", "gain"] {
        grid.column(title, true);
    }
    grid.column("basis", false);
    grid.column("tok/s", true);
    if energy {
        grid.column("J/Mtok", true);
    }
    if price {
        grid.column("$/Mtok", true);
    }
    grid.column("eaten by", false);
    let times = |gain: f64| format!("{gain:.2}x");
    for way in &run.ways {
        let mut row = vec![
            way.way.clone(),
            way.nominal_gain.map_or(String::new(), times),
            times(way.ideal_gain),
            times(way.gain),
            way.basis.name().into(),
            figures(way.tokens_per_second),
        ];
        if energy {
            row.push(way.joules_per_million_tokens.map_or("-".into(), figures));
        }
        if price {
            row.push(way.dollars_per_million_tokens.map_or("-".into(), figures));
        }
        row.push(way.eaten_by.join(", "));
        grid.rows.push(row);
    }
    let mut below = vec![
        "gains are over decode with the run's first weights at its smallest batch, in tokens per second: nominal by the width of \
         the numbers (or how many work at once), ideal by the bytes of the whole step, gain at equal memory bandwidth (each \
         time under the read ceiling over its measured share of the roof)"
            .into(),
    ];
    let assumed = run.ways.iter().any(|way| way.basis == Basis::Assumed);
    if assumed && run.status != RunStatus::Predicted {
        below.push("assumed: the cost was measured, the acceptance was not".into());
    }
    if let Some(roof) = run.roofline() {
        below.push(format!(
            "tok/s at {} GB/s; eaten by: shares are of the step's bytes or time",
            figures(roof.bandwidth.0 * 1e-9)
        ));
    }
    Some(Titled { title: "Ways past the memory wall".into(), grid, below })
}
