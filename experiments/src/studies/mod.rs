//! The studies, one file each.
use crate::runner::Study;
use mtl_core::{Error, Result};

mod balancing;
mod flat_regions;
mod pages;
mod quickstart;
mod selftest;
mod slimmable;

/// Every study, in the order `list` shows them.
static ALL: &[&dyn Study] = &[
    &quickstart::Quickstart,
    &balancing::Balancing,
    &flat_regions::FlatRegions,
    &slimmable::Slimmable,
    &selftest::SelfTest,
];

/// Every study.
pub fn all() -> &'static [&'static dyn Study] {
    ALL
}

/// The study called `name`.
///
/// # Errors
///
/// [`Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> Result<&'static dyn Study> {
    let found = ALL.iter().find(|study| study.name() == name).copied();
    found.ok_or_else(|| Error::unknown("study", name, ALL.iter().map(|study| study.name())))
}
