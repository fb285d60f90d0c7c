//! Performance profiles: Dolan and Moré 2002, as score distributions by Agarwal et al., arXiv 2108.13264.
use super::stratified::resample;
use super::{Bootstrap, RunsByTasks, quantile, std};
use crate::{Error, Result};

/// What a point of a profile counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfileKind {
    /// Share of runs × tasks with a score above τ, each task weighing the same.
    #[default]
    Runs,
    /// Share of tasks with a mean score above τ.
    TaskMeans,
}

/// Whether a band holds at each τ or over the whole profile at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BandKind {
    /// At each τ.
    #[default]
    Pointwise,
    /// Over all τ at once: ± the quantile of the largest standardised deviation.
    Simultaneous,
}

/// A performance profile with its band.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Thresholds.
    pub tau: Vec<f64>,
    /// Share of scores strictly above each threshold.
    pub share: Vec<f64>,
    /// Lower end of the band at each threshold.
    pub low: Vec<f64>,
    /// Upper end.
    pub high: Vec<f64>,
}

/// Share of scores above each of `tau`.
pub fn performance_profile(scores: &RunsByTasks, tau: &[f64], kind: ProfileKind) -> Vec<f64> {
    let above =
        |values: &[f64], t: f64| values.iter().filter(|v| **v > t).count() as f64 / values.len() as f64;
    match kind {
        ProfileKind::Runs => {
            let share = |t| scores.columns().iter().map(|c| above(c, t)).sum::<f64>();
            tau.iter().map(|&t| share(t) / scores.n_tasks() as f64).collect()
        }
        ProfileKind::TaskMeans => {
            let means = scores.task_means();
            tau.iter().map(|&t| above(&means, t)).collect()
        }
    }
}

/// A profile with a stratified bootstrap band.
///
/// # Errors
///
/// [`Error::Argument`] for thresholds that are missing or not finite, a task with one run, or as for
/// [`super::percentile_bootstrap`].
pub fn profile_with_band(
    scores: &RunsByTasks,
    tau: &[f64],
    kind: ProfileKind,
    band: BandKind,
    options: &Bootstrap,
) -> Result<Profile> {
    options.check()?;
    super::check_values(tau, 1)?;
    if scores.fewest_runs() < 2 {
        return Err(Error::argument(
            "scores",
            "of at least 2 runs per task for a band",
            scores.fewest_runs(),
        ));
    }
    let share = performance_profile(scores, tau, kind);
    let mut sample = scores.clone();
    let mut drawn = vec![Vec::with_capacity(options.replicates as usize); tau.len()]; // [tau, replicates]
    for replicate in 0..u64::from(options.replicates) {
        resample(scores, &mut sample, false, &mut options.seed.stream("profile", replicate));
        for (column, value) in drawn.iter_mut().zip(performance_profile(&sample, tau, kind)) {
            column.push(value);
        }
    }
    let (low, high) = match band {
        BandKind::Pointwise => pointwise(drawn, options.level),
        BandKind::Simultaneous => simultaneous(&drawn, &share, options.level),
    };
    Ok(Profile { tau: tau.to_vec(), share, low, high })
}

fn pointwise(mut drawn: Vec<Vec<f64>>, level: f64) -> (Vec<f64>, Vec<f64>) {
    let tail = (1.0 - level) / 2.0;
    drawn.iter_mut().for_each(|c| c.sort_by(f64::total_cmp));
    let at = |q| drawn.iter().map(|c| quantile(c, q)).collect();
    (at(tail), at(1.0 - tail))
}

fn simultaneous(drawn: &[Vec<f64>], share: &[f64], level: f64) -> (Vec<f64>, Vec<f64>) {
    let errors: Vec<f64> = drawn.iter().map(|c| std(c).unwrap_or(0.0)).collect();
    let replicates = drawn.first().map_or(0, Vec::len);
    let largest = |r: usize| {
        let deviations = drawn.iter().zip(share).zip(&errors);
        deviations.fold(0.0_f64, |m, ((c, s), e)| if *e > 0.0 { m.max((c[r] - s).abs() / e) } else { m })
    };
    let mut largest: Vec<f64> = (0..replicates).map(largest).collect();
    largest.sort_by(f64::total_cmp);
    let width = quantile(&largest, level);
    let at =
        |sign: f64| share.iter().zip(&errors).map(|(s, e)| (s + sign * width * e).clamp(0.0, 1.0)).collect();
    (at(-1.0), at(1.0))
}
