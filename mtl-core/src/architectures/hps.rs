//! Hard parameter sharing: Caruana, *Multitask Learning*, Machine Learning 28, 1997.
use super::{Architecture, StagedEncoder, Trunk};
use crate::{MultiTaskModel, Result, TaskSpec, models::MultiTask, registry};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "hps",
        paper: "Multitask Learning",
        source: "Machine Learning 28:41-75, 1997",
    },
    build: |config| Ok(Box::new(registry::parse::<HpsConfig>(config)?.build()?)),
};

/// Configuration of [`Hps`], which has no hyper-parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HpsConfig {}

impl HpsConfig {
    /// Builds the architecture.
    ///
    /// # Errors
    ///
    /// None; the result is that of every `build`.
    pub fn build(self) -> Result<Hps> {
        Ok(Hps)
    }
}

/// One encoder, `shared.stage{s}`, for all tasks: [`MultiTask`] on a [`Trunk`].
///
/// ```
/// use mtl_core::{TaskSpec, architectures::{Architecture, HpsConfig}, models::Mlp};
/// use std::sync::Arc;
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = HpsConfig::default().build()?.model(Arc::new(Mlp::new(&[64, 32])?), tasks)?;
/// assert_eq!(model.cost(1).macs, 64 * 32 + 32 * 2);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Hps;

impl Architecture for Hps {
    fn model(
        &self,
        encoder: Arc<dyn StagedEncoder>,
        tasks: Vec<TaskSpec>,
    ) -> Result<Arc<dyn MultiTaskModel>> {
        Ok(Arc::new(MultiTask::new(Arc::new(Trunk::new(encoder)), tasks)?))
    }
}
