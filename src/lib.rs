//! llmroof measures where Llama inference sits under the roofline of the machine it runs on.
//!
//! The map of the house, in the direction data flows:
//!
//! - [`units`], [`text`], [`error`], [`sweep`]: quantities with their units; texts that are safe to print; failures with
//!   their exit codes; `1-256*2`.
//! - [`model`], [`device`], [`stats`]: what a Llama is, what a datasheet says, order statistics.
//! - [`workload`], [`roofline`]: the ledger of bytes and FLOPs of each stage; ceilings and what they allow.
//! - [`run`]: the versioned file that holds one invocation's results.
//! - [`request`]: the passes that a request asks for, and its times put together from their points.
//! - [`mod@reference`]: the stages of a Llama in float64, simple and slow, to check kernels against.
//! - [`predict`], [`plot`], [`export`]: a run from a profile; a run as a picture; a run as a table or file.
//! - [`report`]: runs as one page with their figures, numbers, conditions and method.
//! - [`check`]: a run against the floors of a healthy device.
//! - [`mod@claims`]: what a course says of decode, against the ledger, a datasheet and measured runs.
//! - [`mod@compare`]: two sets of runs against each other: verdicts, and how sure they are.
//!
//! All of these are pure: no device, no clock, no environment. Around them:
//!
//! - [`backend`], [`telemetry`]: devices that run the suite; energy counters.
//! - [`measure`]: the plan, the ceilings, the sampler: the only user of backend and telemetry.
//! - [`input`]: the files that users name, opened with care.
//! - [`profiles`], [`checkpoint`]: the device and model catalogue; Hugging Face folders.
//! - `raster`: a picture as PNG, with the fonts it needs (feature `png`).
//! - [`command`]: one file per subcommand; only they see everything.

pub mod backend;
pub mod check;
pub mod checkpoint;
pub mod claims;
pub mod cli;
pub mod command;
pub mod compare;
pub mod device;
pub mod error;
pub mod export;
pub mod input;
pub mod measure;
pub mod model;
pub mod plot;
pub mod predict;
pub mod profiles;
#[cfg(feature = "png")]
pub mod raster;
pub mod reference;
pub mod report;
pub mod request;
pub mod roofline;
pub mod run;
pub mod stats;
pub mod sweep;
pub mod telemetry;
pub mod text;
pub mod units;
pub mod ways;
pub mod workload;
