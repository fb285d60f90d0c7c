//! Bayesian signed-rank test: Benavoli et al., *Time for a Change: a Tutorial for Comparing Multiple Classifiers
//! Through Bayesian Analysis*, JMLR 18, 2017.
use super::correlated_t::{RegionProbabilities, check_rope};
use super::{check_values, normal_quantile};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::{Rng, RngExt};

/// Posterior probabilities that the differences over tasks are practically negative, equivalent or positive: the
/// share of draws of a Dirichlet process (one pseudo-observation of weight ½ at 0) in which each region holds the
/// most weight of pairs.
///
/// ```
/// use mtl_bench::stats::bayesian_signed_rank;
/// use mtl_core::Seed;
///
/// let found = bayesian_signed_rank(&[2.0, 3.0, 2.5, 4.0, 3.5, 2.2], 1.0, 2000, Seed(0))?;
/// assert!(found.right > 0.95 && found.left < 0.01);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when there are no differences or over 1000, one is not finite, the rope is negative, or no
/// draws.
pub fn bayesian_signed_rank(
    differences: &[f64],
    rope: f64,
    draws: u32,
    seed: Seed,
) -> Result<RegionProbabilities> {
    check_values(differences, 1)?;
    check_rope(rope)?;
    if differences.len() > 1000 {
        return Err(Error::argument("differences", "at most 1000", differences.len()));
    }
    if draws == 0 {
        return Err(Error::argument("draws", "at least 1", 0));
    }
    let values: Vec<f64> = std::iter::once(0.0).chain(differences.iter().copied()).collect();
    let mut wins = [0.0; 3];
    for draw in 0..u64::from(draws) {
        let mut rng = seed.stream("bayesian-signed-rank", draw);
        // Dirichlet weights are proportional to gamma variables: ½ is half a squared normal, 1 an exponential.
        let weights: Vec<f64> = (0..values.len())
            .map(|i| if i == 0 { half_gamma(&mut rng) } else { exponential(&mut rng) })
            .collect();
        let mut mass = [0.0; 3];
        for (v, w) in values.iter().zip(&weights) {
            for (u, x) in values.iter().zip(&weights) {
                let sum = v + u;
                let region = if sum < -2.0 * rope {
                    0
                } else if sum > 2.0 * rope {
                    2
                } else {
                    1
                };
                mass[region] += w * x;
            }
        }
        let most = mass.iter().copied().fold(0.0, f64::max);
        let first: Vec<usize> = (0..3).filter(|&r| mass[r] == most).collect();
        for &region in &first {
            wins[region] += 1.0 / first.len() as f64;
        }
    }
    let [left, inside, right] = wins.map(|w| w / f64::from(draws));
    Ok(RegionProbabilities { left, rope: inside, right })
}

fn exponential(rng: &mut impl Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

fn half_gamma(rng: &mut impl Rng) -> f64 {
    // Shifted by half a step of the generator, so that 0 does not occur.
    normal_quantile(rng.random::<f64>() + 0.5 / (1_u64 << 53) as f64).powi(2) / 2.0
}
