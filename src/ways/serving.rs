//! What servers do to a step: a cache in pages, and chunks of prompts that ride along with decode. What both cost, and what
//! chunks save.

use super::{Step, whole_steps};
use crate::roofline::Roofline;
use crate::run::{Point, Run};
use crate::units::FlopsPerSec;
use crate::workload::{Chunk, Phase, Stage, Workload};

/// A pass with its cache in pages, held against the same pass with a contiguous one.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged {
    /// The pass.
    pub work: Workload,
    /// Positions of a page.
    pub page: u32,
    /// Time of the step over that with the contiguous cache.
    pub step: f64,
    /// The same of its attention; `None` where one of the two is not known.
    pub attention: Option<f64>,
    /// Attention's share of the step's time with the contiguous cache.
    pub attention_share: Option<f64>,
}

/// A decode step with a chunk of a prompt riding along, held against the two one after the other. Seconds are at the run's read
/// ceiling.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// The pass.
    pub work: Workload,
    /// What rides along.
    pub chunk: Chunk,
    /// Seconds of the decode step by itself.
    pub decode: f64,
    /// Seconds of the chunk by itself, without the head: in the middle of a prompt nobody needs logits.
    pub alone: f64,
    /// Seconds of both in one step.
    pub together: f64,
    /// Seconds of the whole prompt in one pass, for which those who decode would have to wait otherwise; `None` where it was not
    /// measured.
    pub prompt: Option<f64>,
}

impl Mixed {
    /// How many times as long those who decode wait for their next token.
    pub fn slowdown(&self) -> f64 {
        self.together / self.decode
    }

    /// What the chunk adds to the step, of what it takes by itself.
    pub fn added(&self) -> f64 {
        (self.together - self.decode) / self.alone
    }

    /// Share of the time of the two one after the other that is saved.
    pub fn saved(&self) -> f64 {
        1.0 - self.together / (self.decode + self.alone)
    }

    /// The longest wait for a token, of what it is where the prompt runs at once between two steps.
    pub fn pause(&self) -> Option<f64> {
        Some(self.together / (self.prompt? + self.decode))
    }
}

/// All passes of a run with pages whose contiguous pass was measured too, in the run's order.
pub fn paged(run: &Run) -> Vec<Paged> {
    let of = |step: Step| {
        let page = step.point.kv_page?;
        let work = Workload { kv_page: None, ..step.work() };
        let contiguous = whole_steps(run).find(|other| other.work() == work)?;
        let attention = |step: &Step| {
            let own = |p: &&Point| p.stage == Some(Stage::Attention) && p.shares_pass_with(step.point);
            under_ceiling(run, run.points.iter().find(own)?)
        };
        let before = attention(&contiguous);
        Some(Paged {
            work,
            page,
            step: step.seconds / contiguous.seconds,
            attention: attention(&step).zip(before).map(|(paged, before)| paged / before),
            attention_share: before.map(|before| before / contiguous.seconds),
        })
    };
    whole_steps(run).filter_map(of).collect()
}

/// Seconds of a stage under the run's read ceiling, by its share of the roof.
fn under_ceiling(run: &Run, stage: &Point) -> Option<f64> {
    let roof =
        Roofline { bandwidth: run.roofline()?.bandwidth, peak: FlopsPerSec(stage.roof_flops_per_second) };
    let (shortest, _) = roof.shortest(stage.flops(), stage.bytes());
    (!stage.is_invalid() && stage.fraction_of_roof > 0.0).then(|| shortest.0 / stage.fraction_of_roof)
}

/// Seconds of a step less what its head takes of it.
fn without_head(run: &Run, step: &Step) -> f64 {
    let head = |p: &&Point| p.stage == Some(Stage::LmHead) && p.shares_pass_with(step.point);
    step.seconds * (1.0 - run.points.iter().find(head).map_or(0.0, |head| head.share_of_step))
}

/// All mixed steps of a run whose two halves were measured too, in the run's order.
pub fn mixed(run: &Run) -> Vec<Mixed> {
    let of = |step: Step| {
        let work = step.work();
        let chunk = work.chunk?;
        let seconds = |wanted: &Workload| Some(whole_steps(run).find(|s| s.work() == *wanted)?.seconds);
        let decode = Workload { phase: Phase::Decode, chunk: None, ..work.clone() };
        let prefill =
            |tokens, context| Workload { phase: Phase::Prefill, batch: 1, tokens, context, ..decode.clone() };
        let chunk_alone = prefill(chunk.tokens, chunk.context);
        // A chunk attends what the chunks of its prompt do on average: see `request`.
        let prompt = (2 * chunk.context).saturating_sub(chunk.tokens);
        let whole = whole_steps(run)
            .filter(|s| s.point.tokens == s.point.context && s.point.tokens.abs_diff(prompt) <= 1)
            .find(|s| s.work() == prefill(s.point.tokens, s.point.tokens));
        Some(Mixed {
            decode: seconds(&decode)?,
            alone: without_head(run, &whole_steps(run).find(|s| s.work() == chunk_alone)?),
            together: step.seconds,
            prompt: whole.map(|whole| whole.seconds),
            work,
            chunk,
        })
    };
    whole_steps(run).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;

    #[test]
    fn a_chunk_that_costs_nothing_saves_its_own_time() {
        let model = ModelSpec::from_toml(include_str!("../../profiles/models/llama-1b.toml")).unwrap();
        let work = Workload::decode(&model, 8, 100);
        let chunk = Chunk { tokens: 256, context: 628 };
        let mixed = Mixed { work, chunk, decode: 1.0, alone: 3.0, together: 1.0, prompt: Some(9.0) };
        assert_eq!((mixed.slowdown(), mixed.added(), mixed.saved()), (1.0, 0.0, 0.75));
        assert_eq!(mixed.pause(), Some(0.1));
        // As long as both: nothing is saved.
        let dear = Mixed { together: 4.0, ..mixed };
        assert_eq!((dear.slowdown(), dear.added(), dear.saved()), (4.0, 1.0, 0.0));
    }
}
