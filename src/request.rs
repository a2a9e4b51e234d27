//! What a run covers: the phases, the batch sweep and the request that are asked for, as forward passes;
//! and the request's times, put together from the points of those passes.

use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::run::{Plan, Point, Request};
use crate::workload::{Phase, Workload};

/// The work that `measure` and `predict` are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweeps {
    /// The phases to cover.
    pub phases: Vec<Phase>,
    /// Batch sizes of the decode steps, ascending. Prefill runs at batch 1.
    pub batches: Vec<u32>,
    /// Prompt tokens of one sequence, ascending; the request is that of the first.
    pub prompts: Vec<u32>,
    /// Positions attended in decode, ascending; none is the middle of the generation, as `decode_contexts` has it.
    pub contexts: Vec<u32>,
    /// Generated tokens of each sequence.
    pub generate: u32,
    /// Types of weights, activations and cache, each of which runs all of it; the request is that of the first.
    pub precisions: Vec<Precision>,
}

impl From<&Plan> for Sweeps {
    fn from(plan: &Plan) -> Sweeps {
        Sweeps {
            phases: plan.phases.clone(),
            batches: plan.batches.clone(),
            prompts: plan.prompts.clone(),
            contexts: plan.contexts.clone(),
            generate: plan.generate,
            precisions: plan.precisions(),
        }
    }
}

impl Sweeps {
    /// Prompt tokens of the request.
    pub fn prompt(&self) -> u32 {
        self.prompts.first().copied().unwrap_or(1)
    }

    /// Positions attended by the new token of the request's decode step: the first asked for, or in the middle of the
    /// generation.
    pub fn decode_context(&self) -> u32 {
        let middle = self.prompt().saturating_add(self.generate / 2);
        self.contexts.first().copied().unwrap_or(middle)
    }

    /// The contexts of all decode steps.
    fn decode_contexts(&self) -> Vec<u32> {
        if self.contexts.is_empty() { vec![self.decode_context()] } else { self.contexts.clone() }
    }

    /// The forward passes: the prompts of one sequence, then at each context a decode step for each batch size.
    ///
    /// # Errors
    /// More positions than the model was made for, or types that do not fit it.
    pub fn workloads(&self, model: &ModelSpec) -> Result<Vec<Workload>> {
        self.check(model)?;
        let mut passes = Vec::new();
        if self.phases.contains(&Phase::Prefill) {
            passes.extend(self.prompts.iter().map(|&prompt| Workload::prefill(model, 1, prompt)));
        }
        if self.phases.contains(&Phase::Decode) {
            for context in self.decode_contexts() {
                passes.extend(self.batches.iter().map(|&batch| Workload::decode(model, batch, context)));
            }
        }
        let in_type =
            |&precision: &Precision| passes.iter().map(move |work| Workload { precision, ..work.clone() });
        Ok(self.precisions.iter().flat_map(in_type).collect())
    }

    fn check(&self, model: &ModelSpec) -> Result<()> {
        self.precisions.iter().try_for_each(|precision| precision.check(model))?;
        let most = u64::from(model.max_position);
        let beyond = |what: String, remedy: String| {
            Err(Failure::input(format!(
                "{what}, but {} was made for {most} positions (max_position_embeddings)",
                model.name
            ))
            .hint(remedy))
        };
        let (prompt, generate) = (u64::from(self.prompt()), u64::from(self.generate));
        if let Some(context) = self.contexts.iter().find(|&&c| u64::from(c) > most) {
            return beyond(format!("--context is {context}"), format!("give --context {most} or less"));
        }
        let whole_request = self.contexts.is_empty() || self.phases.contains(&Phase::Prefill);
        if self.phases.contains(&Phase::Decode) && whole_request && prompt + generate > most {
            return beyond(
                format!("--prompt {prompt} and --generate {generate} are {} positions", prompt + generate),
                "give a shorter --prompt or --generate".into(),
            );
        }
        let longest = self.prompts.iter().map(|&p| u64::from(p)).find(|&p| p > most);
        if let Some(prompt) = longest.filter(|_| self.phases.contains(&Phase::Prefill)) {
            return beyond(format!("--prompt is {prompt}"), format!("give --prompt {most} or less"));
        }
        Ok(())
    }

    /// The times of one request, from the whole-step points of its prefill and of decode at batch 1. `None`
    /// where one of the two is missing or invalid.
    pub fn request(&self, points: &[Point]) -> Option<Request> {
        let step = |phase, tokens, context| {
            let first = self.precisions.first().copied();
            let wanted = |p: &&Point| {
                p.phase == phase && p.tokens == tokens && p.context == context && Some(p.precision()) == first
            };
            points
                .iter()
                .find(|p| p.stage.is_none() && p.batch == 1 && wanted(p))
                .filter(|p| !p.is_invalid())
                .map(|p| p.seconds.median)
        };
        let first = step(Phase::Prefill, self.prompt(), self.prompt())?;
        let each = step(Phase::Decode, 1, self.decode_context())?;
        // The prefill's pass puts out the first token.
        let rest = f64::from(self.generate.saturating_sub(1)) * each;
        let total = first + rest;
        Some(Request {
            prompt: self.prompt(),
            generate: self.generate,
            time_to_first_token_seconds: first,
            time_per_output_token_seconds: each,
            total_seconds: total,
            prefill_share: first / total,
            decode_share: rest / total,
        })
    }
}
