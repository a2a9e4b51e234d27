//! What a run covers: the phases, the batch sweep and the request that are asked for, as forward passes;
//! and the request's times, put together from the points of those passes.

use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::run::{Plan, Point, Request};
use crate::workload::{Chunk, Phase, Workload};

/// Most tokens of a sequence that one pass verifies.
const MOST_VERIFIED: u32 = 32;
/// Positions that a page may have: what servers offer.
const PAGES: [u32; 5] = [16, 32, 64, 128, 256];

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
    /// Tokens of each sequence that decode passes verify at once, ascending, besides passes of one.
    pub speculate: Vec<u32>,
    /// Tokens of the chunks of a prompt that decode steps also run with, ascending; each chunk runs by itself as well.
    pub mix: Vec<u32>,
    /// Positions of the pages of the cache that every pass also runs with, ascending, besides the contiguous cache.
    pub kv_pages: Vec<u32>,
    /// Generated tokens of each sequence.
    pub generate: u32,
    /// Types of weights, activations and cache, each of which runs all of it; the request is that of the first.
    pub precisions: Vec<Precision>,
    /// Numbers of ranks that the model is divided among, ascending, each of which runs all of it; the request is that of
    /// the first.
    pub ranks: Vec<u32>,
}

/// The contiguous cache, and those in pages of each size.
pub fn caches(kv_pages: &[u32]) -> impl Iterator<Item = Option<u32>> {
    std::iter::once(None).chain(kv_pages.iter().map(|&page| Some(page)))
}

/// Whether a cache can be in pages of these sizes.
///
/// # Errors
/// One of them is no page.
pub fn check_pages(kv_pages: &[u32]) -> Result<()> {
    match kv_pages.iter().find(|page| !PAGES.contains(page)) {
        None => Ok(()),
        Some(page) => {
            Err(Failure::input(format!("--kv-page is {page}")).hint("give 16, 32, 64, 128 or 256 positions"))
        }
    }
}

impl From<&Plan> for Sweeps {
    fn from(plan: &Plan) -> Sweeps {
        Sweeps {
            phases: plan.phases.clone(),
            batches: plan.batches.clone(),
            prompts: plan.prompts.clone(),
            contexts: plan.contexts.clone(),
            speculate: plan.speculate.clone(),
            mix: plan.mix.clone(),
            kv_pages: plan.kv_pages.clone(),
            generate: plan.generate,
            precisions: plan.precisions(),
            ranks: plan.ranks.clone(),
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

    /// The forward passes, in each of the types on each number of ranks: the prompts of one sequence, then at each context a
    /// decode step for each batch size.
    ///
    /// # Errors
    /// More positions than the model was made for, types that do not fit it, or ranks that do not divide it.
    pub fn workloads(&self, model: &ModelSpec) -> Result<Vec<Workload>> {
        self.check_positions(model)?;
        self.check_pages_and_chunks()?;
        let shards = self.shards(model)?;
        let held = self
            .precisions
            .iter()
            .flat_map(|&precision| shards.iter().map(move |(ranks, shard)| (precision, *ranks, shard)));
        let passes = self.passes(model);
        let all = held.flat_map(|(precision, ranks, shard)| {
            passes.iter().map(move |work| Workload { precision, ranks, model: shard.clone(), ..work.clone() })
        });
        Ok(all.collect())
    }

    /// What one of the ranks holds, for each number of them.
    ///
    /// # Errors
    /// Ranks that do not divide the model, or types that do not fit the shard.
    pub fn shards(&self, model: &ModelSpec) -> Result<Vec<(u32, ModelSpec)>> {
        let shard = |&ranks: &u32| {
            let shard = model.shard(ranks)?;
            for precision in &self.precisions {
                // The model itself is named by the line as it is.
                let place =
                    |failure: Failure| if ranks == 1 { failure } else { failure.at(format!("--tp {ranks}")) };
                precision.check(&shard).map_err(place)?;
            }
            Ok((ranks, shard))
        };
        self.ranks.iter().map(shard).collect()
    }

    /// The forward passes in bf16 on one rank. What is compared stands side by side: a pass with each of the caches, a
    /// decode step with what verifies more of it or has more riding along.
    fn passes(&self, model: &ModelSpec) -> Vec<Workload> {
        let mut passes = Vec::new();
        if self.phases.contains(&Phase::Prefill) {
            passes.extend(self.prompts.iter().map(|&prompt| Workload::prefill(model, 1, prompt)));
        }
        if self.phases.contains(&Phase::Decode) {
            passes.extend(self.chunks().map(|Chunk { tokens, context }| Workload {
                context,
                ..Workload::prefill(model, 1, tokens)
            }));
            for context in self.decode_contexts() {
                for &batch in &self.batches {
                    let one = Workload::decode(model, batch, context);
                    let several = self.speculate.iter().filter(|&&tokens| tokens > 1);
                    let verifying = several.map(|&tokens| Workload { tokens, ..one.clone() });
                    let mixed = self.chunks().map(|chunk| one.clone().with(chunk));
                    passes.extend(std::iter::once(one.clone()).chain(verifying).chain(mixed));
                }
            }
        }
        let mut all: Vec<Workload> = Vec::new();
        for pass in passes {
            let each = caches(&self.kv_pages).map(|kv_page| Workload { kv_page, ..pass.clone() });
            // A chunk that is the whole prompt is there already.
            all.extend(each.filter(|each| !all.contains(each)).collect::<Vec<_>>());
        }
        all
    }

    /// The chunks that ride along: each attends what the chunks of the request's prompt attend on average, so that as many
    /// steps as the prompt has chunks take what all of them take.
    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let prompt = self.prompt();
        self.mix.iter().map(move |&tokens| Chunk { tokens, context: prompt.saturating_add(tokens) / 2 })
    }

    fn check_pages_and_chunks(&self) -> Result<()> {
        check_pages(&self.kv_pages)?;
        let prompt = self.prompt();
        if let Some(tokens) = self.mix.iter().find(|&&tokens| tokens > prompt) {
            return Err(Failure::input(format!(
                "--mix is {tokens}, more than the {prompt} tokens of the prompt that it is a part of"
            ))
            .hint(format!("give --mix {prompt} or less, or a longer --prompt")));
        }
        Ok(())
    }

    fn check_positions(&self, model: &ModelSpec) -> Result<()> {
        let most = u64::from(model.max_position);
        let beyond = |what: String, remedy: String| {
            Err(Failure::input(format!(
                "{what}, but {} was made for {most} positions (max_position_embeddings)",
                model.name
            ))
            .hint(remedy))
        };
        if let Some(tokens) = self.speculate.iter().find(|&&tokens| tokens > MOST_VERIFIED) {
            return Err(Failure::input(format!("--speculate is {tokens}"))
                .hint(format!("give 1 to {MOST_VERIFIED}: more tokens than that no draft gets right")));
        }
        let (deepest, shortest) = (self.speculate.iter().max(), self.decode_contexts().into_iter().min());
        if let Some((&tokens, context)) = deepest.zip(shortest).filter(|(tokens, context)| *tokens > context)
        {
            return Err(Failure::input(format!(
                "--speculate is {tokens}, decode attends {context} positions"
            ))
            .hint(format!("give --speculate {context} or less, or a longer --context")));
        }
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
    /// where one of the two is missing or invalid, or the all-reduces of several ranks are not known.
    pub fn request(&self, points: &[Point]) -> Option<Request> {
        let step = |phase, tokens, context| {
            let first = (self.precisions.first().copied(), self.ranks.first().copied());
            let wanted = |p: &&Point| {
                (p.phase, p.tokens, p.context, p.kv_page) == (phase, tokens, context, None)
                    && (Some(p.precision()), Some(p.ranks)) == first
            };
            points
                .iter()
                .find(|p| p.stage.is_none() && p.batch == 1 && wanted(p))
                .filter(|p| !p.is_invalid())
                .and_then(|p| p.step_at(p.seconds.median))
        };
        let first = step(Phase::Prefill, self.prompt(), self.prompt())?;
        let each = step(Phase::Decode, 1, self.decode_context())?;
        // The prefill's pass puts out the first token.
        let rest = f64::from(self.generate.saturating_sub(1)) * each;
        let total = first + rest;
        Some(Request {
            prompt: self.prompt(),
            generate: self.generate,
            ranks: self.ranks.first().copied().unwrap_or(1),
            time_to_first_token_seconds: first,
            time_per_output_token_seconds: each,
            total_seconds: total,
            prefill_share: first / total,
            decode_share: rest / total,
        })
    }
}
