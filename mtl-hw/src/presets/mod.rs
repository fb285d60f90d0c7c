//! Published accelerators and the models they were published with. A preset is one file and one row.
mod edge_moe;
mod heatvit;
mod m3vit;
mod ubimoe;

pub(crate) use edge_moe::EDGE_MOE_WATTS;
pub use edge_moe::{EDGE_MOE_QUEUES, m3vit_tiny_cityscapes, zcu102_edge_moe};
pub use heatvit::zcu102_heatvit;
pub use m3vit::{m3vit_small, vit_small_dense, zcu104_m3vit};
pub use ubimoe::{u280_ubimoe, ubimoe, zcu102_ubimoe};

use crate::cost::Accelerator;
use crate::{Result, text};

type Build = fn() -> Result<Accelerator>;

const PRESETS: [(&str, Build); 5] = [
    ("zcu104-m3vit", zcu104_m3vit),
    ("zcu102-edge-moe", zcu102_edge_moe),
    ("zcu102-ubimoe", zcu102_ubimoe),
    ("u280-ubimoe", u280_ubimoe),
    ("zcu102-heatvit", zcu102_heatvit),
];

/// Names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// A preset by name.
///
/// ```
/// assert_eq!(mtl_hw::presets::by_name("zcu104-m3vit")?.clock_mhz, 300.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Unknown`](crate::HwError::Unknown) with the nearest name, or all names.
pub fn by_name(name: &str) -> Result<Accelerator> {
    match PRESETS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, build)) => build(),
        None => Err(text::unknown("accelerator", name, &names().collect::<Vec<_>>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        for name in names() {
            let accelerator = by_name(name).unwrap();
            assert_eq!(accelerator.name, name);
            accelerator.validate().unwrap();
        }
        insta::assert_snapshot!(by_name("zcu104-m3vi").unwrap_err(), @"unknown accelerator `zcu104-m3vi`; did you mean `zcu104-m3vit`?");
    }
}
