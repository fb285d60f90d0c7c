//! Aligned-MTL: Senushkin et al., *Independent Component Alignment for Multi-Task Learning*, CVPR 2023, arXiv 2305.19000.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "aligned_mtl",
        paper: "Independent Component Alignment for Multi-Task Learning",
        source: "arXiv 2305.19000",
    },
    build: |config| {
        let method = registry::parse::<AlignedMtlConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// The singular value that all components get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlignedScale {
    /// The smallest.
    #[default]
    Min,
    /// The median.
    Median,
    /// The root of the mean square.
    Rmse,
}

/// Hyper-parameters of [`AlignedMtl`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AlignedMtlConfig {
    /// The singular value that all components get.
    pub scale: AlignedScale,
}

impl AlignedMtlConfig {
    /// Sets the singular value that all components get.
    #[must_use]
    pub fn scale(mut self, scale: AlignedScale) -> Self {
        self.scale = scale;
        self
    }

    /// Builds the balancer.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<AlignedMtl> {
        Ok(AlignedMtl { config: self })
    }
}

/// Rotates and stretches the gradients until they are orthogonal and equally long, as near to the given ones as that allows,
/// and adds them: w = σ V Λ^(−1/2) Vᵀ 1 for A = V Λ Vᵀ. Components that are zero to rounding are left out.
///
/// The heads get their own gradients.
#[derive(Debug)]
pub struct AlignedMtl {
    config: AlignedMtlConfig,
}

impl Stateful for AlignedMtl {}

impl GramBalancer for AlignedMtl {
    fn weights(&mut self, gram: &Gram, _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = gram.tasks();
        if tasks == 1 {
            return Ok(vec![1.0]);
        }
        let (values, vectors) = solve::eigen_symmetric(&gram.rows());
        let largest = values.last().copied().unwrap_or(0.0);
        let least = largest * tasks as f64 * f64::EPSILON;
        let kept: Vec<(f64, &Vec<f64>)> =
            values.into_iter().zip(&vectors).filter(|(v, _)| *v > least && *v > 0.0).collect();
        let mut weights = vec![0.0; tasks];
        let Some(sigma) = scale(&kept, self.config.scale) else { return Ok(weights) };
        for (value, vector) in kept {
            let factor = sigma / value.sqrt() * vector.iter().sum::<f64>();
            weights.iter_mut().zip(vector).for_each(|(w, v)| *w += factor * v);
        }
        Ok(weights)
    }
}

/// σ over the eigenvalues that are kept, which ascend.
fn scale(kept: &[(f64, &Vec<f64>)], rule: AlignedScale) -> Option<f64> {
    let first = kept.first()?.0;
    Some(match rule {
        AlignedScale::Min => first.sqrt(),
        AlignedScale::Median => {
            let middle = |i: usize| kept.get(i).map(|(v, _)| *v);
            (0.5 * (middle((kept.len() - 1) / 2)? + middle(kept.len() / 2)?)).sqrt()
        }
        AlignedScale::Rmse => (kept.iter().map(|(v, _)| v).sum::<f64>() / kept.len() as f64).sqrt(),
    })
}
