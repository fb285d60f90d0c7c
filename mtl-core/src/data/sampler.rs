//! Which examples, and which task, a step sees: functions of the seed and the step.
use crate::{Error, Result, Seed};
use rand::{RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// Passes over `0..len` in shuffled order, each pass in an order of its own.
///
/// The indices of a step depend on the seed and the step alone, so a run can resume at any step.
///
/// ```
/// use mtl_core::{Seed, data::EpochSampler};
///
/// let mut sampler = EpochSampler::new(10, 4, Seed(0))?;
/// let (first, third) = (sampler.indices(0), sampler.indices(2));
/// assert_eq!((first.len(), third.len()), (4, 2)); // the last batch of a pass may be shorter
/// assert_eq!(sampler.indices(0), first);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct EpochSampler {
    len: usize,
    batch: usize,
    seed: Seed,
    order: Option<(u64, Vec<i64>)>,
}

impl EpochSampler {
    /// A sampler of batches of `batch` out of `len` examples.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `len` or `batch` is 0.
    pub fn new(len: usize, batch: usize, seed: Seed) -> Result<Self> {
        for (field, value) in [("len", len), ("batch", batch)] {
            if value == 0 {
                return Err(Error::config(field, "at least 1", value));
            }
        }
        Ok(Self { len, batch, seed, order: None })
    }

    /// Steps that one pass takes.
    pub fn steps_per_epoch(&self) -> u64 {
        self.len.div_ceil(self.batch) as u64
    }

    /// Indices of the batch of `step`, counted from 0 over all passes.
    pub fn indices(&mut self, step: u64) -> Vec<i64> {
        let epoch = step / self.steps_per_epoch();
        let start = (step % self.steps_per_epoch()) as usize * self.batch;
        if self.order.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let mut order: Vec<i64> = (0..self.len as i64).collect();
            order.shuffle(&mut self.seed.stream("shuffle", epoch));
            self.order = Some((epoch, order));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        order[start..(start + self.batch).min(self.len)].to_vec()
    }
}

/// How often each task is drawn, from the sizes of their data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum TaskMixture {
    /// Every task equally often.
    Uniform,
    /// In proportion to the number of examples.
    Proportional,
    /// In proportion to `size^(1/temperature)`: 1 is proportional, infinity is uniform. Raffel et al. 2020, T5.
    Temperature {
        /// Positive.
        temperature: f64,
    },
    /// In proportion to `(rank + 1)^(−exponent)`, tasks ranked in their given order.
    PowerLaw {
        /// Not negative; 0 is uniform.
        exponent: f64,
    },
    /// Weights that change at given steps.
    Curriculum {
        /// Stages in ascending order of their first step; the first begins at 0.
        stages: Vec<Stage>,
    },
}

/// A stage of [`TaskMixture::Curriculum`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// First step of the stage.
    pub from_step: u64,
    /// Weight of each task; not negative, not all 0.
    pub weights: Vec<f64>,
}

impl TaskMixture {
    /// Probability of each task at `step`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without tasks, for a parameter outside its range, or a stage with the wrong number of weights.
    ///
    /// ```
    /// use mtl_core::data::TaskMixture;
    ///
    /// let p = TaskMixture::Temperature { temperature: 2.0 }.probabilities(&[1, 9], 0)?;
    /// assert_eq!(p, [0.25, 0.75]);
    /// # Ok::<(), mtl_core::Error>(())
    /// ```
    pub fn probabilities(&self, sizes: &[usize], step: u64) -> Result<Vec<f64>> {
        if sizes.is_empty() {
            return Err(Error::config("sizes", "those of at least one task", "empty"));
        }
        let weights: Vec<f64> = match self {
            Self::Uniform => vec![1.0; sizes.len()],
            Self::Proportional => sizes.iter().map(|&n| n as f64).collect(),
            Self::Temperature { temperature } => {
                positive("temperature", *temperature)?;
                sizes.iter().map(|&n| (n as f64).powf(1.0 / temperature)).collect()
            }
            Self::PowerLaw { exponent } => {
                if !(*exponent >= 0.0 && exponent.is_finite()) {
                    return Err(Error::config("exponent", "finite and not negative", exponent));
                }
                (1..=sizes.len()).map(|rank| (rank as f64).powf(-exponent)).collect()
            }
            Self::Curriculum { stages } => stage(stages, sizes.len(), step)?.to_vec(),
        };
        let total: f64 = weights.iter().sum();
        positive("sum of the weights", total)?;
        Ok(weights.iter().map(|w| w / total).collect())
    }

    /// The task that `step` trains on.
    ///
    /// # Errors
    ///
    /// As [`probabilities`](Self::probabilities).
    pub fn draw(&self, sizes: &[usize], seed: Seed, step: u64) -> Result<usize> {
        let mut left: f64 = seed.stream("task", step).random();
        let probabilities = self.probabilities(sizes, step)?;
        for (task, p) in probabilities.iter().enumerate() {
            left -= p;
            if left < 0.0 {
                return Ok(task);
            }
        }
        // Rounding left a sliver at the end: it belongs to the last task that can be drawn at all.
        Ok(probabilities.iter().rposition(|&p| p > 0.0).unwrap_or(0))
    }
}

fn positive(field: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(field, "positive and finite", value))
    }
}

fn stage(stages: &[Stage], tasks: usize, step: u64) -> Result<&[f64]> {
    if stages.first().is_none_or(|s| s.from_step != 0)
        || !stages.is_sorted_by(|a, b| a.from_step < b.from_step)
    {
        return Err(Error::config("stages", "in ascending order from step 0", format!("{stages:?}")));
    }
    let current = stages.iter().rev().find(|s| s.from_step <= step).map_or(&[][..], |s| &s.weights);
    if current.len() != tasks || current.iter().any(|w| !(*w >= 0.0 && w.is_finite())) {
        let must = format!("{tasks} finite numbers that are not negative");
        return Err(Error::config("weights", must, format!("{current:?}")));
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Each pass visits every example exactly once, whatever the batch size.
        #[test]
        fn a_pass_is_a_permutation(len in 1usize..50, batch in 1usize..20, seed: u64, epoch in 0u64..3) {
            let mut sampler = EpochSampler::new(len, batch, Seed(seed)).unwrap();
            let steps = sampler.steps_per_epoch();
            let mut seen: Vec<i64> = (0..steps).flat_map(|s| sampler.indices(epoch * steps + s)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..len as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let mixture = TaskMixture::Proportional;
        let sizes = [100, 300];
        let hits = (0..2000).filter(|&step| mixture.draw(&sizes, Seed(3), step).unwrap() == 1).count();
        assert!((1400..1600).contains(&hits), "{hits} of 2000 draws, expected about 1500");
    }

    #[test]
    fn a_curriculum_changes_at_its_steps() {
        let stages = vec![
            Stage { from_step: 0, weights: vec![1.0, 0.0] },
            Stage { from_step: 5, weights: vec![0.0, 1.0] },
        ];
        let mixture = TaskMixture::Curriculum { stages };
        assert_eq!(mixture.draw(&[1, 1], Seed(0), 4).unwrap(), 0);
        assert_eq!(mixture.draw(&[1, 1], Seed(0), 5).unwrap(), 1);
        let err = mixture.probabilities(&[1, 1, 1], 0).unwrap_err();
        insta::assert_snapshot!(err, @"`weights` must be 3 finite numbers that are not negative, but is [1.0, 0.0]");
    }
}
