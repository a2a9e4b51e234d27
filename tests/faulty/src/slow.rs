//! A stage that takes longer, by work that was really done.

use llmroof::backend::Execution;

use crate::times::Part;

/// A part of the step takes longer by this share of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slow {
    /// The stage, or the whole step.
    pub part: Part,
    /// 0.1 for a tenth.
    pub share: f64,
}

impl Slow {
    /// Charges an execution with the share of what another one, which ran beside it, took for the same part.
    pub fn charge(&self, execution: &mut Execution, other: &Execution) {
        let more = match self.part {
            Part::Stage(stage) => {
                let more = self.share * other.stages[stage.index()];
                execution.stages[stage.index()] += more;
                more
            }
            Part::Step => {
                for (stage, other) in execution.stages.iter_mut().zip(other.stages) {
                    *stage += self.share * other;
                }
                self.share * other.seconds
            }
        };
        execution.seconds += more;
        execution.wall_seconds = execution.wall_seconds.map(|wall| wall + more);
    }
}
