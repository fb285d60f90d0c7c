//! Statistics over seeds and tasks: intervals, aggregates, tests and their choice, corrections, effect sizes, curves
//! and fits.
//!
//! The unit of replication is the run (the seed). Test items of one run are not replications.
mod aggregate;
mod anova;
mod audit;
mod bayes;
mod bootstrap;
mod comparison;
mod correlated_t;
mod curves;
mod effect;
mod equivalence;
mod friedman;
mod holm;
mod improvement;
mod jackknife;
mod least_squares;
mod log_log;
mod mann_whitney;
mod mcnemar;
mod multiplicity;
mod nemenyi;
mod normalise;
mod paired;
mod power;
mod power_law;
mod profile;
mod proportion;
mod ranks;
mod recommend;
mod runs;
mod sample_efficiency;
mod scaling_shape;
mod scores;
mod shapiro;
mod sign_flip;
mod sign_test;
mod stratified;
mod studentised_range;
mod summary;
mod t_test;
mod wilcoxon;

pub use aggregate::{Aggregate, Iqm, MeanOfTasks, MedianOfTasks, OptimalityGap, interquartile_mean, median};
pub use anova::{RepeatedMeasures, repeated_measures_anova};
pub use audit::{Share, audit};
pub use bayes::bayesian_signed_rank;
pub use bootstrap::{Bootstrap, Replicates, bca_bootstrap, percentile_bootstrap, quantile};
pub use comparison::{CompareOptions, PairComparison, ScoreComparison, compare, format_p};
pub use correlated_t::{CorrelatedT, RegionProbabilities, correlated_t};
pub use curves::{Axis, Band, Curve, CurveBand, Interpolation, curve_band};
pub use effect::{Magnitude, cliffs_delta, cohen_d, hedges_g, vargha_delaney};
pub use equivalence::{Equivalence, equivalence};
pub use friedman::{ControlComparison, Friedman, friedman};
pub use holm::holm;
pub use improvement::{Improvement, Sides, probability_of_improvement};
pub use jackknife::Jackknife;
pub use log_log::{LogLogFit, fit_log_log};
pub use mann_whitney::{MannWhitney, MannWhitneyMethod, mann_whitney};
pub use mcnemar::{McNemar, mcnemar};
pub use multiplicity::{Correction, adjust};
pub use nemenyi::{CriticalDifference, maximal_groups};
pub use normalise::{Reference, min_max_references, normalise_by_reference, z_score_references};
pub use paired::PairedDifference;
pub use power::{detectable_difference, paired_power, runs_needed};
pub use power_law::{
    Extrapolation, FitOptions, Parameter, PowerLawFit, Shape, ShapeFit, choose_power_law, fit_power_law,
};
pub use profile::{BandKind, Profile, ProfileKind, performance_profile, profile_with_band};
pub use proportion::{clopper_pearson, wilson};
pub use ranks::{average_ranks, ranks, win_tie_loss, worst_task};
pub use recommend::{Recommendation, Situation, Test, recommend};
pub use runs::{ItemsByRun, RunsByTasks};
pub use sample_efficiency::{EfficiencyRatio, Needed, efficiency_ratio, samples_needed};
pub use scaling_shape::ScalingShape;
pub use scores::{NonFinite, PairingKey, Score, Scores};
pub use shapiro::{ShapiroWilk, shapiro_wilk};
pub use sign_flip::{SignFlip, sign_flip};
pub use sign_test::{SignTest, sign_test};
pub use stratified::{AggregateRule, hierarchical_bootstrap, stratified_bootstrap, stratified_replicates};
pub use studentised_range::{studentised_range_quantile, studentised_range_sf};
pub use summary::{Estimate, Interval, IntervalMethod, mean, std};
pub use t_test::{TTest, student_t, welch};
pub use wilcoxon::{Wilcoxon, WilcoxonOptions, Zeros, wilcoxon, wilcoxon_with};

use crate::{Error, Result};
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor, Normal, StudentsT};

fn check_level(level: f64) -> Result<()> {
    if 0.0 < level && level < 1.0 {
        return Ok(());
    }
    Err(Error::argument("level", "between 0 and 1, such as 0.95", level))
}

fn check_values(values: &[f64], at_least: usize) -> Result<()> {
    if values.len() < at_least {
        return Err(Error::argument("values", format!("at least {at_least} numbers"), values.len()));
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::argument("values", "finite", format!("{} at index {i}", values[i]))),
        None => Ok(()),
    }
}

fn student(df: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, df).map_err(|e| Error::argument("df", "positive", format!("{df} ({e})")))
}

/// Two-sided critical value of Student's t.
fn t_critical(level: f64, df: f64) -> Result<f64> {
    Ok(student(df)?.inverse_cdf(0.5 + level / 2.0))
}

/// Standard normal distribution function.
fn phi(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// Quantile of the standard normal distribution; `q` must lie in 0..=1.
fn normal_quantile(q: f64) -> f64 {
    Normal::standard().inverse_cdf(q)
}

/// Two-sided critical value of the normal distribution, for a checked level.
fn z_critical(level: f64) -> f64 {
    normal_quantile(0.5 + level / 2.0)
}

/// Upper tail of χ².
fn chi_squared_sf(x: f64, df: f64) -> Result<f64> {
    let chi = ChiSquared::new(df).map_err(|e| Error::argument("df", "positive", e))?;
    Ok(chi.sf(x))
}

/// Upper tail of F.
fn f_sf(x: f64, df1: f64, df2: f64) -> Result<f64> {
    let f = FisherSnedecor::new(df1, df2).map_err(|e| Error::argument("df", "positive", e))?;
    Ok(f.sf(x))
}

/// Two-sided p of a t statistic.
fn t_p(t: f64, df: f64) -> Result<f64> {
    Ok((2.0 * student(df)?.sf(t.abs())).min(1.0))
}

/// Whether the spread of `values` is nothing but rounding, so that a t statistic would be meaningless.
fn constant(values: &[f64]) -> bool {
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    high - low <= 1e-12 * low.abs().max(high.abs())
}
