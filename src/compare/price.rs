//! What a million tokens cost on each side.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Measured, Pair};
use crate::run::Key;

/// Money per hour of each side's device.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prices {
    /// Dollars per hour of BASE's device; `None` where it was not said.
    pub base: Option<f64>,
    /// Dollars per hour of NEW's device.
    pub new: Option<f64>,
}

/// Money and energy of one step on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// The step.
    pub key: Key,
    /// On BASE.
    pub base: Money,
    /// On NEW.
    pub new: Money,
    /// Dollars per token of NEW over those of BASE; null without both prices.
    pub ratio: Option<f64>,
}

/// What tokens cost on one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Money {
    /// Dollars per million tokens, prompt tokens in prefill and generated ones in decode; of several ranks every one has its
    /// device and its price. Null without a price.
    pub dollars_per_million_tokens: Option<f64>,
    /// Energy per token; of several ranks that of the measured one times their number, without all-reduces. Null where no
    /// counter was read.
    pub joules_per_token: Option<f64>,
}

/// Money and energy of every step that both sides have.
pub(super) fn costs(pairs: &[Pair], prices: Prices) -> Vec<Cost> {
    let steps = pairs.iter().filter(|pair| pair.key.stage.is_none());
    steps
        .filter_map(|pair| {
            let devices = f64::from(pair.key.ranks);
            let money = |side: &Measured, price: Option<f64>| Money {
                dollars_per_million_tokens: price
                    .zip(side.tokens_per_second)
                    .map(|(price, tokens)| devices * price / (tokens * 3600.0) * 1e6),
                joules_per_token: side.joules_per_token.map(|joules| devices * joules),
            };
            let base = money(pair.base.as_ref()?, prices.base);
            let new = money(pair.new.as_ref()?, prices.new);
            let ratio = new
                .dollars_per_million_tokens
                .zip(base.dollars_per_million_tokens)
                .map(|(new, base)| new / base);
            Some(Cost { key: pair.key.clone(), base, new, ratio })
        })
        .collect()
}
