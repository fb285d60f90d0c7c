//! Initial values of parameters.
//!
//! Glorot & Bengio, AISTATS 2010 (Xavier); He et al., ICCV 2015, arXiv 1502.01852 (Kaiming); Saxe et al., ICLR 2014,
//! arXiv 1312.6120 (orthogonal). Fans are counted as in PyTorch: of a weight `[out, in, …]` the fan in is `in · …`,
//! the fan out `out · …`.
use crate::{Error, Result, Seed, StateDict, check, no_grad, rng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

/// How a parameter gets its first value.
///
/// ```
/// use mtl_core::{Seed, nn::Init};
///
/// let w = Init::XavierUniform { gain: 1.0 }.tensor(Seed(0), "fc.weight", &[2, 4])?;
/// assert!(w.abs().max().double_value(&[]) <= 1.0); // √(6 / (2 + 4))
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// Every element is this value.
    Constant(f64),
    /// Uniform on ±`bound`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal with mean 0; values beyond two standard deviations are drawn again.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
    },
    /// Uniform on ±√(6 / ((1 + a²) · fan in)); a = √5 is what PyTorch's linear and convolution layers do.
    KaimingUniform {
        /// Negative slope of the rectifier that follows; 0 for ReLU.
        a: f64,
    },
    /// Normal with variance 2 / ((1 + a²) · fan in).
    KaimingNormal {
        /// Negative slope of the rectifier that follows; 0 for ReLU.
        a: f64,
    },
    /// Uniform on ±gain · √(6 / (fan in + fan out)).
    XavierUniform {
        /// Factor that suits the activation; 1 for none.
        gain: f64,
    },
    /// Normal with variance gain² · 2 / (fan in + fan out).
    XavierNormal {
        /// Factor that suits the activation; 1 for none.
        gain: f64,
    },
    /// Rows (or columns, where there are fewer of them) of length `gain`, orthogonal to each other.
    Orthogonal {
        /// Length of each row.
        gain: f64,
    },
}

impl Default for Init {
    /// What PyTorch does for the weight of a linear layer.
    fn default() -> Self {
        Self::KaimingUniform { a: 5f64.sqrt() }
    }
}

impl Init {
    /// A fresh `f32` tensor for the parameter `name`, drawn from the stream of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when a size is below 1, when the number of elements overflows or when a scheme that needs fans
    /// gets a vector; [`Error::Config`] when a parameter of the scheme is negative or not finite; [`Error::Torch`] when
    /// the tensor does not fit into memory.
    pub fn tensor(self, seed: Seed, name: &str, dims: &[i64]) -> Result<Tensor> {
        let fans = || fans(name, dims);
        check_size(name, dims)?;
        self.check(name)?;
        let mut rng = seed.stream(&format!("init {name}"), 0);
        Ok(match self {
            Self::Constant(value) => Tensor::full(dims, value, (Kind::Float, Device::Cpu)),
            Self::Uniform { bound } => rng::uniform(&mut rng, dims, bound),
            Self::Normal { std } => rng::normal(&mut rng, dims, std),
            Self::TruncatedNormal { std } => truncated_normal(&mut rng, dims, std),
            Self::KaimingUniform { a } => {
                rng::uniform(&mut rng, dims, (6.0 / ((1.0 + a * a) * fans()?.0)).sqrt())
            }
            Self::KaimingNormal { a } => {
                rng::normal(&mut rng, dims, (2.0 / ((1.0 + a * a) * fans()?.0)).sqrt())
            }
            Self::XavierUniform { gain } => {
                let (inputs, outputs) = fans()?;
                rng::uniform(&mut rng, dims, gain * (6.0 / (inputs + outputs)).sqrt())
            }
            Self::XavierNormal { gain } => {
                let (inputs, outputs) = fans()?;
                rng::normal(&mut rng, dims, gain * (2.0 / (inputs + outputs)).sqrt())
            }
            Self::Orthogonal { gain } => {
                fans()?;
                orthogonal(&mut rng, dims, gain)?
            }
        })
    }

    /// Puts a fresh tensor for the parameter `name` into `into`.
    ///
    /// # Errors
    ///
    /// See [`tensor`](Self::tensor); [`Error::Config`] when `into` already has a parameter of that name.
    pub fn fill(self, seed: Seed, name: &str, dims: &[i64], into: &mut StateDict) -> Result<()> {
        let tensor = self.tensor(seed, name, dims)?;
        match into.insert(name, tensor) {
            None => Ok(()),
            Some(_) => Err(Error::config(name, "initialised once", "initialised twice")),
        }
    }

    fn check(self, name: &str) -> Result<()> {
        let value = match self {
            Self::Constant(value) => return finite(name, value),
            Self::Uniform { bound: value }
            | Self::Normal { std: value }
            | Self::TruncatedNormal { std: value }
            | Self::KaimingUniform { a: value }
            | Self::KaimingNormal { a: value }
            | Self::XavierUniform { gain: value }
            | Self::XavierNormal { gain: value }
            | Self::Orthogonal { gain: value } => value,
        };
        if value < 0.0 {
            return Err(Error::config(format!("initialiser of {name}"), "at least 0", value));
        }
        finite(name, value)
    }
}

fn finite(name: &str, value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::config(format!("initialiser of {name}"), "finite", value))
}

fn check_size(name: &str, dims: &[i64]) -> Result<()> {
    let numel = dims.iter().try_fold(1i64, |n, &d| if d < 1 { None } else { n.checked_mul(d) });
    let Some(numel) = numel else {
        return Err(Error::shape(name, "sizes of at least 1 that can be allocated", dims.to_vec()));
    };
    // Eight bytes each: some schemes draw in double precision.
    check::memory(name, (numel as u64).saturating_mul(8))?;
    Ok(())
}

/// Fan in and fan out.
fn fans(name: &str, dims: &[i64]) -> Result<(f64, f64)> {
    let [outputs, inputs, kernel @ ..] = dims else {
        return Err(Error::shape(name, "[out, in, …]", dims.to_vec()));
    };
    let area: i64 = kernel.iter().product();
    Ok(((inputs * area) as f64, (outputs * area) as f64))
}

fn truncated_normal(rng: &mut ChaCha8Rng, dims: &[i64], std: f64) -> Tensor {
    let mut draw = || loop {
        let z: f64 = StandardNormal.sample(rng);
        if z.abs() <= 2.0 {
            return (z * std) as f32;
        }
    };
    let values: Vec<f32> = (0..dims.iter().product()).map(|_: i64| draw()).collect();
    Tensor::from_slice(&values).view(dims)
}

fn orthogonal(rng: &mut ChaCha8Rng, dims: &[i64], gain: f64) -> Result<Tensor> {
    let rows = dims.first().copied().unwrap_or(1);
    let columns = dims.iter().product::<i64>() / rows;
    no_grad(|| {
        let tall = rng::normal(rng, &[rows.max(columns), rows.min(columns)], 1.0).to_kind(Kind::Double);
        let (q, r) = Tensor::f_linalg_qr(&tall, "reduced")?;
        let q = q * r.diagonal(0, 0, 1).sign(); // Makes the distribution uniform over orthogonal matrices.
        let q = if rows < columns { q.tr() } else { q };
        Ok((q * gain).to_kind(Kind::Float).reshape(dims))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn std(t: &Tensor) -> f64 {
        t.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
    }

    #[test]
    fn a_tensor_depends_on_its_name_alone() {
        let init = Init::default();
        let a = init.tensor(Seed(1), "a", &[3, 4]).unwrap();
        assert_eq!(a, init.tensor(Seed(1), "a", &[3, 4]).unwrap());
        assert_ne!(a, init.tensor(Seed(1), "b", &[3, 4]).unwrap());
        assert_ne!(a, init.tensor(Seed(2), "a", &[3, 4]).unwrap());
    }

    #[test]
    fn spreads_are_those_of_the_papers() {
        let dims = [64, 128, 3, 3]; // fan in 1152, fan out 576
        let spread = |init: Init| std(&init.tensor(Seed(0), "w", &dims).unwrap());
        let close = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.02, "{got} is not {want}");
        close(spread(Init::KaimingNormal { a: 0.0 }), (2.0f64 / 1152.0).sqrt());
        close(spread(Init::KaimingUniform { a: 0.0 }), (2.0f64 / 1152.0).sqrt());
        close(spread(Init::XavierNormal { gain: 2.0 }), 2.0 * (2.0f64 / 1728.0).sqrt());
        close(spread(Init::XavierUniform { gain: 2.0 }), 2.0 * (2.0f64 / 1728.0).sqrt());
        close(spread(Init::Normal { std: 0.5 }), 0.5);
        close(spread(Init::TruncatedNormal { std: 0.5 }), 0.5 * 0.8796); // √(1 − 2·2φ(2) / (2Φ(2) − 1))
        let bounded = Init::TruncatedNormal { std: 0.5 }.tensor(Seed(0), "w", &dims).unwrap();
        assert!(bounded.abs().max().double_value(&[]) <= 1.0);
        let default = Init::default().tensor(Seed(0), "w", &[10, 100]).unwrap();
        assert!(default.abs().max().double_value(&[]) <= 0.1); // PyTorch: ±1/√in
    }

    #[test]
    fn orthogonal_rows_have_the_length_asked_for() {
        for dims in [[3i64, 7], [7, 3]] {
            let w = Init::Orthogonal { gain: 2.0 }.tensor(Seed(3), "w", &dims).unwrap();
            let gram = if dims[0] < dims[1] { w.matmul(&w.tr()) } else { w.tr().matmul(&w) };
            let wanted = Tensor::eye(3, (Kind::Float, Device::Cpu)) * 4.0;
            assert!((gram - wanted).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let refuse = |init: Init, dims: &[i64]| init.tensor(Seed(0), "w", dims).unwrap_err().to_string();
        insta::assert_snapshot!(refuse(Init::default(), &[3]), @"`w` must have shape [out, in, …], but has [3]");
        insta::assert_snapshot!(refuse(Init::Constant(0.0), &[0, 3]), @"`w` must have shape sizes of at least 1 that can be allocated, but has [0, 3]");
        insta::assert_snapshot!(refuse(Init::Normal { std: -1.0 }, &[3]), @"`initialiser of w` must be at least 0, but is -1");
        insta::assert_snapshot!(refuse(Init::Constant(f64::NAN), &[3]), @"`initialiser of w` must be finite, but is NaN");
        assert!(refuse(Init::Constant(0.0), &[i64::MAX, 2]).contains("can be allocated"));
        assert!(refuse(Init::Constant(0.0), &[1 << 50]).contains("needs 8589934592 MiB, but only "));
    }
}
