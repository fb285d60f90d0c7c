//! The merge methods of this crate, one file each, and the table that names them.
use crate::MergeMethod;

mod linear;
mod task_arithmetic;

pub use linear::Linear;
pub use task_arithmetic::TaskArithmetic;

/// The methods of this crate, in the order of tables and help texts; see [`MethodSpec::info`](crate::MethodSpec) for
/// the citations.
pub const METHODS: &[&dyn MergeMethod] = &[&Linear, &TaskArithmetic];

/// Elements summed at a time: the `f64` sums stay in the first-level cache.
const LANES: usize = 512;

/// `finish(i, Σ_m weights[m] · (models[m][i] − base[i]))` for every element, summed in `f64` in the models' order.
fn weighted_sum(
    base: Option<&[f32]>,
    models: &[&[f32]],
    weights: &[f64],
    out: &mut [f32],
    finish: impl Fn(f64, f64) -> f64,
) {
    let mut sums = [0.0_f64; LANES];
    for (part, out) in out.chunks_mut(LANES).enumerate() {
        let span = part * LANES..part * LANES + out.len();
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        let base = base.map(|base| &base[span.clone()]);
        for (model, &weight) in models.iter().zip(weights) {
            let model = &model[span.clone()];
            match base {
                Some(base) => {
                    for ((sum, &x), &x0) in sums.iter_mut().zip(model).zip(base) {
                        *sum += weight * (f64::from(x) - f64::from(x0));
                    }
                }
                None => {
                    for (sum, &x) in sums.iter_mut().zip(model) {
                        *sum += weight * f64::from(x);
                    }
                }
            }
        }
        match base {
            Some(base) => {
                for ((out, &sum), &x0) in out.iter_mut().zip(&*sums).zip(base) {
                    *out = finish(f64::from(x0), sum) as f32;
                }
            }
            None => {
                for (out, &sum) in out.iter_mut().zip(&*sums) {
                    *out = finish(0.0, sum) as f32;
                }
            }
        }
    }
}
