//! Configuration-invariant knowledge distillation from the widest encoder into narrower ones.
//!
//! Aich et al., ICCV 2023, arXiv 2308.11744. The distance between features of unlike width is not given there; both
//! ways here are reconstructions.
use crate::{Error, Result, no_grad};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Which features of the encoder are distilled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistilAt {
    /// The sum over the outputs of all stages.
    #[default]
    EveryStage,
    /// Those that the decoders read.
    LastStage,
}

/// Distance between features of a narrow encoder and those of the widest, which get no gradient.
///
/// ```
/// use mtl_core::slimmable::CiKd;
/// use tch::Tensor;
///
/// let narrow = Tensor::from_slice(&[1.0f64, 2.0]).view([2, 1]);
/// let widest = Tensor::from_slice(&[2.0f64, 9.0, 2.0, 9.0]).view([2, 2]);
/// assert_eq!(CiKd::SliceMse.loss(&narrow, &widest)?.double_value(&[]), 0.5); // (1 + 0) / 2
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CiKd {
    /// Mean squared difference to the first channels of the widest.
    #[default]
    SliceMse,
    /// Mean squared difference of the cosine similarities between the examples of the batch; any two widths compare.
    Gram,
}

impl CiKd {
    /// The distance of `narrow` `[batch, channels, …]` to `widest` `[batch, channels or more, …]`, a single number.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when batches or positions differ, or `narrow` has more channels than `widest`.
    pub fn loss(self, narrow: &Tensor, widest: &Tensor) -> Result<Tensor> {
        let widest = widest.detach();
        let (n, w) = (narrow.size(), widest.size());
        let channels = match (n.as_slice(), w.as_slice()) {
            ([batch, c, rest @ ..], [wide_batch, wide, wide_rest @ ..])
                if batch == wide_batch && c <= wide && rest == wide_rest =>
            {
                *c
            }
            _ => return Err(Error::shape("narrow features", format!("within {w:?}"), n)),
        };
        Ok(match self {
            Self::SliceMse => narrow.mse_loss(&widest.narrow(1, 0, channels), Reduction::Mean),
            Self::Gram => cosines(narrow).mse_loss(&no_grad(|| cosines(&widest)), Reduction::Mean),
        })
    }
}

/// Cosine similarities between the rows, `[batch, batch]`; 0 where a row is zero.
fn cosines(features: &Tensor) -> Tensor {
    let rows = features.flatten(1, -1);
    let kind = rows.kind();
    // The bound keeps the gradient of the root finite at rows that ReLU has silenced.
    let norms = rows.square().sum_dim_intlist([1i64].as_slice(), true, kind).clamp_min(tiny(kind)).sqrt();
    let unit = rows / norms;
    unit.matmul(&unit.tr())
}

/// Below the square of every feature that matters, above underflow.
fn tiny(kind: Kind) -> f64 {
    if kind == Kind::Double { 1e-200 } else { 1e-24 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, rng};

    fn features(dims: &[i64]) -> Tensor {
        rng::normal(&mut Seed(2).stream("test", 0), dims, 1.0)
    }

    #[test]
    fn both_vanish_at_the_widest_and_give_it_no_gradient() {
        let (teacher, student) = (features(&[3, 4, 2, 2]), features(&[3, 2, 2, 2]));
        for kd in [CiKd::SliceMse, CiKd::Gram] {
            assert_eq!(kd.loss(&teacher, &teacher).unwrap().double_value(&[]), 0.0);
            let teacher = teacher.copy().set_requires_grad(true);
            assert!(!kd.loss(&student, &teacher).unwrap().requires_grad());
            let student = student.copy().set_requires_grad(true);
            let loss = kd.loss(&student, &teacher).unwrap();
            assert!(loss.double_value(&[]) > 0.0);
            let grads = Tensor::run_backward(&[loss], &[&student], false, false);
            assert!(grads[0].abs().max().double_value(&[]) > 0.0);
        }
    }

    #[test]
    fn the_gram_distance_ignores_the_scale_of_features() {
        let (teacher, student) = (features(&[3, 8]), features(&[3, 4]));
        let loss = |scale: f64| CiKd::Gram.loss(&(&student * scale), &teacher).unwrap().double_value(&[]);
        assert!((loss(1.0) - loss(10.0)).abs() < 1e-6);
    }

    #[test]
    fn a_silent_example_has_a_finite_gradient() {
        let student = (features(&[3, 4]) * Tensor::from_slice(&[1.0f32, 0.0, 1.0]).view([3, 1]))
            .set_requires_grad(true);
        let loss = CiKd::Gram.loss(&student, &features(&[3, 8])).unwrap();
        let grads = Tensor::run_backward(&[loss], &[&student], false, false);
        assert_eq!(grads[0].isfinite().all().int64_value(&[]), 1);
    }

    #[test]
    fn features_that_do_not_compare_are_refused() {
        let err = CiKd::SliceMse.loss(&features(&[3, 4]), &features(&[3, 2])).unwrap_err();
        insta::assert_snapshot!(err, @"`narrow features` must have shape within [3, 2], but has [3, 4]");
        assert!(CiKd::Gram.loss(&features(&[2, 2]), &features(&[3, 2])).is_err());
    }
}
