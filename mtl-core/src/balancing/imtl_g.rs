//! IMTL-G: Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Error, Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "imtl_g",
        paper: "Towards Impartial Multi-task Learning",
        source: "ICLR 2021",
    },
    build: |config| {
        let method = registry::parse::<ImtlGConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`ImtlG`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImtlGConfig {}

impl ImtlGConfig {
    /// Builds the balancer.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<ImtlG> {
        Ok(ImtlG {})
    }
}

/// The combination with weights of sum 1 whose projections on all gradients are equal. Weights may be negative.
///
/// The heads get their own gradients.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, ImtlGConfig, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = ImtlGConfig::default().build()?.weights(&gram, &mut ctx)?;
/// let products = gram.times(&weights);
/// assert!((products[0] / 2.0 - products[1]).abs() < 1e-12);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ImtlG {}

impl Stateful for ImtlG {}

impl GramBalancer for ImtlG {
    fn weights(&mut self, gram: &Gram, _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 { Ok(vec![1.0]) } else { impartial(gram) }
    }
}

/// The weights for at least two tasks.
pub(super) fn impartial(gram: &Gram) -> Result<Vec<f64>> {
    let tasks = gram.tasks();
    if let Some(zero) = (0..tasks).find(|&k| gram.norm(k) == 0.0) {
        return Err(Error::config(
            format!("gradient of task {zero}"),
            "other than zero, as projections on it are to equal the others",
            0,
        ));
    }
    // Inner products with u_1 − u_k, for the gradient of task `i`.
    let along = |i: usize, k: usize| gram.get(i, 0) / gram.norm(0) - gram.get(i, k) / gram.norm(k);
    // α (D Uᵀ) = g_1 Uᵀ, transposed.
    let rows: Vec<Vec<f64>> =
        (1..tasks).map(|k| (1..tasks).map(|i| along(0, k) - along(i, k)).collect()).collect();
    let right: Vec<f64> = (1..tasks).map(|k| along(0, k)).collect();
    let size = (0..tasks).map(|k| gram.norm(k)).fold(0.0, f64::max);
    let found = solve::solve(&rows, &right).filter(|alpha| {
        // Parallel gradients leave nothing but rounding in the matrix.
        let left = |row: &Vec<f64>| row.iter().zip(alpha).map(|(a, b)| a * b).sum::<f64>();
        let largest = alpha.iter().fold(1.0f64, |m, a| m.max(a.abs()));
        rows.iter().zip(&right).all(|(row, b)| (left(row) - b).abs() <= 1e-8 * size * largest)
            && rows.iter().flatten().any(|v| v.abs() > 1e-12 * size)
    });
    let Some(rest) = found else {
        return Err(Error::config("gradients", "not all parallel", "parallel to rounding"));
    };
    Ok(std::iter::once(1.0 - rest.iter().sum::<f64>()).chain(rest).collect())
}
