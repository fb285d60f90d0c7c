//! Tensors in memory: what studies hand to a merge and get back.
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Tensors by name.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// A dense `f32` tensor in row-major order.
///
/// ```
/// use mtl_merge::HostTensor;
///
/// let eye = HostTensor::new(vec![2, 2], vec![1.0, 0.0, 0.0, 1.0])?;
/// assert_eq!(eye.shape(), [2, 2]);
/// let error = HostTensor::new(vec![2, 3], vec![0.0; 5]).unwrap_err();
/// assert_eq!(error.to_string(), "a tensor of shape [2, 3] has 6 values, but 5 were given");
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl HostTensor {
    /// A tensor of `shape` with the values `data`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the count of values is not the product of `shape`.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        let expected = shape.iter().fold(1_usize, |n, &d| n.saturating_mul(d));
        if expected != data.len() {
            return Err(Error::Shape { shape, expected, found: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// A vector, of shape `[values.len()]`.
    pub fn vector(values: Vec<f32>) -> Self {
        Self { shape: vec![values.len()], data: values }
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Shape and values.
    pub fn into_parts(self) -> (Vec<usize>, Vec<f32>) {
        (self.shape, self.data)
    }
}
