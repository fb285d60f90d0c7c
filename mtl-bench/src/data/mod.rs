//! Data that comes with the crate.
mod digits;

pub use digits::{Digits, digits};
