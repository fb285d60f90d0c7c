//! The merge methods of this crate, one file each, and the table that names them.
use crate::MergeMethod;

pub(crate) use crate::engine::convert::vectorized;

mod arcee_fusion;
mod breadcrumbs;
mod breadcrumbs_ties;
mod dare_linear;
mod dare_ties;
mod della;
mod della_linear;
mod gram;
mod karcher;
mod linear;
mod model_stock;
mod multislerp;
mod nearswap;
mod nuslerp;
mod passthrough;
mod ram;
mod ramplus_tl;
mod sce;
mod slerp;
mod sparsify;
mod task_arithmetic;
mod task_vectors;
mod ties;

pub use arcee_fusion::ArceeFusion;
pub use breadcrumbs::Breadcrumbs;
pub use breadcrumbs_ties::BreadcrumbsTies;
pub use dare_linear::DareLinear;
pub use dare_ties::DareTies;
pub use della::Della;
pub use della_linear::DellaLinear;
pub use karcher::Karcher;
pub use linear::Linear;
pub use model_stock::ModelStock;
pub use multislerp::MultiSlerp;
pub use nearswap::NearSwap;
pub use nuslerp::NuSlerp;
pub use passthrough::Passthrough;
pub use ram::Ram;
pub use ramplus_tl::RamPlusTl;
pub use sce::Sce;
pub use slerp::Slerp;
pub use task_arithmetic::TaskArithmetic;
pub use ties::Ties;

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
