//! Weights of experts, with noise and scale applied while they are read.
use crate::{Result, Uniform, tensor::Values};
use mtl_core::Seed;
use std::{f64::consts::TAU, ops::Range};

/// Standard normal numbers by position (Box and Muller, 1958).
#[derive(Debug, Clone, Copy)]
pub(super) struct Gaussian {
    radius: Uniform,
    angle: Uniform,
}

impl Gaussian {
    pub(super) fn new(seed: Seed) -> Self {
        Self { radius: Uniform::new(seed.fork("radius")), angle: Uniform::new(seed.fork("angle")) }
    }

    /// The number at `position`.
    pub(super) fn at(&self, position: usize) -> f64 {
        normal(self.radius.at(position), self.angle.at(position))
    }

    /// Adds `scale` times the numbers from position `start` on.
    fn add(&self, start: usize, scale: f64, out: &mut [f64]) {
        let (mut radii, mut angles) = ([0; 256], [0; 256]);
        let unit = |word: u32| f64::from(word) / 4_294_967_296.0;
        for (i, out) in out.chunks_mut(256).enumerate() {
            self.radius.words(start + i * 256, &mut radii[..out.len()]);
            self.angle.words(start + i * 256, &mut angles[..out.len()]);
            for (out, (&radius, &angle)) in out.iter_mut().zip(radii.iter().zip(&angles)) {
                *out += scale * normal(unit(radius), unit(angle));
            }
        }
    }
}

/// `radius` in [0, 1) is moved into (0, 1), so that its logarithm is finite.
fn normal(radius: f64, angle: f64) -> f64 {
    (-2.0 * (radius + 0.5 / 4_294_967_296.0).ln()).sqrt() * (TAU * angle).cos()
}

/// Values of a weight, plus noise, times a scale.
pub(super) struct Edited<V> {
    pub(super) values: V,
    pub(super) noise: Option<(Gaussian, f64)>,
    pub(super) scale: f64,
}

impl<V: Values> Values for Edited<V> {
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let finite = self.values.read(span.clone(), out)?;
        if let Some((gaussian, scale)) = &self.noise {
            gaussian.add(span.start, *scale, out);
        }
        if self.scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= self.scale);
        }
        Ok(finite)
    }

    fn label(&self) -> String {
        self.values.label()
    }

    fn name(&self) -> &str {
        self.values.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::shards::Given;

    #[test]
    fn noise_does_not_depend_on_how_a_weight_is_cut() {
        let values = Given { name: "w", values: vec![1.0; 1000] };
        let edited = Edited { values, noise: Some((Gaussian::new(Seed(3)), 0.5)), scale: 2.0 };
        let mut whole = vec![0.0; 1000];
        edited.read(0..1000, &mut whole).unwrap();
        let mut part = vec![0.0; 300];
        edited.read(450..750, &mut part).unwrap();
        assert_eq!(part, whole[450..750]);
        assert_eq!(whole[7], (1.0 + 0.5 * Gaussian::new(Seed(3)).at(7)) * 2.0);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let gaussian = Gaussian::new(Seed(1));
        let n = 100_000;
        let mut values = vec![0.0; n];
        gaussian.add(0, 1.0, &mut values);
        let moment = |k: i32| values.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
        let tolerance = 5.0 / (n as f64).sqrt();
        assert!(moment(1).abs() < tolerance && (moment(2) - 1.0).abs() < 1.5 * tolerance);
        assert!((moment(4) - 3.0).abs() < 10.0 * tolerance, "{}", moment(4));
        assert!(normal(0.0, 0.0).is_finite());
    }
}
