//! Published accelerators and the models they were published with. A preset is one file and one row.
mod m3vit;

pub use m3vit::{m3vit_small, vit_small_dense, zcu104_m3vit};

use crate::cost::Accelerator;
use crate::{Result, text};

type Build = fn() -> Result<Accelerator>;

const PRESETS: [(&str, Build); 1] = [("zcu104-m3vit", zcu104_m3vit)];

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
