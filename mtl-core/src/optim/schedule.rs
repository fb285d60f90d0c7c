//! Learning rates as pure functions of the step.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate falls after the warm-up. `steps` counts the whole run, the warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Decay {
    /// It does not.
    #[default]
    Constant,
    /// Half a cosine wave down to `min_lr`: Loshchilov & Hutter, *SGDR*, ICLR 2017, arXiv 1608.03983.
    Cosine {
        /// Step from which the rate is `min_lr`.
        steps: u64,
        /// Final rate.
        #[serde(default)]
        min_lr: f64,
    },
    /// Times `factor` every `every` steps.
    Step {
        /// Steps between two falls. At least 1.
        every: u64,
        /// Factor of each fall, in `(0, 1]`.
        factor: f64,
    },
    /// `(1 − progress)^power`; a straight line down to 0 with power 1.
    Poly {
        /// Step from which the rate is 0.
        steps: u64,
        /// Exponent. Positive.
        #[serde(default = "one")]
        power: f64,
    },
}

fn one() -> f64 {
    1.0
}

/// The learning rate of each step: a linear warm-up, then a decay.
///
/// ```
/// use mtl_core::optim::{Decay, Schedule};
///
/// let schedule = Schedule::constant(0.4).warmup(4).decay(Decay::Poly { steps: 12, power: 1.0 });
/// assert_eq!([0, 3, 4, 8, 12].map(|step| schedule.at(step)), [0.1, 0.4, 0.4, 0.2, 0.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Schedule {
    /// Highest rate. At least 0.
    pub lr: f64,
    /// Steps over which the rate rises linearly to `lr`; step `warmup − 1` is the first with all of it.
    pub warmup: u64,
    /// What comes after.
    pub decay: Decay,
}

impl Default for Schedule {
    fn default() -> Self {
        Self::constant(1e-3)
    }
}

impl Schedule {
    /// Always `lr`.
    pub fn constant(lr: f64) -> Self {
        Self { lr, warmup: 0, decay: Decay::Constant }
    }

    /// Sets the number of warm-up steps.
    #[must_use]
    pub fn warmup(mut self, warmup: u64) -> Self {
        self.warmup = warmup;
        self
    }

    /// Sets the decay.
    #[must_use]
    pub fn decay(mut self, decay: Decay) -> Self {
        self.decay = decay;
        self
    }

    /// Fails unless every value is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, must: &str, value: f64| Err(Error::config(field, must, value));
        if !(0.0 <= self.lr && self.lr.is_finite()) {
            return refuse("lr", "finite and at least 0", self.lr);
        }
        match self.decay {
            Decay::Cosine { min_lr, .. } if !(0.0..=self.lr).contains(&min_lr) => {
                refuse("min_lr", "between 0 and `lr`", min_lr)
            }
            Decay::Step { every: 0, .. } => refuse("every", "at least 1", 0.0),
            Decay::Step { factor, .. } if !(0.0 < factor && factor <= 1.0) => {
                refuse("factor", "above 0 and at most 1", factor)
            }
            Decay::Poly { power, .. } if !(0.0 < power && power.is_finite()) => {
                refuse("power", "positive and finite", power)
            }
            Decay::Cosine { steps, .. } | Decay::Poly { steps, .. } if steps <= self.warmup => {
                refuse("steps", "above `warmup`", steps as f64)
            }
            _ => Ok(()),
        }
    }

    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        let since = step - self.warmup;
        let progress = |steps: u64| (since as f64 / steps.saturating_sub(self.warmup).max(1) as f64).min(1.0);
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Cosine { steps, min_lr } => {
                min_lr + (self.lr - min_lr) * 0.5 * (1.0 + (PI * progress(steps)).cos())
            }
            Decay::Step { every, factor } => self.lr * factor.powf((since / every.max(1)) as f64),
            Decay::Poly { steps, power } => self.lr * (1.0 - progress(steps)).powf(power),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decay_has_the_values_of_its_formula() {
        let cosine = Schedule::constant(1.0).decay(Decay::Cosine { steps: 10, min_lr: 0.2 });
        let expected = [1.0, 0.6, 0.2, 0.2]; // cos 0, cos π/2, cos π, and after the end
        for (step, want) in [0, 5, 10, 99].into_iter().zip(expected) {
            assert!((cosine.at(step) - want).abs() < 1e-12, "{step}");
        }
        let stairs = Schedule::constant(1.0).warmup(2).decay(Decay::Step { every: 3, factor: 0.5 });
        assert_eq!([0, 1, 2, 4, 5, 8].map(|s| stairs.at(s)), [0.5, 1.0, 1.0, 1.0, 0.5, 0.25]);
        let square = Schedule::constant(2.0).decay(Decay::Poly { steps: 4, power: 2.0 });
        assert_eq!([0, 2, 4, 5].map(|s| square.at(s)), [2.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let check = |s: Schedule| s.check().unwrap_err().to_string();
        insta::assert_snapshot!(check(Schedule::constant(-1.0)), @"`lr` must be finite and at least 0, but is -1");
        let poly = Schedule::constant(1.0).warmup(9).decay(Decay::Poly { steps: 9, power: 1.0 });
        insta::assert_snapshot!(check(poly), @"`steps` must be above `warmup`, but is 9");
        let stairs = Schedule::constant(1.0).decay(Decay::Step { every: 0, factor: 0.5 });
        insta::assert_snapshot!(check(stairs), @"`every` must be at least 1, but is 0");
    }

    #[test]
    fn a_schedule_reads_from_a_config() {
        let text = r#"{"lr": 0.1, "decay": {"kind": "cosine", "steps": 100}}"#;
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(schedule, Schedule::constant(0.1).decay(Decay::Cosine { steps: 100, min_lr: 0.0 }));
    }
}
