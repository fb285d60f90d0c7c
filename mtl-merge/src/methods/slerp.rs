//! Spherical linear interpolation: Shoemake, *Animating rotation with quaternion curves*, SIGGRAPH 1985, applied to whole
//! tensors as mergekit does (arXiv 2403.13257).
use super::{
    gram::{Gram, Vectors},
    weighted_sum,
};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Partial, Piece, Preset, Resolved, Result,
    Tensor, params::FINITE,
};

static SPEC: MethodSpec = MethodSpec::new(
    "slerp",
    "Animating rotation with quaternion curves",
    "SIGGRAPH 1985, doi 10.1145/325334.325242",
)
.base(Base::Required)
.models(1, Some(1))
.partial(Partial::Copy)
.params(&[ParamSpec::number(
    "t",
    Preset::Required,
    FINITE,
    "place on the arc: 0 is the base, 1 the model; beyond both is allowed",
)]);

/// Vectors closer to one line than this cosine are interpolated linearly.
const PARALLEL: f64 = 0.9995;
/// Norms up to this count as 1.
const ZERO: f64 = 1e-8;

/// Moves along the arc from the base to the model: `(sin((1−t)θ) W₀ + sin(tθ) W₁) / sin θ`.
///
/// `θ` is the angle between the two tensors taken as vectors; they keep their lengths. Where
/// `|cos θ| > 0.9995`, within 1.8 degrees of one line, the interpolation is linear: `(1−t) W₀ + t W₁`. A zero tensor is
/// taken to be at a right angle to the other.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (east, north) = (map([2.0, 0.0]), map([0.0, 2.0]));
/// let recipe = Recipe::new("slerp").base("east").input("north").parameter("t", 1.0 / 3.0);
/// let merged = recipe.run_in_memory(Some(&east), &[&north])?;
/// assert_eq!(merged["w"].data(), [3_f32.sqrt(), 1.0]); // 30 degrees along a circle of radius 2.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Slerp;

impl MergeMethod for Slerp {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let gram = Gram::scan(tensor, Vectors::BaseAndModels)?;
        if gram.len() < 2 {
            return Err(Error::MissingBase { method: SPEC.info.name.to_owned() });
        }
        let (a, b) = arc(params.number("t")?, gram.norm(0), gram.norm(1), gram.get(0, 1));
        Ok(Box::new(move |piece: &Piece<'_>, out: &mut [f64]| {
            let (Some(base), Some(model)) = (piece.base, piece.models.first()) else { return };
            weighted_sum(None, &[base, model], &[a, b], out);
        }))
    }
}

/// The factors of base and model, from their norms and their inner product.
fn arc(t: f64, base: f64, model: f64, dot: f64) -> (f64, f64) {
    let norm = |x: f64| if x > ZERO { x } else { 1.0 };
    let cosine = (dot / norm(base) / norm(model)).clamp(-1.0, 1.0);
    if cosine.abs() > PARALLEL {
        return (1.0 - t, t);
    }
    let theta = cosine.acos();
    (((1.0 - t) * theta).sin() / theta.sin(), (t * theta).sin() / theta.sin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_arc_are_the_inputs() {
        for dot in [0.9, 0.0, -0.9] {
            let (a, b) = arc(0.0, 1.0, 1.0, dot);
            assert!((a - 1.0).abs() < 1e-15 && b == 0.0);
            let (a, b) = arc(1.0, 1.0, 1.0, dot);
            assert!(a == 0.0 && (b - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn parallel_and_opposite_tensors_are_interpolated_linearly() {
        for dot in [1.0, 0.9996, -0.9996, -1.0] {
            assert_eq!(arc(0.25, 2.0, 3.0, 6.0 * dot), (0.75, 0.25));
        }
        assert_ne!(arc(0.25, 2.0, 3.0, 6.0 * 0.9994), (0.75, 0.25));
    }

    #[test]
    fn a_zero_tensor_is_at_a_right_angle_to_everything() {
        let half = 0.5_f64.sqrt(); // sin 45° / sin 90°
        for norms in [(0.0, 3.0), (3.0, 0.0), (0.0, 0.0), (1e-8, 1e-8)] {
            let (a, b) = arc(0.5, norms.0, norms.1, 0.0);
            assert!((a - half).abs() < 1e-15 && (b - half).abs() < 1e-15);
        }
    }

    #[test]
    fn t_beyond_the_ends_goes_on_along_the_circle() {
        let (a, b) = arc(2.0, 1.0, 1.0, 0.5); // From 0° over 60° to 120°.
        assert!((a + 1.0).abs() < 1e-15 && (b - 1.0).abs() < 1e-14);
    }
}
