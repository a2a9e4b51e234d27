//! What joins several cards, and how long an all-reduce over it takes at best.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Fact;
use crate::error::{Failure, Result};
use crate::units::{Bytes, Seconds, si};

/// What joins a card to others of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileLink {
    /// Bandwidth of one card in each direction, in bytes per second.
    pub bandwidth: Fact,
    /// What a small all-reduce of NCCL takes in seconds between two cards; null where nothing published says. More ranks take
    /// longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Fact>,
    /// Most cards that it joins, where these are fewer than one would put into a machine: a bridge has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins: Option<Fact>,
}

impl ProfileLink {
    /// Its figures, by their field.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &Fact)> {
        let all = [
            ("bandwidth", Some(&self.bandwidth)),
            ("latency", self.latency.as_ref()),
            ("joins", self.joins.as_ref()),
        ];
        all.into_iter().filter_map(|(field, fact)| Some((field, fact?)))
    }

    pub(super) fn validate(&self, name: &str) -> Result<()> {
        for (field, fact) in self.facts() {
            if !(fact.value.is_finite() && fact.value > 0.0) {
                return Err(Failure::input(format!("link.{field} of {name} is {}", fact.value))
                    .hint("it must be a positive number in base units (bytes/s, s, cards)"));
            }
            if fact.source.trim().is_empty() {
                return Err(Failure::input(format!("link.{field} of {name} has no source"))
                    .hint("say which document states the figure"));
            }
        }
        Ok(())
    }
}

/// The link that all-reduces are modelled over where they cannot be measured. Nothing of it was measured here.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The device profile that it is of.
    pub profile: String,
    /// Its facts.
    pub facts: ProfileLink,
}

impl Link {
    /// Shortest time of an all-reduce of so many bytes by a ring of `ranks` ranks: the latency once, and the bytes that each
    /// sends, `2 (n - 1) / n` times what is reduced, at the bandwidth of one direction. `None` where the link does not join
    /// so many cards. Switches that add (NVLink SHARP, from Hopper on) send fewer bytes: large ones can be faster by them.
    pub fn all_reduce(&self, ranks: u32, bytes: Bytes) -> Option<Seconds> {
        let n = f64::from(ranks);
        if !self.joins(ranks) {
            return None;
        }
        let latency = self.facts.latency.as_ref().map_or(0.0, |fact| fact.value);
        Some(Seconds(latency + 2.0 * (n - 1.0) / n * bytes.0 / self.facts.bandwidth.value))
    }

    /// Whether it joins so many cards.
    pub fn joins(&self, ranks: u32) -> bool {
        self.facts.joins.as_ref().is_none_or(|most| f64::from(ranks) <= most.value)
    }

    /// What a reader must know of times that it is in, of these numbers of ranks.
    pub fn note(link: Option<&Link>, ranks: &[u32]) -> Vec<String> {
        if ranks.iter().all(|&n| n <= 1) {
            return Vec::new();
        }
        let Some(Link { profile, facts }) = link else {
            return vec![
                "all-reduces of several ranks are not known: the device has no profile with a link; --link PROFILE names one"
                    .into(),
            ];
        };
        let latency = match &facts.latency {
            Some(fact) => format!("{} ({}) and ", Seconds(fact.value).human(), fact.source),
            None => "no latency, of which nothing published is known, and ".into(),
        };
        let mut notes = vec![format!(
            "all-reduces are modelled over the link of {profile}, not measured: for each {latency}2 (n - 1) / n of its \
             bytes at {} per direction ({}), after the rank's work and not beside it",
            si(facts.bandwidth.value, "B/s"),
            facts.bandwidth.source
        )];
        let beyond: Vec<String> =
            ranks.iter().filter(|&&n| link.is_some_and(|link| !link.joins(n))).map(u32::to_string).collect();
        if let (Some(most), false) = (&facts.joins, beyond.is_empty()) {
            notes.push(format!(
                "all-reduces of {} ranks are not known: the link of {profile} joins {} cards ({}); --link PROFILE names \
                 another",
                beyond.join(" and "),
                most.value,
                most.source
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(value: f64) -> Fact {
        Fact { value, source: "a test".into() }
    }

    fn link(latency: Option<f64>, joins: Option<f64>) -> Link {
        let facts =
            ProfileLink { bandwidth: fact(100e9), latency: latency.map(fact), joins: joins.map(fact) };
        Link { profile: "some".into(), facts }
    }

    #[test]
    fn an_all_reduce_is_latency_and_what_a_ring_sends() {
        let time = |link: &Link, n, bytes| link.all_reduce(n, Bytes(bytes)).unwrap().0;
        let bare = link(None, None);
        // Two ranks send all of it once, very many send it twice.
        assert!((time(&bare, 2, 1e9) - 0.01).abs() < 1e-12);
        assert!((time(&bare, 8, 1e9) - 0.0175).abs() < 1e-12);
        assert!((time(&bare, 4096, 1e9) - 0.02).abs() < 1e-5);
        let late = link(Some(5e-6), None);
        assert!((time(&late, 8, 0.0) - 5e-6).abs() < 1e-15);
        assert!((time(&late, 2, 1e9) - 0.010_005).abs() < 1e-12);
    }

    #[test]
    fn a_bridge_joins_two() {
        let bridge = link(None, Some(2.0));
        assert!(bridge.all_reduce(2, Bytes(1.0)).is_some());
        assert_eq!(bridge.all_reduce(4, Bytes(1.0)), None);
        let notes = Link::note(Some(&bridge), &[1, 2, 4, 8]);
        assert!(notes[0].contains("modelled") && notes[0].contains("no latency"), "{notes:?}");
        assert!(notes[1].contains("all-reduces of 4 and 8 ranks are not known"), "{notes:?}");
    }

    #[test]
    fn one_rank_needs_no_link() {
        assert!(Link::note(None, &[1]).is_empty());
        assert!(Link::note(None, &[1, 2])[0].contains("--link PROFILE"));
    }
}
