//! The Riemannian centre of mass on the sphere: Karcher, *Riemannian center of mass and mollifier smoothing*, CPAM 1977;
//! for models see arXiv 2603.04972.
use super::{
    gram::{Gram, Vectors},
    weighted_sum,
};
use crate::{
    Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor,
    params::{COUNT, NON_NEGATIVE},
};

static SPEC: MethodSpec = MethodSpec::new(
    "karcher",
    "Riemannian center of mass and mollifier smoothing",
    "Communications on Pure and Applied Mathematics 1977; arXiv 2603.04972",
)
.params(&[
    ParamSpec::number("max_iter", Preset::Number(10.0), COUNT, "most steps towards the centre"),
    ParamSpec::number("tol", Preset::Number(1e-5), NON_NEGATIVE, "smallest step, angle and norm that count"),
]);

/// The direction whose squared angles to all models sum up to the least, at the mean of the models' lengths.
///
/// From the mean of the unit vectors `uᵢ = Wᵢ / ‖Wᵢ‖`, steps along the mean tangent `Σ θᵢ / sin θᵢ (uᵢ − cos θᵢ u) / N`
/// follow until one is shorter than `tol`, or `max_iter` of them. Models no longer than `tol` have no direction and count
/// in the length alone. A single model stays as it is.
///
/// Every iterate is a combination of the models, so the steps are taken on its factors: they need the models' inner
/// products and nothing else, and the values are read twice whatever `max_iter` is.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (a, b) = (map([1.0, 0.0]), map([0.0, 3.0]));
/// let merged = Recipe::new("karcher").input("a").input("b").run_in_memory(None, &[&a, &b])?;
/// assert_eq!(merged["w"].data(), [2_f32.sqrt(), 2_f32.sqrt()]); // Halfway, at length 2.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Karcher;

impl MergeMethod for Karcher {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        if tensor.n_models() == 1 {
            return Ok(Box::new(|piece, out| out.copy_from_slice(piece.models[0])));
        }
        let gram = Gram::scan(tensor, Vectors::Models)?;
        let factors = mean(&gram, params.number("max_iter")? as usize, params.number("tol")?);
        Ok(Box::new(move |piece, out| weighted_sum(None, piece.models, &factors, out)))
    }
}

/// The factors of the models in the result.
fn mean(gram: &Gram, max_iter: usize, tol: f64) -> Vec<f64> {
    let norms: Vec<f64> = (0..gram.len()).map(|i| gram.norm(i)).collect();
    let length = norms.iter().sum::<f64>() / norms.len() as f64;
    let valid: Vec<usize> = (0..norms.len()).filter(|&i| norms[i] > tol).collect();
    let mut factors = vec![0.0; norms.len()];
    if valid.is_empty() {
        return factors;
    }
    let cosines = valid.iter().map(|&i| valid.iter().map(|&j| gram.cosine(i, j)).collect()).collect();
    let direction = Units { cosines }.centre(max_iter, tol);
    for (&i, c) in valid.iter().zip(direction) {
        factors[i] = length * c / norms[i];
    }
    factors
}

/// Unit vectors, by their inner products. Vectors are given by their factors.
struct Units {
    cosines: Vec<Vec<f64>>,
}

impl Units {
    fn centre(&self, max_iter: usize, tol: f64) -> Vec<f64> {
        let n = self.cosines.len();
        let share = 1.0 / n as f64;
        let mut u = vec![share; n];
        if !self.normalize(&mut u, tol) {
            u.fill(0.0);
            u[0] = 1.0;
        }
        for _ in 0..max_iter {
            let tangent = self.tangent(&u, share, tol);
            let length = self.length(&tangent);
            if length < tol || length == 0.0 {
                break;
            }
            for (u, t) in u.iter_mut().zip(tangent) {
                *u = length.cos() * *u + length.sin() * t / length;
            }
            self.normalize(&mut u, tol);
        }
        u
    }

    /// The mean of the tangents at `u` towards all vectors.
    fn tangent(&self, u: &[f64], share: f64, tol: f64) -> Vec<f64> {
        let mut tangent = vec![0.0; u.len()];
        for i in 0..u.len() {
            let cosine = self.dots(u, i).clamp(-1.0, 1.0);
            let theta = cosine.acos();
            // Towards the opposite of `u` all directions are the same: that vector pulls nowhere.
            if theta < tol || theta.sin() < 1e-7 && cosine < 0.0 {
                continue;
            }
            let stretch = if theta == 0.0 { 1.0 } else { theta / theta.sin() };
            tangent[i] += share * stretch;
            for (t, u) in tangent.iter_mut().zip(u) {
                *t -= share * stretch * cosine * u;
            }
        }
        tangent
    }

    /// Inner product of vector `i` and a combination.
    fn dots(&self, factors: &[f64], i: usize) -> f64 {
        self.cosines[i].iter().zip(factors).map(|(cosine, c)| cosine * c).sum()
    }

    fn length(&self, factors: &[f64]) -> f64 {
        factors.iter().enumerate().map(|(i, c)| c * self.dots(factors, i)).sum::<f64>().max(0.0).sqrt()
    }

    /// Brings a combination to length 1, unless it is shorter than `tol`.
    fn normalize(&self, factors: &mut [f64], tol: f64) -> bool {
        let length = self.length(factors);
        if length < tol || length == 0.0 {
            return false;
        }
        factors.iter_mut().for_each(|c| *c /= length);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The centre by the same steps on the vectors themselves.
    fn plain(vectors: &[Vec<f64>], max_iter: usize, tol: f64) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norm = |a: &[f64]| dot(a, a).sqrt();
        let n = vectors.len() as f64;
        let length = vectors.iter().map(|v| norm(v)).sum::<f64>() / n;
        let units: Vec<Vec<f64>> = vectors.iter().map(|v| v.iter().map(|x| x / norm(v)).collect()).collect();
        let mut u: Vec<f64> = (0..vectors[0].len()).map(|k| units.iter().map(|v| v[k]).sum()).collect();
        let size = norm(&u);
        u.iter_mut().for_each(|x| *x /= size);
        for _ in 0..max_iter {
            let mut tangent = vec![0.0; u.len()];
            for unit in &units {
                let cosine = dot(&u, unit).clamp(-1.0, 1.0);
                let theta = cosine.acos();
                if theta >= tol {
                    for ((t, x), u) in tangent.iter_mut().zip(unit).zip(&u) {
                        *t += theta / theta.sin() * (x - cosine * u) / n;
                    }
                }
            }
            let step = norm(&tangent);
            if step < tol {
                break;
            }
            u.iter_mut().zip(tangent).for_each(|(u, t)| *u = step.cos() * *u + step.sin() * t / step);
            let size = norm(&u);
            u.iter_mut().for_each(|x| *x /= size);
        }
        u.iter().map(|x| length * x).collect()
    }

    fn combined(vectors: &[Vec<f64>], max_iter: usize, tol: f64) -> Vec<f64> {
        let slices: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        let factors = mean(&Gram::of(None, &slices, &mut Vec::new()), max_iter, tol);
        let mut out = vec![0.0; vectors[0].len()];
        weighted_sum(None, &slices, &factors, &mut out);
        out
    }

    fn vectors(n: usize, spread: f64) -> Vec<Vec<f64>> {
        let one = |m: usize| (0..40).map(move |i| 1.0 + spread * ((i * (m + 3) + m * m) as f64 * 1.7).sin());
        (0..n).map(|m| one(m).collect()).collect()
    }

    #[test]
    fn steps_on_factors_are_steps_on_vectors() {
        for (n, spread, agreement) in [(2, 0.1, 1e-12), (3, 1.0, 1e-12), (5, 3.0, 1e-12), (3, 1e-5, 1e-12)] {
            for max_iter in [0, 1, 3, 100] {
                let vectors = vectors(n, spread);
                let (a, b) = (plain(&vectors, max_iter, 1e-9), combined(&vectors, max_iter, 1e-9));
                let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < agreement, "{n} models, spread {spread}, {max_iter} steps: {worst:e}");
            }
        }
    }

    #[test]
    fn opposite_models_give_the_first_direction() {
        let vectors = [vec![3.0, 0.0, 4.0], vec![-6.0, 0.0, -8.0]];
        assert_eq!(combined(&vectors, 10, 1e-5), [4.5, 0.0, 6.0]);
    }

    #[test]
    fn models_without_length_have_no_direction_but_count_in_the_length() {
        let zero = vec![0.0, 1e-6];
        assert_eq!(combined(&[vec![2.0, 0.0], zero.clone()], 10, 1e-5), [(2.0 + 1e-6) / 2.0, 0.0]);
        assert_eq!(combined(&[zero.clone(), zero], 10, 1e-5), [0.0, 0.0]);
        assert_eq!(combined(&[vec![0.0], vec![0.0]], 10, 0.0), [0.0]);
    }

    #[test]
    fn equal_models_are_kept_whatever_the_tolerance() {
        for tol in [0.0, 1e-5, 0.1] {
            let found = combined(&[vec![3.0, 4.0], vec![3.0, 4.0], vec![3.0, 4.0]], 10, tol);
            assert!((found[0] - 3.0).abs() < 1e-14 && (found[1] - 4.0).abs() < 1e-14, "{found:?}");
        }
    }
}
