//! The methods that add task vectors to the base: what they share is everything but the way entries are dropped.
//!
//! Per tensor: δᵢ = Wᵢ − W₀; a sparsifier drops entries of each δᵢ; the rest may be rescaled; Dᵢ = wᵢ sᵢ; with consensus,
//! only entries that agree with the sign of Σ Dᵢ count; the sum may be divided by that of the weights;
//! M = W₀ + λ · sum.
use super::sparsify::{Drop, Sparsifier};
use crate::{
    Error, Kernel, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Tensor, params::FINITE,
    tensor::with_scratch,
};
use multiversion::multiversion;

/// Parameters that all of them have, `normalize` and `rescale` apart.
pub(super) const WEIGHT: ParamSpec =
    ParamSpec::per_model("weight", Preset::Required, FINITE, "factor of the model's task vector");
pub(super) const DENSITY: ParamSpec = ParamSpec::per_model(
    "density",
    Preset::Number(1.0),
    crate::params::SHARE,
    "share of the task vector's entries that are kept",
);
pub(super) const LAMBDA: ParamSpec =
    ParamSpec::number("lambda", Preset::Number(1.0), FINITE, "factor of the summed task vectors");
pub(super) const INT8_MASK: ParamSpec =
    ParamSpec::flag("int8_mask", false, "no effect; accepted for compatibility");
pub(super) const RESCALE_MODE: ParamSpec = ParamSpec::text(
    "rescale_mode",
    Preset::Text("l1"),
    "`l1` restores the sum of magnitudes, `inverse_density` divides by the density",
);

/// Checks a text parameter; one that the method lacks passes.
pub(super) fn one_of(params: &Resolved, name: &str, known: &[&str]) -> Result<()> {
    match params.text(name) {
        Some(text) if !known.contains(&text) => Err(Error::Parameter {
            path: name.to_owned(),
            must: format!("`{}`", known.join("` or `")),
            found: format!("`{text}`"),
        }),
        _ => Ok(()),
    }
}

/// Elements treated at a time; all of their task vectors stay in the first-level cache.
const LANES: usize = 512;

/// Merges a tensor: `drop` says which entries go, `consensus` whether signs are elected.
pub(super) fn prepare<'t>(
    spec: &'static MethodSpec,
    tensor: &'t Tensor<'_>,
    params: &'t Resolved,
    drop: Drop,
    consensus: bool,
) -> Result<Kernel<'t>> {
    let sparsifier = Sparsifier::new(spec, tensor, params, drop)?;
    let weights = params.per_model("weight")?;
    let factors = sparsifier.rescaled(tensor, params, weights)?;
    let (normalize, lambda) = (params.flag("normalize")?, params.number("lambda")?);
    let sum: f64 = weights.iter().sum();
    let divisor = if normalize && sum.abs() >= 1e-8 { sum } else { 1.0 };
    Ok(Box::new(move |piece, out| {
        let Some(base) = piece.base else { return };
        with_scratch(|scaled| {
            scaled.resize(LANES * piece.models.len(), 0.0);
            for start in (0..out.len()).step_by(LANES) {
                let end = (start + LANES).min(out.len());
                let (out, base) = (&mut out[start..end], &base[start..end]);
                let at = piece.start + start;
                for (i, model) in piece.models.iter().enumerate() {
                    let scaled = &mut scaled[i * LANES..][..out.len()];
                    sparsifier.write(i, at, base, &model[start..end], factors[i], scaled);
                }
                if consensus {
                    elect(scaled, weights, base, normalize, lambda, out);
                } else {
                    plain(scaled, base, lambda / divisor, out);
                }
            }
        });
    }))
}

/// `out = base + factor · Σ D`; `scaled` holds [`LANES`] elements for every model.
#[multiversion(targets("x86_64+avx2"))]
fn plain(scaled: &[f64], base: &[f64], factor: f64, out: &mut [f64]) {
    out.fill(0.0);
    for scaled in scaled.chunks_exact(LANES) {
        for (out, d) in out.iter_mut().zip(scaled) {
            *out += d;
        }
    }
    for (out, x0) in out.iter_mut().zip(base) {
        *out = x0 + factor * *out;
    }
}

/// `out = base + λ · Σ Dᵢ mᵢ (/ Σ wᵢ mᵢ)`, where `mᵢ` says that `Dᵢ` has the sign of `Σ D`; a zero agrees with nothing, and
/// a sum of zero is positive.
#[multiversion(targets("x86_64+avx2"))]
fn elect(scaled: &[f64], weights: &[f64], base: &[f64], normalize: bool, lambda: f64, out: &mut [f64]) {
    let (chunks, rest) = out.as_chunks_mut::<GROUP>();
    let (base, base_rest) = base.as_chunks::<GROUP>();
    let end = chunks.len();
    for (c, (out, base)) in chunks.iter_mut().zip(base).enumerate() {
        let sums = agreeing(scaled, weights, c * GROUP, normalize);
        for lane in 0..GROUP {
            out[lane] = base[lane] + lambda * sums[lane];
        }
    }
    if !rest.is_empty() {
        let sums = agreeing(scaled, weights, end * GROUP, normalize);
        for ((out, x0), sum) in rest.iter_mut().zip(base_rest).zip(sums) {
            *out = x0 + lambda * sum;
        }
    }
}

/// Elements whose sums stay in registers.
const GROUP: usize = 8;

/// `Σ Dᵢ mᵢ (/ Σ wᵢ mᵢ)` of some elements: sums by sign, so that each model is visited once.
#[inline(always)]
fn agreeing(scaled: &[f64], weights: &[f64], at: usize, normalize: bool) -> [f64; GROUP] {
    let (mut up, mut down) = ([0.0; GROUP], [0.0; GROUP]);
    let (mut up_weight, mut down_weight) = ([0.0; GROUP], [0.0; GROUP]);
    for (scaled, &w) in scaled.chunks_exact(LANES).zip(weights) {
        let Some(scaled) = scaled[at..].first_chunk::<GROUP>() else { continue };
        for lane in 0..GROUP {
            let d = scaled[lane];
            // A NaN, where the user allows it, agrees.
            let rest = d <= 0.0;
            let positive = !rest;
            up[lane] += if positive { d } else { 0.0 };
            up_weight[lane] += if positive { w } else { 0.0 };
            down[lane] += if d < 0.0 { d } else { 0.0 };
            down_weight[lane] += if d < 0.0 { w } else { 0.0 };
        }
    }
    for lane in 0..GROUP {
        let negative = up[lane] + down[lane] < 0.0;
        let weight = if negative { down_weight[lane] } else { up_weight[lane] };
        let divisor = if normalize && weight != 0.0 { weight } else { 1.0 };
        up[lane] = if negative { down[lane] } else { up[lane] } / divisor;
    }
    up
}

/// `δ` of a piece into `out`.
#[inline(always)]
pub(super) fn delta(piece: &Piece<'_>, model: usize, out: &mut [f64]) {
    let base = piece.base.unwrap_or_default();
    for ((out, x), x0) in out.iter_mut().zip(piece.models[model]).zip(base) {
        *out = x - x0;
    }
}
