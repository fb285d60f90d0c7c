//! Adam (Kingma and Ba, ICLR 2015, arXiv 1412.6980) for the methods that descend on weights.
use rayon::prelude::*;

/// Elements of a parallel step.
const CHUNK: usize = 1 << 14;

/// Moments of one tensor; the rates are the usual 0.9, 0.999 and 1e-8.
pub(super) struct Adam {
    lr: f64,
    step: i32,
    moments: Vec<(f64, f64)>,
}

impl Adam {
    pub(super) fn new(len: usize, lr: f64) -> Self {
        Self { lr, step: 0, moments: vec![(0.0, 0.0); len] }
    }

    /// One step of `values` against `gradient`.
    pub(super) fn step(&mut self, values: &mut [f64], gradient: &[f64]) {
        const BETAS: (f64, f64) = (0.9, 0.999);
        self.step = self.step.saturating_add(1);
        let rate = self.lr / (1.0 - BETAS.0.powi(self.step));
        let correction = (1.0 - BETAS.1.powi(self.step)).sqrt();
        let chunks = values.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        chunks.zip(self.moments.par_chunks_mut(CHUNK)).for_each(|((values, gradient), moments)| {
            for ((x, g), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
                *first = BETAS.0 * *first + (1.0 - BETAS.0) * g;
                *second = BETAS.1 * *second + (1.0 - BETAS.1) * g * g;
                *x -= rate * *first / (second.sqrt() / correction + 1e-8);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_reference_optimizer() {
        // Two steps on x² from (1, -3) with lr 0.1, by hand: the first moves by lr, whatever the gradient.
        let mut adam = Adam::new(2, 0.1);
        let mut x = vec![1.0, -3.0];
        for _ in 0..2 {
            let gradient: Vec<f64> = x.iter().map(|x| 2.0 * x).collect();
            adam.step(&mut x, &gradient);
        }
        // Second step for x = 0.9: m = 0.9·0.2 + 0.1·1.8 = 0.36, v = 0.999·0.004 + 0.001·3.24 = 0.007236.
        let expected = 0.9 - 0.1 * (0.36 / 0.19) / ((0.007_236_f64 / 0.001_999).sqrt() + 1e-8);
        assert!((x[0] - expected).abs() < 1e-9, "{} {expected}", x[0]);
        assert!((x[1] + 2.9 - 0.1).abs() < 1e-3);
    }
}
