//! NearSwap: alchemonaut, *QuartetAnemoi-70B-t0.0001*, huggingface.co 2024, as in mergekit (arXiv 2403.13257).
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Partial, Preset, Resolved, Result, Tensor,
    params::FINITE,
};
use multiversion::multiversion;

static SPEC: MethodSpec =
    MethodSpec::new("nearswap", "NearSwap", "huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001")
        .base(Base::Required)
        .models(1, Some(1))
        .partial(Partial::Base)
        .params(&[ParamSpec::number(
            "t",
            Preset::Required,
            FINITE,
            "difference up to which values are swapped; beyond it they move by about t",
        )]);

/// Takes the model's value where it is near the base's, and moves by `t` towards it elsewhere: `(1 − ω) W₀ + ω W₁` with
/// `ω = t / |W₀ − W₁|` within 0 and 1; differences below 1e-6 count as 1e-6.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 3]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, model) = (map([1.0, 1.0, 1.0]), map([1.25, 2.0, -3.0]));
/// let recipe = Recipe::new("nearswap").base("base").input("model").parameter("t", 0.5);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&model])?["w"].data(), [1.25, 1.5, 0.5]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NearSwap;

impl MergeMethod for NearSwap {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let t = params.number("t")?;
        Ok(Box::new(move |piece, out| {
            let (Some(base), Some(model)) = (piece.base, piece.models.first()) else { return };
            swap(t, base, model, out);
        }))
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn swap(t: f64, base: &[f64], model: &[f64], out: &mut [f64]) {
    for ((out, &x0), &x1) in out.iter_mut().zip(base).zip(model) {
        *out = near(t, x0, x1);
    }
}

#[inline(always)]
fn near(t: f64, base: f64, model: f64) -> f64 {
    let share = (t / (base - model).abs().max(1e-6)).clamp(0.0, 1.0);
    share * model + (1.0 - share) * base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_values_are_swapped_and_far_ones_move_by_t() {
        assert_eq!(near(0.1, 1.0, 1.05), 1.05);
        assert!((near(0.1, 1.0, 5.0) - 1.1).abs() < 1e-15);
        assert!((near(0.1, 1.0, -5.0) - 0.9).abs() < 1e-15);
    }

    #[test]
    fn differences_below_a_millionth_count_as_that() {
        assert!((near(5e-7, 0.0, 1e-7) - 0.5e-7).abs() < 1e-22);
        assert_eq!(near(5e-7, 3.0, 3.0), 3.0);
    }

    #[test]
    fn t_of_zero_or_less_keeps_the_base() {
        assert_eq!(near(0.0, 1.0, 2.0), 1.0);
        assert_eq!(near(-1.0, 1.0, 2.0), 1.0);
    }
}
