//! The merge methods of this crate, one file each, and the table that names them.
use crate::MergeMethod;

pub(crate) use crate::engine::convert::vectorized;

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

/// `out[i] = Σ_m weights[m] · (models[m][i] − base[i])`, summed in the models' order; without a base its values are 0.
#[inline(always)]
pub(crate) fn weighted_sum(base: Option<&[f64]>, models: &[&[f64]], weights: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (model, &weight) in models.iter().zip(weights) {
        match base {
            Some(base) => {
                for ((out, &x), &x0) in out.iter_mut().zip(*model).zip(base) {
                    *out += weight * (x - x0);
                }
            }
            None => {
                for (out, &x) in out.iter_mut().zip(*model) {
                    *out += weight * x;
                }
            }
        }
    }
}
