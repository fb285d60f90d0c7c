//! Task vectors: Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023, arXiv 2212.04089.
use super::StateDict;
use crate::{Result, no_grad};

/// What fine-tuning did to the parameters: `τ = θ_t − θ_0`.
///
/// ```
/// use mtl_core::StateDict;
/// use tch::Tensor;
///
/// let dict = |value: f32| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[value]))]);
/// let tau = dict(3.0).task_vector(&dict(1.0))?;
/// let edited = tau.apply(&dict(1.0), -1.0)?; // forget the task
/// assert_eq!(edited.get("w").unwrap().double_value(&[0]), -1.0);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TaskVector {
    delta: StateDict,
}

impl TaskVector {
    /// `tuned − base`, outside any graph.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`](crate::Error::Mismatch) when names, shapes or kinds differ.
    pub fn between(base: &StateDict, tuned: &StateDict) -> Result<Self> {
        tuned.same_layout(base, "the fine-tuned model")?;
        Ok(Self { delta: no_grad(|| tuned.zip_map(base, |t, b| t - b))? })
    }

    /// `base + scale · τ`.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`](crate::Error::Mismatch) when names, shapes or kinds differ.
    pub fn apply(&self, base: &StateDict, scale: f64) -> Result<StateDict> {
        base.add_scaled(&self.delta, scale)
    }

    /// The differences, by name.
    pub fn as_dict(&self) -> &StateDict {
        &self.delta
    }

    /// Cosine of the angle between two task vectors; 0 when one of them is zero.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`](crate::Error::Mismatch) when names, shapes or kinds differ.
    pub fn cosine(&self, other: &Self) -> Result<f64> {
        self.delta.same_layout(&other.delta, "the other task vector")?;
        let (a, b) = (self.delta.flatten(), other.delta.flatten());
        let norms = a.norm().double_value(&[]) * b.norm().double_value(&[]);
        Ok(if norms > 0.0 { a.dot(&b).double_value(&[]) / norms } else { 0.0 })
    }
}
