//! What one of several ranks holds of a model in tensor parallelism.

use super::ModelSpec;
use crate::error::{Failure, Result};

impl ModelSpec {
    /// What each of `ranks` ranks holds: its query and KV heads, its slice of the feed-forward layer and its slice of the
    /// vocabulary (of embedding and head), at the whole hidden width. A model of its own, which the same kernels run;
    /// it keeps the name. Norms are replicated: every rank has all of them.
    ///
    /// # Errors
    /// The ranks do not divide the model into equal parts that can be computed; the hint has those that do.
    pub fn shard(&self, ranks: u32) -> Result<ModelSpec> {
        match self.uneven(ranks) {
            None => Ok(self.part(ranks)),
            Some(why) => {
                let possible: Vec<String> = (1..=self.kv_heads)
                    .filter(|&n| self.uneven(n).is_none())
                    .map(|n| n.to_string())
                    .collect();
                Err(Failure::input(format!("--tp {ranks}: {why}")).hint(format!(
                    "give one or several of {} for {}",
                    possible.join(","),
                    self.name
                )))
            }
        }
    }

    fn part(&self, ranks: u32) -> ModelSpec {
        ModelSpec {
            heads: self.heads / ranks,
            kv_heads: self.kv_heads / ranks,
            ffn: self.ffn / ranks,
            vocab: self.vocab / ranks,
            ..self.clone()
        }
    }

    /// Why the model has no equal parts for so many ranks.
    fn uneven(&self, ranks: u32) -> Option<String> {
        let name = &self.name;
        if ranks == 0 {
            return Some("a model is held by one rank at least".into());
        }
        if ranks > self.kv_heads {
            return Some(format!("more ranks than {name} has KV heads, {}", self.kv_heads));
        }
        for (what, count) in [
            ("KV heads", self.kv_heads),
            ("query heads", self.heads),
            ("columns of the feed-forward layer", self.ffn),
            ("rows of the vocabulary", self.vocab),
        ] {
            if !count.is_multiple_of(ranks) {
                return Some(format!("{count} {what} of {name} do not divide into {ranks} equal parts"));
            }
        }
        // The whole model can be computed, so a part that cannot has become too narrow for the kernels.
        let part = self.part(ranks);
        (ranks > 1)
            .then(|| part.validate().err())
            .flatten()
            .map(|failure| format!("of a rank, {}", failure.what))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{DType, Precision, Tensor};

    fn model() -> ModelSpec {
        ModelSpec::from_toml(include_str!("../../profiles/models/llama-8b.toml")).unwrap()
    }

    #[test]
    fn what_does_not_divide_is_refused_with_what_does() {
        let refused = |ranks| model().shard(ranks).unwrap_err();
        for (ranks, why) in [
            (0, "one rank at least"),
            (3, "8 KV heads of llama-8b do not divide into 3"),
            (16, "more ranks than llama-8b has KV heads, 8"),
        ] {
            assert!(refused(ranks).what.contains(why), "{:?}", refused(ranks));
            assert_eq!(refused(ranks).hint.as_deref(), Some("give one or several of 1,2,4,8 for llama-8b"));
        }
        let odd = ModelSpec { vocab: 32_001, ..model() };
        assert!(odd.shard(2).unwrap_err().what.contains("32001 rows of the vocabulary"));
        let odd = ModelSpec { ffn: 14_338, ..model() };
        assert!(odd.shard(4).unwrap_err().what.contains("14338 columns of the feed-forward layer"));
        let narrow = ModelSpec { ffn: 24, ..model() };
        assert!(narrow.shard(2).unwrap_err().what.contains("of a rank, ffn size 12 is not a multiple of 8"));
    }

    #[test]
    fn one_rank_holds_the_model() {
        assert_eq!(model().shard(1).unwrap(), model());
    }

    proptest! {
        /// All parts together are the model: every matrix once, the norms as often as there are ranks.
        #[test]
        fn shards_cover_the_model_exactly(
            power in 0u32..4, kv in 1u32..4, group in 1u32..5, ffn in 1u32..40, vocab in 1u32..500,
            layers in 1u32..50, hidden in 1u32..64, tied in any::<bool>(),
        ) {
            let ranks = 1 << power;
            let kv_heads = kv * ranks;
            let whole = ModelSpec {
                hidden: hidden * 8, ffn: ffn * 8 * ranks, layers, heads: kv_heads * group, kv_heads, head_dim: 64,
                vocab: vocab * ranks, tied_embeddings: tied, ..model()
            };
            let part = whole.shard(ranks).unwrap();
            let n = f64::from(ranks);
            let replicated = (n - 1.0) * whole.norm_parameters();
            prop_assert_eq!(n * part.parameters() - replicated, whole.parameters());
            prop_assert_eq!(part.group(), whole.group());
            for kv in [DType::Bf16, DType::Int8] {
                prop_assert_eq!(n * part.kv_bytes_per_token(kv).0, whole.kv_bytes_per_token(kv).0);
            }
            let bytes = n * part.resident_bytes(Precision::BF16).0 - 2.0 * replicated;
            prop_assert_eq!(bytes, whole.resident_bytes(Precision::BF16).0);
            for tensor in Tensor::ALL.into_iter().filter(|tensor| !tensor.is_norm()) {
                let [(rows, columns), (of_part, across)] = [&whole, &part].map(|spec| tensor.shape(spec));
                let elements = |rows: u32, columns: u32| u64::from(rows) * u64::from(columns);
                prop_assert_eq!(elements(rows, columns), u64::from(ranks) * elements(of_part, across));
            }
        }
    }
}
