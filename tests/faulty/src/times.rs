//! Seconds and rates that no device has.

use llmroof::backend::{Execution, Probed, Repeated};
use llmroof::workload::Stage;

/// What a clock is made to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strange {
    Zero,
    Negative,
    Nan,
    Infinite,
    /// A tenth of what it was: plausible, but far above every roof.
    Tenth,
}

impl Strange {
    pub fn of(self, value: f64) -> f64 {
        match self {
            Strange::Zero => 0.0,
            Strange::Negative => -value,
            Strange::Nan => f64::NAN,
            Strange::Infinite => f64::INFINITY,
            Strange::Tenth => value / 10.0,
        }
    }

    /// A probe that did this much.
    pub fn probe(self, probed: Probed) -> Probed {
        Probed { amount: self.of(probed.amount), ..probed }
    }
}

/// A part of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Step,
    Stage(Stage),
}

/// Which time is strange, and from which run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub strange: Strange,
    pub part: Part,
    /// Runs, of one execution or several, before the first strange one.
    pub from: u64,
}

impl Times {
    /// Spoils an execution of the run of this number.
    pub fn spoil(&self, run: u64, execution: &mut Execution) {
        if run < self.from {
            return;
        }
        match (self.part, self.strange) {
            // A whole step that took a tenth has stages that did.
            (Part::Step, Strange::Tenth) => {
                execution.seconds /= 10.0;
                execution.stages = execution.stages.map(|stage| stage / 10.0);
            }
            (Part::Step, strange) => execution.seconds = strange.of(execution.seconds),
            (Part::Stage(stage), strange) => {
                let seconds = &mut execution.stages[stage.index()];
                let before = *seconds;
                *seconds = strange.of(before);
                if strange == Strange::Tenth {
                    execution.seconds -= before - *seconds;
                }
            }
        }
    }

    /// The same of executions back to back, which have no stages.
    pub fn spoil_repeated(&self, repeated: Repeated) -> Repeated {
        match self.part {
            Part::Step => Repeated { seconds: self.strange.of(repeated.seconds), ..repeated },
            Part::Stage(_) => repeated,
        }
    }
}
