//! Named random streams: a draw depends on (seed, purpose, step), never on history.
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Seed of one run; hands out independent streams.
///
/// ```
/// use mtl_core::Seed;
/// use rand::RngExt;
///
/// let seed = Seed(7);
/// let first: u64 = seed.stream("batch", 3).random();
/// assert_eq!(first, seed.stream("batch", 3).random::<u64>());
/// assert_ne!(first, seed.stream("batch", 4).random::<u64>());
/// assert_ne!(first, seed.stream("init", 3).random::<u64>());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// Stream for `purpose` (such as `"init"`, `"batch"`) at `step`.
    pub fn stream(self, purpose: &str, step: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.fork(purpose).0);
        rng.set_stream(step);
        rng
    }

    /// A seed of its own for a part of the run that draws several streams, such as one task.
    #[must_use]
    pub fn fork(self, purpose: &str) -> Self {
        // FNV-1a over the seed and the name, then the finaliser of SplitMix64 so that near seeds give far ones.
        let bytes = self.0.to_le_bytes().into_iter().chain(purpose.bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ (mixed >> 31))
    }
}

#[cfg(feature = "torch")]
mod torch {
    use super::Seed;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};
    use tch::Tensor;

    impl Seed {
        /// Seeds libtorch's global generator, which dropout draws from.
        #[allow(clippy::disallowed_methods)] // The one place that may seed libtorch.
        pub fn seed_torch(self, step: u64) {
            // Halved so that the value is a non-negative i64.
            tch::manual_seed((self.stream("torch", step).random::<u64>() >> 1) as i64);
        }
    }

    /// Uniform `f32` tensor on `[-bound, bound)` of shape `dims`, from an explicit generator.
    pub fn uniform(rng: &mut ChaCha8Rng, dims: &[i64], bound: f64) -> Tensor {
        let n = dims.iter().product::<i64>().max(0);
        let values: Vec<f32> = (0..n).map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32).collect();
        Tensor::from_slice(&values).view(dims)
    }

    /// Normal `f32` tensor with mean 0 and standard deviation `std` of shape `dims`, from an explicit generator.
    pub fn normal(rng: &mut ChaCha8Rng, dims: &[i64], std: f64) -> Tensor {
        let n = dims.iter().product::<i64>().max(0);
        let draw = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
        let values: Vec<f32> = (0..n).map(|_| (draw(rng) * std) as f32).collect();
        Tensor::from_slice(&values).view(dims)
    }
}
#[cfg(feature = "torch")]
pub use torch::{normal, uniform};

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_are_pinned_so_that_old_runs_can_be_repeated() {
        let draws: Vec<u32> = (0..3).map(|step| Seed(1).stream("batch", step).random()).collect();
        assert_eq!(draws, [4064067046, 4233969722, 1886512804]);
        assert_ne!(Seed(0).fork("task").0, Seed(1).fork("task").0);
    }
}
