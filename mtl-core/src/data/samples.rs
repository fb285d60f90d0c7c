//! Labelled samples in memory, before they become tensors.

/// Feature values of all samples in one buffer, as they were stored.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValues {
    /// Bytes, such as grey levels 0 to 255.
    U8(Vec<u8>),
    /// Finite numbers.
    F32(Vec<f32>),
}

impl RawValues {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One split of a data set: features and a class label per sample.
///
/// The features of sample `i` are the values `i·n` to `(i+1)·n`, where `n` is the product of `shape`.
///
/// ```
/// use mtl_core::data::{RawValues, Samples};
///
/// let samples = Samples::new(RawValues::F32(vec![0.5, 1.0, 2.0, 4.0]), vec![2], vec![0, 1])?;
/// assert_eq!((samples.len(), samples.n_features(), samples.max_label()), (2, 2, Some(1)));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Samples {
    /// All feature values, sample after sample.
    pub features: RawValues,
    /// Shape of one sample: `[channels, rows, columns]` of images, `[features]` of tables.
    pub shape: Vec<usize>,
    /// Class of each sample, from 0.
    pub labels: Vec<i64>,
    /// Names of the features of a table; empty for images.
    pub feature_names: Vec<String>,
}

impl Samples {
    /// Puts features and labels together.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) when the number of values is not that of labels × shape, or a label is
    /// negative.
    pub fn new(features: RawValues, shape: Vec<usize>, labels: Vec<i64>) -> crate::Result<Self> {
        let wanted = shape.iter().try_fold(labels.len(), |n, &dim| n.checked_mul(dim));
        if wanted != Some(features.len()) {
            let must = format!("as many values as {} samples of shape {shape:?} have", labels.len());
            return Err(crate::Error::config("features", must, features.len()));
        }
        if let Some(label) = labels.iter().find(|&&label| label < 0) {
            return Err(crate::Error::config("labels", "at least 0", label));
        }
        Ok(Self { features, shape, labels, feature_names: Vec::new() })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of values per sample.
    pub fn n_features(&self) -> usize {
        self.shape.iter().product()
    }

    /// The greatest label.
    pub fn max_label(&self) -> Option<i64> {
        self.labels.iter().copied().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_must_fit() {
        let err = Samples::new(RawValues::U8(vec![0; 5]), vec![2], vec![0, 1]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "`features` must be as many values as 2 samples of shape [2] have, but is 5"
        );
        assert!(Samples::new(RawValues::U8(vec![0; 2]), vec![1], vec![0, -1]).is_err());
    }
}
