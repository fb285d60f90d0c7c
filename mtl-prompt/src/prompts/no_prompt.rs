//! No prompt at all: a linear probe, the baseline of every prompt; Alain and Bengio, *Understanding Intermediate Layers
//! Using Linear Classifier Probes*, 2016, arXiv 1610.01644.
use super::{Frame, PromptModule};
use mtl_core::{
    Result, Seed, StateDict,
    registry::{self, Entry, MethodInfo},
};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: Entry<dyn PromptModule> = Entry {
    info: MethodInfo {
        name: "linear-probe",
        paper: "Understanding Intermediate Layers Using Linear Classifier Probes",
        source: "arXiv 1610.01644",
    },
    build: |config| Ok(Box::new(registry::parse::<NoPromptConfig>(config)?)),
};

/// Hyper-parameters of the linear probe; there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NoPromptConfig {}

impl PromptModule for NoPromptConfig {
    fn init(&self, _frame: &Frame, _seed: Seed) -> Result<StateDict> {
        Ok(StateDict::new())
    }
}
