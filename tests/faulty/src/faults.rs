//! What is to go wrong, read from the variables.

use llmroof::model::Tensor;
use llmroof::workload::Stage;

use crate::crash;
use crate::outputs::{Outputs, Wrong};
use crate::slow::Slow;
use crate::times::{Part, Strange, Times};
use crate::weights::Model;

/// All faults of one process; without variables there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// `FAULTY_SLOW=gate_up:10%`
    pub(crate) slow: Option<Slow>,
    /// `FAULTY_OUTPUT=element`, with `FAULTY_SIZE` and `FAULTY_SEED`
    pub(crate) outputs: Option<Outputs>,
    /// `FAULTY_MODEL=rope:5%`
    pub(crate) model: Option<Model>,
    /// `FAULTY_TIMES=nan:qkv`
    pub(crate) times: Option<Times>,
    /// `FAULTY_PROBES=zero`
    pub(crate) probes: Option<Strange>,
}

impl Faults {
    /// Those of this process.
    ///
    /// # Panics
    /// A `FAULTY_*` variable or a value that is not known: a test that misspells its fault would find none.
    pub fn of_environment() -> Faults {
        let other = |name: &str| crash::VARIABLES.contains(&name);
        let given = std::env::vars().filter(|(name, _)| name.starts_with("FAULTY_") && !other(name));
        Faults::of(given).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Those that these variables name.
    ///
    /// # Errors
    /// The variable that is not understood.
    pub fn of(variables: impl Iterator<Item = (String, String)>) -> Result<Faults, String> {
        let (mut faults, mut size, mut seed) = (Faults::default(), None, 0);
        for (name, value) in variables {
            let understood = match name.as_str() {
                "FAULTY_SLOW" => slow(&value).map(|slow| faults.slow = Some(slow)),
                "FAULTY_OUTPUT" => outputs(&value).map(|outputs| faults.outputs = Some(outputs)),
                "FAULTY_SIZE" => value.parse().ok().map(|given| size = Some(given)),
                "FAULTY_SEED" => value.parse().ok().map(|given| seed = given),
                "FAULTY_MODEL" => model(&value).map(|model| faults.model = Some(model)),
                "FAULTY_TIMES" => times(&value).map(|times| faults.times = Some(times)),
                "FAULTY_PROBES" => strange(&value).map(|strange| faults.probes = Some(strange)),
                _ => return Err(format!("{name} is no variable of the faulty program")),
            };
            understood.ok_or_else(|| format!("{name}={value} is no fault"))?;
        }
        if let Some(outputs) = &mut faults.outputs {
            (outputs.size, outputs.seed) = (size.unwrap_or(outputs.size), seed);
        }
        Ok(faults)
    }
}

/// `kind` or `kind:detail`.
fn parts(value: &str) -> (&str, Option<&str>) {
    value.split_once(':').map_or((value, None), |(kind, detail)| (kind, Some(detail)))
}

fn stage(name: &str) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| stage.name() == name)
}

/// `10%` as 0.1.
fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    percent.is_finite().then_some(percent / 100.0)
}

fn slow(value: &str) -> Option<Slow> {
    let (name, by) = value.split_once(':')?;
    let part = part(name)?;
    Some(Slow { part, share: share(by).filter(|&share| share > 0.0)? })
}

fn part(name: &str) -> Option<Part> {
    match name {
        "step" => Some(Part::Step),
        _ => stage(name).map(Part::Stage),
    }
}

fn outputs(value: &str) -> Option<Outputs> {
    let (kind, of) = parts(value);
    let wrong = match kind {
        "element" => Wrong::Element,
        "nan" => Wrong::Nan,
        "half" => Wrong::Half,
        "stale" => Wrong::Stale,
        _ => return None,
    };
    let stage = match of {
        Some(name) => Some(stage(name)?),
        None => None,
    };
    Some(Outputs { wrong, stage, size: 0.5, seed: 0 })
}

fn model(value: &str) -> Option<Model> {
    let (kind, detail) = value.split_once(':')?;
    match kind {
        "rope" => Some(Model::Rope(share(detail)?)),
        "epsilon" => Some(Model::Epsilon(share(detail)?)),
        "weights" => {
            let named =
                |tensor: &Tensor| format!("{tensor:?}").eq_ignore_ascii_case(&detail.replace('_', ""));
            Tensor::ALL.into_iter().find(named).map(Model::Weights)
        }
        _ => None,
    }
}

fn times(value: &str) -> Option<Times> {
    let (value, from) = match value.split_once('@') {
        Some((value, from)) => (value, from.parse().ok()?),
        None => (value, 0),
    };
    let (kind, of) = parts(value);
    Some(Times { strange: strange(kind)?, part: of.map_or(Some(Part::Step), part)?, from })
}

fn strange(kind: &str) -> Option<Strange> {
    Some(match kind {
        "zero" => Strange::Zero,
        "negative" => Strange::Negative,
        "nan" => Strange::Nan,
        "infinite" => Strange::Infinite,
        "tenth" => Strange::Tenth,
        _ => return None,
    })
}
