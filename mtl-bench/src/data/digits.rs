//! The optical digits of the UCI repository.
//!
//! E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998, doi
//! 10.24432/C50P49, CC BY 4.0; its test part, as scikit-learn bundles it. The file's folder holds the full note.
use crate::{Error, Result};
use flate2::read::GzDecoder;
use mtl_core::data::{RawValues, Samples};
use std::io::Read;

const COUNT: usize = 1797;
const PIXELS: usize = 64;
const TEST: usize = 360;
static PACKED: &[u8] = include_bytes!("../../data/digits.u8.gz");

/// 1 437 training and 360 test images of 8 × 8 grey values 0–16, with labels 0–9.
#[derive(Debug, Clone, PartialEq)]
pub struct Digits {
    /// Training part.
    pub train: Samples,
    /// Test part.
    pub test: Samples,
}

/// Unpacks the embedded digits.
///
/// The split is fixed: of each class every fifth image is for testing. Training and test images come from the same writers.
///
/// ```
/// let digits = mtl_bench::data::digits()?;
/// assert_eq!((digits.train.len(), digits.test.len()), (1437, 360));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when the embedded bytes do not unpack; a build with the crate's own file never sees it.
pub fn digits() -> Result<Digits> {
    let mut bytes = Vec::with_capacity(COUNT * (PIXELS + 1));
    let read = GzDecoder::new(PACKED).take((COUNT * (PIXELS + 1) + 1) as u64).read_to_end(&mut bytes);
    if read.ok() != Some(COUNT * (PIXELS + 1)) {
        return Err(Error::argument("digits", "1797 images and labels", format!("{} bytes", bytes.len())));
    }
    let (pixels, labels) = bytes.split_at(COUNT * PIXELS);
    let mut by_class: Vec<usize> = (0..COUNT).collect();
    by_class.sort_by_key(|&i| labels[i]); // Stable: the file's order inside a class.
    let mut is_test = [false; COUNT];
    for (rank, &i) in by_class.iter().enumerate() {
        is_test[i] = (rank + 1) * TEST / COUNT > rank * TEST / COUNT;
    }
    let part = |test: bool| {
        let chosen = (0..COUNT).filter(|&i| is_test[i] == test);
        let (mut features, mut classes) = (Vec::new(), Vec::new());
        for i in chosen {
            features.extend_from_slice(&pixels[i * PIXELS..(i + 1) * PIXELS]);
            classes.push(i64::from(labels[i]));
        }
        samples(features, classes)
    };
    Ok(Digits { train: part(false)?, test: part(true)? })
}

fn samples(features: Vec<u8>, labels: Vec<i64>) -> Result<Samples> {
    Ok(Samples::new(RawValues::U8(features), vec![1, 8, 8], labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_stratified_and_the_values_are_the_published_ones() {
        let Digits { train, test } = digits().unwrap();
        let count = |part: &Samples, class| part.labels.iter().filter(|&&l| l == class).count();
        let totals = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180];
        for (class, total) in totals.into_iter().enumerate() {
            let (a, b) = (count(&train, class as i64), count(&test, class as i64));
            assert_eq!(a + b, total);
            assert!((b as f64 - total as f64 / 5.0).abs() <= 1.5, "class {class}: {b} of {total}");
        }
        let sum = |part: &Samples| match &part.features {
            RawValues::U8(values) => values.iter().map(|&v| u64::from(v)).sum::<u64>(),
            RawValues::F32(_) => 0,
        };
        assert_eq!(sum(&train) + sum(&test), 561_718);
        assert_eq!(train.labels[..4], [0, 1, 2, 3]);
    }
}
