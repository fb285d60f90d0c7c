//! Regression tasks whose kinship and scale are chosen.
//!
//! The sinusoids are those of Ma et al., *Modeling Task Relationships in Multi-task Learning with Multi-gate
//! Mixture-of-Experts*, KDD 2018, section 4; the hyperbolic tangents make tasks that pull shared weights apart.
use crate::{Error, Result, Seed, TaskKind, TaskSpec, data::TensorDataset, rng};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How a task's target depends on the projection `w_kᵀ x`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// `tanh(2 w_kᵀ x)`.
    #[default]
    Tanh,
    /// `w_kᵀ x + Σ_{i=1}^{4} sin(i w_kᵀ x + i − 1)`.
    Sinusoids,
}

/// Configuration of synthetic regression tasks; the default is three unrelated tasks of one scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SyntheticRegression {
    /// Width of the inputs, which are standard normal. At least the number of tasks.
    pub inputs: i64,
    /// Factor of each task's target; as many as there are tasks.
    pub scales: Vec<f64>,
    /// Cosine between the projections of any two tasks: between −1 / (tasks − 1) and 1, ends excluded below.
    pub cosine: f64,
    /// Standard deviation of the noise on the targets, before scaling. At least 0.
    pub noise: f64,
    /// How targets depend on projections.
    pub response: Response,
}

impl Default for SyntheticRegression {
    fn default() -> Self {
        Self { inputs: 20, scales: vec![1.0; 3], cosine: 0.0, noise: 0.1, response: Response::Tanh }
    }
}

impl SyntheticRegression {
    /// Sets the width of the inputs.
    #[must_use]
    pub fn inputs(mut self, inputs: i64) -> Self {
        self.inputs = inputs;
        self
    }

    /// Sets the factor of each task's target.
    #[must_use]
    pub fn scales(mut self, scales: &[f64]) -> Self {
        self.scales = scales.to_vec();
        self
    }

    /// Sets the cosine between the projections of any two tasks.
    #[must_use]
    pub fn cosine(mut self, cosine: f64) -> Self {
        self.cosine = cosine;
        self
    }

    /// Sets the standard deviation of the noise.
    #[must_use]
    pub fn noise(mut self, noise: f64) -> Self {
        self.noise = noise;
        self
    }

    /// Sets how targets depend on projections.
    #[must_use]
    pub fn response(mut self, response: Response) -> Self {
        self.response = response;
        self
    }

    /// A split of `examples` examples: `seed` draws the projections, `seed` and `split` the examples. Inputs are
    /// `[examples, inputs]`; the tasks `t0`, `t1`, … have targets `[examples, 1]`.
    ///
    /// ```
    /// use mtl_core::{Seed, data::SyntheticRegression};
    ///
    /// let family = SyntheticRegression::default().scales(&[1.0, 100.0]).cosine(-0.5);
    /// let train = family.split(Seed(0), "train", 50)?;
    /// assert_eq!((train.len(), train.tasks().len()), (50, 2));
    /// # Ok::<(), mtl_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn split(&self, seed: Seed, split: &str, examples: usize) -> Result<TensorDataset> {
        let projections = self.projections(seed)?; // [tasks, inputs]
        let rows = examples as i64;
        let x = rng::normal(&mut seed.stream(&format!("inputs {split}"), 0), &[rows, self.inputs], 1.0);
        let z = x.matmul(&projections.tr()); // [examples, tasks]
        let clean = match self.response {
            Response::Tanh => (&z * 2.0).tanh(),
            Response::Sinusoids => {
                let wave = |i: i64| (&z * i as f64 + (i - 1) as f64).sin();
                (1..=4).fold(z.shallow_clone(), |sum, i| sum + wave(i))
            }
        };
        let noise = rng::normal(&mut seed.stream(&format!("noise {split}"), 0), &clean.size(), self.noise);
        let targets = clean + noise;
        let task = |(k, scale): (usize, &f64)| {
            let spec = TaskSpec::new(format!("t{k}"), TaskKind::Regression { dims: 1 });
            (spec, targets.narrow(1, k as i64, 1).contiguous() * *scale)
        };
        TensorDataset::new(x, self.scales.iter().enumerate().map(task).collect())
    }

    /// Unit vectors `[tasks, inputs]` with the wanted cosine between any two.
    fn projections(&self, seed: Seed) -> Result<Tensor> {
        let tasks = self.scales.len();
        if tasks == 0 || self.scales.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
            let value = format!("{:?}", self.scales);
            return Err(Error::config("scales", "at least one number, each positive and finite", value));
        }
        if self.inputs < tasks as i64 {
            return Err(Error::config("inputs", format!("at least {tasks}, one for each task"), self.inputs));
        }
        let least = if tasks > 1 { -1.0 / (tasks - 1) as f64 } else { -1.0 };
        if !(least < self.cosine && self.cosine <= 1.0) {
            let must = format!("above {least:.3} for {tasks} tasks and at most 1");
            return Err(Error::config("cosine", must, self.cosine));
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return Err(Error::config("noise", "finite and at least 0", self.noise));
        }
        let draw = rng::normal(&mut seed.stream("projections", 0), &[self.inputs, tasks as i64], 1.0);
        let (basis, _) = Tensor::f_linalg_qr(&draw.to_kind(Kind::Double), "reduced")?; // [inputs, tasks]
        // The symmetric square root of the matrix of cosines: 1 on the diagonal, the cosine elsewhere.
        let (n, c) = (tasks as f64, self.cosine);
        let (across, along) = ((1.0 - c).max(0.0).sqrt(), (1.0 + (n - 1.0) * c).max(0.0).sqrt());
        let mean = (along - across) / n;
        let eye = Tensor::eye(tasks as i64, (Kind::Double, tch::Device::Cpu));
        let root: Tensor = eye * across + mean;
        Ok(root.matmul(&basis.tr()).to_kind(Kind::Float))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_have_the_wanted_angles() {
        for (cosine, tasks) in [(-0.45, 3), (0.0, 2), (0.9, 4), (1.0, 2), (-0.9, 2)] {
            let family = SyntheticRegression::default().scales(&vec![1.0; tasks]).cosine(cosine);
            let w = family.projections(Seed(2)).unwrap();
            let gram = w.matmul(&w.tr());
            for i in 0..tasks as i64 {
                for j in 0..tasks as i64 {
                    let wanted = if i == j { 1.0 } else { cosine };
                    assert!((gram.double_value(&[i, j]) - wanted).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn scales_multiply_targets_and_splits_share_projections() {
        let family = |scale: f64| SyntheticRegression::default().scales(&[1.0, scale]).noise(0.0);
        let of = |scale: f64, split: &str| {
            let data = family(scale).split(Seed(1), split, 40).unwrap();
            (data.inputs().shallow_clone(), data.targets(1).unwrap().shallow_clone())
        };
        let ((x, one), (_, hundred), (other, _)) = (of(1.0, "train"), of(100.0, "train"), of(1.0, "test"));
        assert!((one * 100.0 - hundred).abs().max().double_value(&[]) < 1e-4);
        assert!(!x.equal(&other));
        // The same function makes both splits: with one task and no noise, ranks follow the projection.
        let waves = family(1.0).response(Response::Sinusoids).split(Seed(1), "train", 40).unwrap();
        assert!(waves.targets(0).unwrap().abs().max().double_value(&[]) > 1.5);
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |family: SyntheticRegression| family.split(Seed(0), "train", 5).unwrap_err().to_string();
        let family = SyntheticRegression::default;
        insta::assert_snapshot!(error(family().cosine(-0.5)), @"`cosine` must be above -0.500 for 3 tasks and at most 1, but is -0.5");
        insta::assert_snapshot!(error(family().scales(&[1.0, 0.0])), @"`scales` must be at least one number, each positive and finite, but is [1.0, 0.0]");
        insta::assert_snapshot!(error(family().inputs(2)), @"`inputs` must be at least 3, one for each task, but is 2");
        insta::assert_snapshot!(error(family().noise(f64::NAN)), @"`noise` must be finite and at least 0, but is NaN");
    }
}
