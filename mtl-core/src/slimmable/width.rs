//! Width ratios, and which part of a network runs at which.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// Share of a layer's channels that is in use, in `(0, 1]`.
///
/// ```
/// use mtl_core::slimmable::WidthRatio;
///
/// let w = WidthRatio::new(0.7)?;
/// assert_eq!(0.7 * 30.0, 21.0);
/// assert_eq!((w.channels(30), w.channels(31)), (21, 22)); // 0.7 · 31 = 21.7
/// assert_eq!(WidthRatio::new(0.07)?.channels(100), 7); // in floating point 7.000000000000001
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct WidthRatio(f64);

impl WidthRatio {
    /// The whole layer.
    pub const FULL: Self = Self(1.0);

    /// A ratio.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless it is in `(0, 1]`.
    pub fn new(ratio: f64) -> Result<Self> {
        if 0.0 < ratio && ratio <= 1.0 {
            return Ok(Self(ratio));
        }
        Err(Error::config("width ratio", "above 0 and at most 1", ratio))
    }

    /// The ratio as a number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// `⌈w·full⌉`, at least 1. A product that rounding has moved off a whole number counts as that number.
    pub fn channels(self, full: i64) -> i64 {
        let product = self.0 * full as f64;
        let whole = product.round();
        let near = (product - whole).abs() <= 1e-9 * product.max(1.0);
        let channels = if near { whole } else { product.ceil() };
        (channels as i64).clamp(1, full.max(1))
    }
}

impl TryFrom<f64> for WidthRatio {
    type Error = Error;

    fn try_from(ratio: f64) -> Result<Self> {
        Self::new(ratio)
    }
}

impl From<WidthRatio> for f64 {
    fn from(ratio: WidthRatio) -> Self {
        ratio.0
    }
}

impl PartialEq for WidthRatio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for WidthRatio {}

impl PartialOrd for WidthRatio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WidthRatio {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for WidthRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The width of every part of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WidthConfig {
    /// Ratio of each encoder stage, from the input on.
    pub encoder: Vec<WidthRatio>,
    /// Ratio of each task's decoder, in the order of the tasks.
    pub decoders: Vec<WidthRatio>,
}

impl WidthConfig {
    /// `encoder` for each of `stages` stages and `decoders` for each of `tasks` tasks.
    pub fn uniform(stages: usize, encoder: WidthRatio, tasks: usize, decoders: WidthRatio) -> Self {
        Self { encoder: vec![encoder; stages], decoders: vec![decoders; tasks] }
    }

    /// Ratio of the last encoder stage, which decides what the decoders read.
    pub(super) fn last(&self) -> WidthRatio {
        self.encoder.last().copied().unwrap_or(WidthRatio::FULL)
    }
}

impl fmt::Display for WidthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ratios: &[WidthRatio]| ratios.iter().map(f64_text).collect::<Vec<_>>().join(" ");
        write!(f, "encoder {}; decoders {}", list(&self.encoder), list(&self.decoders))
    }
}

fn f64_text(ratio: &WidthRatio) -> String {
    ratio.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn channels_are_those_of_exact_arithmetic(percent in 1i64..=100, full in 1i64..5000) {
            let w = WidthRatio::new(percent as f64 / 100.0).unwrap();
            prop_assert_eq!(w.channels(full), (percent * full + 99) / 100);
        }

        #[test]
        fn a_third_of_a_multiple_of_three_is_whole(full in 1i64..5000) {
            prop_assert_eq!(WidthRatio::new(1.0 / 3.0).unwrap().channels(3 * full), full);
        }
    }

    #[test]
    fn a_ratio_outside_its_range_is_refused() {
        insta::assert_snapshot!(WidthRatio::new(0.0).unwrap_err(), @"`width ratio` must be above 0 and at most 1, but is 0");
        assert!(WidthRatio::new(1.01).is_err() && WidthRatio::new(f64::NAN).is_err());
        let err = serde_json::from_str::<WidthConfig>(r#"{"encoder": [2.0], "decoders": []}"#).unwrap_err();
        assert!(err.to_string().contains("at most 1, but is 2"), "{err}");
    }

    #[test]
    fn widths_print_for_tables() {
        let half = WidthRatio::new(0.5).unwrap();
        let widths = WidthConfig::uniform(2, half, 1, WidthRatio::FULL);
        assert_eq!(widths.to_string(), "encoder 0.5 0.5; decoders 1");
        assert_eq!(widths.last(), half);
    }
}
