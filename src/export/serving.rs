//! The tables of what servers do: the cache in pages, and mixed steps.

use super::grid::Grid;
use super::ways::Titled;
use crate::run::Run;
use crate::units::{figures, percent};
use crate::ways::{Mixed, Paged, mixed, paged};
use crate::workload::Workload;

/// The tables of a run; none where it has nothing about them.
pub(super) fn tables(run: &Run) -> Vec<Titled> {
    [pages(run), mixes(run)].into_iter().flatten().collect()
}

/// Columns that tell passes apart where the run has several types or ranks.
fn apart<'a>(works: impl Iterator<Item = &'a Workload> + Clone) -> (bool, bool) {
    let several = |differ: fn(&Workload, &Workload) -> bool| {
        works.clone().zip(works.clone().skip(1)).any(|(a, b)| differ(a, b))
    };
    (several(|a, b| a.precision != b.precision), several(|a, b| a.ranks != b.ranks))
}

/// The cells of those columns.
fn types_and_ranks(work: &Workload, (types, ranks): (bool, bool)) -> Vec<String> {
    let types = types.then(|| work.precision.name());
    types.into_iter().chain(ranks.then(|| work.ranks.to_string())).collect()
}

/// A grid that begins with them.
fn beginning((types, ranks): (bool, bool)) -> Grid {
    let mut grid = Grid::default();
    if types {
        grid.column("types", false);
    }
    if ranks {
        grid.column("ranks", true);
    }
    grid
}

fn pages(run: &Run) -> Option<Titled> {
    let all = paged(run);
    if all.is_empty() {
        return None;
    }
    let columns = apart(all.iter().map(|paged| &paged.work));
    let mut grid = beginning(columns);
    grid.column("phase", false);
    for title in ["context", "batch", "page", "step", "attention", "attention's share"] {
        grid.column(title, true);
    }
    let times = |ratio: f64| format!("{ratio:.3}x");
    for Paged { work, page, step, attention, attention_share } in &all {
        let mut row = types_and_ranks(work, columns);
        row.extend([
            match work.chunk {
                Some(chunk) => format!("{} + {}", work.phase, chunk.tokens),
                None if work.tokens > 1 => format!("{} x {}", work.phase, work.tokens),
                None => work.phase.to_string(),
            },
            work.context.to_string(),
            work.batch.to_string(),
            page.to_string(),
            times(*step),
            attention.map_or("-".into(), times),
            attention_share.map_or("-".into(), percent),
        ]);
        grid.rows.push(row);
    }
    Some(Titled {
        title: "KV cache in pages".into(),
        grid,
        below: vec![
            "step and attention: their time over that with the contiguous cache, at equal memory bandwidth; pages lie in random \
             order, as they do after a while of serving"
                .into(),
        ],
    })
}

fn mixes(run: &Run) -> Option<Titled> {
    let all = mixed(run);
    if all.is_empty() {
        return None;
    }
    let columns = apart(all.iter().map(|mixed| &mixed.work));
    let pages = all.iter().any(|mixed| mixed.work.kv_page.is_some());
    let mut grid = beginning(columns);
    if pages {
        grid.column("page", true);
    }
    for title in ["context", "batch", "chunk", "decode ms", "chunk ms", "mixed ms"] {
        grid.column(title, true);
    }
    for title in ["token waits", "chunk adds", "saved", "longest wait"] {
        grid.column(title, true);
    }
    let ms = |seconds: f64| figures(seconds * 1e3);
    for one in &all {
        let Mixed { work, chunk, decode, alone, together, .. } = one;
        let mut row = types_and_ranks(work, columns);
        if pages {
            row.push(work.kv_page.map_or("-".into(), |page| page.to_string()));
        }
        row.extend([
            work.context.to_string(),
            work.batch.to_string(),
            chunk.tokens.to_string(),
            ms(*decode),
            ms(*alone),
            ms(*together),
            format!("{:.2}x", one.slowdown()),
            percent(one.added()),
            percent(one.saved()),
            one.pause().map_or("-".into(), percent),
        ]);
        grid.rows.push(row);
    }
    Some(Titled {
        title: "Mixed steps: a chunk of a prompt rides along with decode".into(),
        grid,
        below: vec![
            "times at the run's read ceiling, each by its measured share of the roof; the chunk attends what the chunks of \
             the request's prompt do on average, and gets no logits"
                .into(),
            "token waits: mixed over decode, what those who decode pay; chunk adds: of its own time; saved: of the two one \
             after the other; longest wait for a token: of that where the whole prompt runs between two steps"
                .into(),
        ],
    })
}
