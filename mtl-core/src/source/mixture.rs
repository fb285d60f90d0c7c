//! A differentiable mixture of task vectors: `θ0 + Σ λ_k τ_k`.
//!
//! Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023, arXiv 2212.04089; learnable coefficients as in
//! Yang et al., *AdaMerging*, ICLR 2024, arXiv 2310.02575.
use super::{Param, ParamSource};
use crate::{Error, Result, StateDict, check, state_dict::TaskVector};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// What shares a coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// One coefficient for each task: `[tasks]`.
    TaskWise,
    /// One coefficient for each parameter tensor and task: `[tensors, tasks]`, tensors in the order of their names.
    LayerWise,
}

/// `θ0 + Σ λ_k τ_k`, differentiable in the coefficients λ.
///
/// ```
/// use mtl_core::{ParamSource, StateDict, source::{Granularity, Mixture}};
/// use tch::{Kind, Tensor};
///
/// let dict = |value: f32| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[value]))]);
/// let (base, tuned) = (dict(1.0), dict(3.0));
/// let vectors = vec![tuned.task_vector(&base)?];
/// let mixture = Mixture::new(base, vectors, Granularity::TaskWise, 0.5)?;
/// let loss = mixture.param("w")?.square().sum(Kind::Float); // (1 + 2λ)² at λ = 0.5
/// let grads = Tensor::run_backward(&[loss], &[mixture.coefficients()], false, false);
/// assert_eq!(grads[0].double_value(&[0]), 8.0); // 2 (1 + 2λ) · 2
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Mixture {
    base: StateDict,
    /// For each parameter: its row of the coefficients, and the task vectors stacked, `[tasks, numel]`.
    stacked: BTreeMap<String, (i64, Tensor)>,
    granularity: Granularity,
    coefficients: Tensor,
}

impl Mixture {
    /// A mixture whose coefficients all start at `initial` and are trainable.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a vector or with an `initial` that is not finite, [`Error::Mismatch`] when a vector's
    /// names, shapes or kinds are not those of `base`.
    pub fn new(
        base: StateDict,
        vectors: Vec<TaskVector>,
        granularity: Granularity,
        initial: f64,
    ) -> Result<Self> {
        if vectors.is_empty() {
            return Err(Error::config("vectors", "at least one task vector", "empty"));
        }
        if !initial.is_finite() {
            return Err(Error::config("initial", "finite", initial));
        }
        for (i, vector) in vectors.iter().enumerate() {
            vector.as_dict().same_layout(&base, &format!("task vector {i}"))?;
        }
        let mut stacked = BTreeMap::new();
        for (row, (name, _)) in base.iter().enumerate() {
            let rows: Vec<Tensor> = vectors
                .iter()
                .filter_map(|v| v.as_dict().get(name))
                .map(|t| t.detach().flatten(0, -1))
                .collect();
            stacked.insert(name.to_owned(), (row as i64, Tensor::stack(&rows, 0)));
        }
        let tasks = vectors.len() as i64;
        let dims = match granularity {
            Granularity::TaskWise => vec![tasks],
            Granularity::LayerWise => vec![base.len() as i64, tasks],
        };
        let coefficients = Tensor::full(dims.as_slice(), initial, (Kind::Float, tch::Device::Cpu));
        Ok(Self { base, stacked, granularity, coefficients: coefficients.set_requires_grad(true) })
    }

    /// The coefficients λ, a leaf that requires gradients: `[tasks]` or `[tensors, tasks]`.
    pub fn coefficients(&self) -> &Tensor {
        &self.coefficients
    }

    /// Replaces the coefficients, by a trained leaf or by anything computed from one.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the shape changes, [`Error::NonFinite`] for NaN or infinity.
    pub fn set_coefficients(&mut self, coefficients: Tensor) -> Result<()> {
        if coefficients.size() != self.coefficients.size() {
            let expected = format!("{:?}", self.coefficients.size());
            return Err(Error::shape("coefficients", expected, coefficients.size()));
        }
        check::finite(&coefficients, "coefficients")?;
        self.coefficients = coefficients;
        Ok(())
    }

    /// The mixture as a plain dictionary of its own storage, outside any graph.
    ///
    /// # Errors
    ///
    /// What [`ParamSource::param`] returns.
    pub fn merged(&self) -> Result<StateDict> {
        crate::no_grad(|| {
            let mut merged = StateDict::new();
            for name in self.names() {
                merged.insert(&name, self.param(&name)?.detach().copy());
            }
            Ok(merged)
        })
    }
}

impl ParamSource for Mixture {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        let (Some(base), Some((row, vectors))) = (self.base.get(name), self.stacked.get(name)) else {
            return Ok(None);
        };
        let lambda = match self.granularity {
            Granularity::TaskWise => self.coefficients.shallow_clone(),
            Granularity::LayerWise => self.coefficients.select(0, *row),
        };
        let update = lambda.to_kind(vectors.kind()).unsqueeze(0).matmul(vectors); // [1, numel]
        Ok(Some(Param::Owned(base + update.view_as(base))))
    }

    fn names(&self) -> Vec<String> {
        self.stacked.keys().cloned().collect()
    }
}
