//! PCB merging: Du et al., *Parameter Competition Balancing for Model Merging*, NeurIPS 2024, arXiv 2410.02396.
use super::order::{Query, ranked, sizes};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Survey, Tensor,
    params::{FINITE, SHARE},
};

static SPEC: MethodSpec =
    MethodSpec::new("pcb", "Parameter Competition Balancing for Model Merging", "arXiv 2410.02396")
        .base(Base::Required)
        .models(2, Some(256)) // The competition grows like e^N.
        .surveys()
        .params(&[
            ParamSpec::per_model("weight", Preset::Number(1.2), FINITE, "factor of the model's task vector"),
            ParamSpec::number("ratio", Preset::Number(0.1), SHARE, "share of each task vector that is kept"),
        ]);

/// Task vectors weighted, weight by weight, by how they compete within a task and between tasks.
///
/// `Aᵢ` is `|δᵢ|`, clipped to its quantiles at 1 % and 99 % over the whole model, and `ñᵢ` the same scaled to [0, 1],
/// with the sign of `δᵢ`. The balance `βᵢ = exp(N ñᵢ²) Σⱼ tanh(ñᵢ ñⱼ)` is cut below at its quantile at `1 − ratio` and
/// scaled to [0, 1]; with these shares `sᵢ` the model is `W₀ + Σ wᵢ sᵢ sign(δᵢ) Aᵢ / Σ sᵢ`.
///
/// # Departures
///
/// The paper writes softmax where its code has `exp` and `tanh`, and its scripts differ; this is the variant of the
/// script for language models. A task vector of one magnitude throughout has shares 0, where the code divides by zero.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 3]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0; 3]), map([5.0, 1.0, 0.0]), map([4.0, 1.0, 0.0]));
/// let recipe = Recipe::new("pcb").base("base").parameter("weight", 1.0).parameter("ratio", 1.0);
/// let merged = recipe.input("a").input("b").run_in_memory(Some(&base), &[&a, &b])?;
/// assert_eq!(merged["w"].data()[1..], [1.0, 0.0]); // Both models agree on it.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Pcb;

/// What is known of the whole task vector of a model.
#[derive(Debug, Clone, Copy, Default)]
struct Profile {
    /// Magnitudes are clipped to these.
    low: f64,
    high: f64,
    /// The balance's quantile and largest value.
    cut: f64,
    top: f64,
}

/// Profiles by the models' numbers.
struct Profiles(Vec<Profile>);

impl Profile {
    /// Clipped magnitude.
    #[inline(always)]
    fn clip(&self, delta: f64) -> f64 {
        delta.abs().max(self.low).min(self.high)
    }

    /// Clipped magnitude in [0, 1], with the sign of `delta`.
    #[inline(always)]
    fn scaled(&self, delta: f64) -> f64 {
        sign(delta) * share(self.clip(delta), self.low, self.high)
    }
}

#[inline(always)]
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// Where `x` lies between `low` and `high`; 0 when they are equal.
#[inline(always)]
fn share(x: f64, low: f64, high: f64) -> f64 {
    if high > low { (x - low) / (high - low) } else { 0.0 }
}

/// The balance of model `m` at one weight; `n` models in all.
#[inline(always)]
fn balance(scaled: &[f64], m: usize, n: f64) -> f64 {
    let x = scaled[m];
    let between: f64 = scaled.iter().map(|&y| (x * y).tanh()).sum();
    (n * x * x).exp() * between
}

/// The profiles of the models that have the tensor.
fn of_tensor(tensor: &Tensor<'_>, profiles: &[Profile]) -> Vec<Profile> {
    (0..tensor.n_models()).map(|m| profiles.get(tensor.number(m)).copied().unwrap_or_default()).collect()
}

/// Calls `visit` with position, `δ` of every model and `ñ` of every model.
#[inline(always)]
fn weights(piece: &Piece<'_>, profiles: &[Profile], mut visit: impl FnMut(usize, &[f64], &[f64])) {
    let Some(base) = piece.base else { return };
    let (mut deltas, mut scaled) = (vec![0.0; profiles.len()], vec![0.0; profiles.len()]);
    for (i, x0) in base.iter().enumerate() {
        for (m, (model, profile)) in piece.models.iter().zip(profiles).enumerate() {
            deltas[m] = model[i] - x0;
            scaled[m] = profile.scaled(deltas[m]);
        }
        visit(i, &deltas, &scaled);
    }
}

impl MergeMethod for Pcb {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let Some((_, params)) = tensors.first() else { return Ok(Box::new(Profiles(Vec::new()))) };
        let ratio = params.number("ratio")?;
        for (tensor, params) in tensors {
            let other = params.number("ratio")?;
            if other != ratio {
                return Err(Error::Unmergeable {
                    method: SPEC.info.name.to_owned(),
                    tensor: tensor.name().to_owned(),
                    message: format!(
                        "its `ratio` is {other}, that of other tensors {ratio}, but quantiles of the whole model decide; \
                         give one number"
                    ),
                });
            }
        }
        let sizes = sizes(tensors, |_| true);
        let at = |size: usize, share: f64, less: f64| (size as f64 * share - less) as usize;
        let ends = |low: f64, high: f64| -> Vec<Query> {
            let pair = |(lane, &size): (usize, &usize)| {
                [Query { lane, rank: at(size, low, 0.0) }, Query { lane, rank: at(size, high, 1.0) }]
            };
            sizes.iter().enumerate().flat_map(pair).collect()
        };
        let found = ranked(tensors, &sizes, &ends(0.01, 1.0 - 0.01), |_, piece, m, out| {
            let Some((base, model)) = piece.base.zip(piece.models.get(m)) else { return false };
            out.iter_mut().zip(model.iter().zip(base)).for_each(|(out, (x, x0))| *out = (x - x0).abs());
            true
        })?;
        let profile = |pair: &[f64]| Profile { low: pair[0], high: pair[1], ..Profile::default() };
        let mut profiles: Vec<Profile> = found.chunks_exact(2).map(profile).collect();
        let n = sizes.len() as f64;
        let found = ranked(tensors, &sizes, &ends(1.0 - ratio, 1.0), |at, piece, m, out| {
            let Some((tensor, _)) = tensors.get(at) else { return false };
            weights(piece, &of_tensor(tensor, &profiles), |i, _, scaled| out[i] = balance(scaled, m, n));
            true
        })?;
        for (profile, pair) in profiles.iter_mut().zip(found.chunks_exact(2)) {
            (profile.cut, profile.top) = (pair[0], pair[1]);
        }
        Ok(Box::new(Profiles(profiles)))
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let factors = params.per_model("weight")?;
        let all = tensor.survey::<Profiles>().map_or(&[][..], |p| p.0.as_slice());
        let (own, n) = (of_tensor(tensor, all), all.len() as f64);
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            weights(piece, &own, |i, deltas, scaled| {
                let (mut sum, mut shares) = (0.0, 0.0);
                for (m, profile) in own.iter().enumerate() {
                    let share = share(balance(scaled, m, n).max(profile.cut), profile.cut, profile.top);
                    sum += factors[m] * sign(deltas[m]) * profile.clip(deltas[m]) * share;
                    shares += share;
                }
                out[i] = base[i] + sum / shares.max(1e-12);
            });
        }))
    }
}
