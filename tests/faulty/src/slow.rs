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

#[cfg(test)]
mod tests {
    use llmroof::workload::Stage;

    use super::*;

    #[test]
    fn the_part_and_the_step_are_charged_with_the_share_of_what_another_execution_took() {
        let one = Execution { seconds: 10.0, stages: [1.0; 7], repeats: 1, wall_seconds: Some(11.0) };
        let other = Execution { seconds: 20.0, stages: [2.0; 7], ..one };
        let mut charged = one;
        Slow { part: Part::Stage(Stage::GateUp), share: 0.1 }.charge(&mut charged, &other);
        assert_eq!((charged.seconds, charged.stages[4], charged.stages[3]), (10.2, 1.2, 1.0));
        assert_eq!(charged.wall_seconds, Some(11.2));
        let mut charged = one;
        Slow { part: Part::Step, share: 0.5 }.charge(&mut charged, &other);
        assert_eq!((charged.seconds, charged.stages), (20.0, [2.0; 7]));
    }
}
