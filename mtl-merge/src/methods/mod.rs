//! The merge methods of this crate, one file each, and the table that names them.
use crate::MergeMethod;

use multiversion::multiversion;

#[cfg(feature = "spectral")]
mod adam;
mod arcee_fusion;
mod breadcrumbs;
mod breadcrumbs_ties;
mod consensus_ta;
mod dare_linear;
mod dare_ties;
mod della;
mod della_linear;
#[cfg(feature = "spectral")]
mod doge_ta;
mod emr;
mod fisher;
mod gram;
#[cfg(feature = "spectral")]
mod iso_c;
#[cfg(feature = "spectral")]
mod iso_cts;
mod karcher;
mod linear;
#[cfg(feature = "spectral")]
mod matrix;
mod model_stock;
mod multislerp;
mod nearswap;
mod nuslerp;
mod order;
mod passthrough;
mod pcb;
mod ram;
mod ramplus_tl;
#[cfg(feature = "spectral")]
mod regmean;
mod sce;
mod slerp;
mod sparsify;
mod statistics;
mod tall_mask;
mod task;
mod task_arithmetic;
mod task_vectors;
mod ties;
#[cfg(feature = "spectral")]
mod tsv_m;
#[cfg(feature = "spectral")]
mod wudi;

pub use arcee_fusion::ArceeFusion;
pub use breadcrumbs::Breadcrumbs;
pub use breadcrumbs_ties::BreadcrumbsTies;
pub use consensus_ta::ConsensusTa;
pub use dare_linear::DareLinear;
pub use dare_ties::DareTies;
pub use della::Della;
pub use della_linear::DellaLinear;
#[cfg(feature = "spectral")]
pub use doge_ta::DogeTa;
pub use emr::Emr;
pub use fisher::Fisher;
#[cfg(feature = "spectral")]
pub use iso_c::IsoC;
#[cfg(feature = "spectral")]
pub use iso_cts::IsoCts;
pub use karcher::Karcher;
pub use linear::Linear;
pub use model_stock::ModelStock;
pub use multislerp::MultiSlerp;
pub use nearswap::NearSwap;
pub use nuslerp::NuSlerp;
pub use passthrough::Passthrough;
pub use pcb::Pcb;
pub use ram::Ram;
pub use ramplus_tl::RamPlusTl;
#[cfg(feature = "spectral")]
pub use regmean::RegMean;
pub use sce::Sce;
pub use slerp::Slerp;
pub use tall_mask::TallMask;
pub use task_arithmetic::TaskArithmetic;
pub use ties::Ties;
#[cfg(feature = "spectral")]
pub use tsv_m::TsvM;
#[cfg(feature = "spectral")]
pub use wudi::Wudi;

/// The methods of this crate, in the order of tables and help texts; see [`MethodSpec::info`](crate::MethodSpec) for
/// the citations.
pub const METHODS: &[&dyn MergeMethod] = &[
    &Linear,
    &Slerp,
    &NuSlerp,
    &MultiSlerp,
    &Karcher,
    &TaskArithmetic,
    &Ties,
    &DareLinear,
    &DareTies,
    &Della,
    &DellaLinear,
    &Breadcrumbs,
    &BreadcrumbsTies,
    &Sce,
    &Ram,
    &RamPlusTl,
    &ModelStock,
    &NearSwap,
    &ArceeFusion,
    &Passthrough,
    #[cfg(feature = "spectral")]
    &TsvM,
    #[cfg(feature = "spectral")]
    &IsoC,
    #[cfg(feature = "spectral")]
    &IsoCts,
    &ConsensusTa,
    &TallMask,
    &Pcb,
    &Emr,
    &Fisher,
    #[cfg(feature = "spectral")]
    &RegMean,
    #[cfg(feature = "spectral")]
    &Wudi,
    #[cfg(feature = "spectral")]
    &DogeTa,
];

// Hot loops carry `multiversion`: each is compiled twice, and the better one for this processor is chosen when it first
// runs. Results do not depend on which, since Rust never contracts or reorders floating-point operations.

/// Elements that are worked on at once; their sums stay in registers.
pub(crate) const LANES: usize = 16;

/// `out[i] = Σ_m weights[m] · (models[m][i] − base[i])`, summed in the models' order; without a base its values are 0.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn weighted_sum(base: Option<&[f64]>, models: &[&[f64]], weights: &[f64], out: &mut [f64]) {
    let end = out.len();
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (c, out) in chunks.iter_mut().enumerate() {
        let at = c * LANES;
        *out = match base.and_then(|base| base[at..].first_chunk()) {
            Some(base) => lanes(base, models, weights, at),
            None => lanes(&[0.0; LANES], models, weights, at),
        };
    }
    for (out, i) in rest.iter_mut().zip(end / LANES * LANES..) {
        let x0 = base.map_or(0.0, |base| base[i]);
        *out = models.iter().zip(weights).fold(0.0, |sum, (model, w)| sum + w * (model[i] - x0));
    }
}

/// `out[i] = base[i] + factor · Σ_m weights[m] · (models[m][i] − base[i])`, summed in the models' order.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn displaced(base: &[f64], models: &[&[f64]], weights: &[f64], factor: f64, out: &mut [f64]) {
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let (base, base_rest) = base.as_chunks::<LANES>();
    for (c, (out, base)) in chunks.iter_mut().zip(base).enumerate() {
        let sums = lanes(base, models, weights, c * LANES);
        for lane in 0..LANES {
            out[lane] = base[lane] + factor * sums[lane];
        }
    }
    for ((out, x0), i) in rest.iter_mut().zip(base_rest).zip(base.len() * LANES..) {
        let sum = models.iter().zip(weights).fold(0.0, |sum, (model, w)| sum + w * (model[i] - x0));
        *out = x0 + factor * sum;
    }
}

#[inline(always)]
fn lanes(base: &[f64; LANES], models: &[&[f64]], weights: &[f64], at: usize) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for (model, &weight) in models.iter().zip(weights) {
        let Some(model) = model[at..].first_chunk::<LANES>() else { continue };
        for lane in 0..LANES {
            sums[lane] += weight * (model[lane] - base[lane]);
        }
    }
    sums
}
