//! Repeated-measures analysis of variance and Tukey's test of all pairs: Fisher 1925; Tukey 1949.
use super::ranks::check_blocks;
use super::{f_sf, mean, studentised_range_sf};
use crate::{Error, Result};

/// Result of [`repeated_measures_anova`].
#[derive(Debug, Clone, PartialEq)]
pub struct RepeatedMeasures {
    /// Mean of each method over blocks.
    pub means: Vec<f64>,
    /// F of the methods; infinite when blocks leave no residual.
    pub f: f64,
    /// Degrees of freedom of F.
    pub df: (f64, f64),
    /// p of F.
    pub p: f64,
    /// Residual mean square.
    pub residual: f64,
    blocks: usize,
}

/// Tests whether the methods of `blocks` `[tasks, methods]` have equal means; assumes normal residuals of equal
/// variance.
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 methods or tasks, rows of unequal length, scores that are not finite, or
/// blocks without any variation.
pub fn repeated_measures_anova(blocks: &[Vec<f64>]) -> Result<RepeatedMeasures> {
    check_blocks(blocks, 2)?;
    if blocks.len() < 2 {
        return Err(Error::argument("blocks", "at least 2 tasks", blocks.len()));
    }
    let (n, k) = (blocks.len() as f64, blocks[0].len() as f64);
    let block_means: Vec<f64> = blocks.iter().map(|b| mean(b)).collect();
    let grand = mean(&block_means);
    let means: Vec<f64> =
        (0..blocks[0].len()).map(|m| blocks.iter().map(|b| b[m]).sum::<f64>() / n).collect();
    let between: f64 = n * means.iter().map(|m| (m - grand).powi(2)).sum::<f64>();
    let residuals = blocks.iter().zip(&block_means).flat_map(|(block, block_mean)| {
        block.iter().zip(&means).map(move |(v, m)| (v - block_mean - m + grand).powi(2))
    });
    let within: f64 = residuals.sum();
    let df = (k - 1.0, (k - 1.0) * (n - 1.0));
    let (signal, residual) = (between / df.0, within / df.1);
    if signal == 0.0 && residual == 0.0 {
        return Err(Error::argument("blocks", "different between methods somewhere", "equal everywhere"));
    }
    let f = if residual > 0.0 { signal / residual } else { f64::INFINITY };
    let p = if f.is_finite() { f_sf(f, df.0, df.1)? } else { 0.0 };
    Ok(RepeatedMeasures { means, f, df, p, residual, blocks: blocks.len() })
}

impl RepeatedMeasures {
    /// Tukey's p of methods `a` and `b`, corrected for all pairs.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is no such method, or more than 100.
    pub fn tukey(&self, a: usize, b: usize) -> Result<f64> {
        let k = self.means.len();
        let (Some(x), Some(y)) = (self.means.get(a), self.means.get(b)) else {
            return Err(Error::argument("method", format!("below {k}"), a.max(b)));
        };
        if x == y {
            return Ok(1.0);
        }
        let q = (x - y).abs() / (self.residual / self.blocks as f64).sqrt();
        studentised_range_sf(q, k, self.df.1)
    }
}
