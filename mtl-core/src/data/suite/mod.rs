//! Task suites made from one data set of labelled images: several tasks at once, or one after the other.
mod joint;
mod overlaid;
mod stream;
mod synthetic;

pub use joint::JointSuite;
pub use overlaid::OverlaidPairs;
pub use stream::{Experience, StreamKind, TaskStream};
pub use synthetic::{Response, SyntheticRegression};

use super::{Normalize, RawValues, Samples};
use crate::{Error, Result, check};
use tch::{Kind, Tensor};

/// Images with class labels, in memory as they are stored.
///
/// ```
/// use mtl_core::data::LabelledImages;
/// use tch::{Device, Kind, Tensor};
///
/// let pixels = Tensor::zeros([3, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let images = LabelledImages::new(pixels, Tensor::from_slice(&[0i64, 1, 2]), 3)?;
/// assert_eq!(images.len(), 3);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct LabelledImages {
    pixels: Tensor,
    labels: Tensor,
    classes: i64,
}

impl LabelledImages {
    /// Images `[examples, channels, height, width]` with labels `[examples]` in `0..classes`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the shapes do not fit, [`Error::Config`] without examples or for a label out of range.
    pub fn new(pixels: Tensor, labels: Tensor, classes: i64) -> Result<Self> {
        let (n, ..) = check::dims4(&pixels, "pixels", "[examples, channels, height, width]")?;
        if labels.size() != [n] {
            return Err(Error::shape("labels", format!("[{n}]"), labels.size()));
        }
        check::labels(&labels, "labels", classes)?;
        Ok(Self { pixels, labels, classes })
    }

    /// Images of samples as a loader read them, `shape` being `[channels, rows, columns]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the samples are no images, and what [`new`](Self::new) returns.
    pub fn from_samples(samples: &Samples, classes: i64) -> Result<Self> {
        let shape: Vec<i64> = samples.shape.iter().map(|&d| d as i64).collect();
        if shape.len() != 3 {
            return Err(Error::shape("samples", "[channels, rows, columns] each", shape));
        }
        let values = match &samples.features {
            RawValues::U8(values) => Tensor::from_slice(values),
            RawValues::F32(values) => Tensor::from_slice(values),
        };
        let dims = [samples.len() as i64, shape[0], shape[1], shape[2]];
        Self::new(values.view(dims), Tensor::from_slice(&samples.labels), classes)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    /// Whether there is no image; never true.
    pub fn is_empty(&self) -> bool {
        self.labels.numel() == 0
    }

    /// Pixels as stored, `[examples, channels, height, width]`.
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// Labels, `[examples]`.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Channels, height and width of an image.
    pub fn dims(&self) -> (i64, i64, i64) {
        match self.pixels.size()[..] {
            [_, c, h, w] => (c, h, w),
            _ => (0, 0, 0),
        }
    }

    /// Mean and standard deviation of the pixels.
    pub fn normalize(&self) -> Normalize {
        Normalize::fit(&self.pixels)
    }

    /// The first `n` images, or all when there are fewer.
    #[must_use]
    pub fn take(&self, n: usize) -> Self {
        let n = (n.max(1) as i64).min(self.len() as i64);
        Self {
            pixels: self.pixels.narrow(0, 0, n),
            labels: self.labels.narrow(0, 0, n),
            classes: self.classes,
        }
    }

    /// The images whose label is one of `classes`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when no image is left.
    pub fn of_classes(&self, classes: &[i64]) -> Result<Self> {
        let mask = Tensor::isin(&self.labels, &Tensor::from_slice(classes), false, false);
        let index = mask.nonzero().flatten(0, -1);
        if index.numel() == 0 {
            return Err(Error::config("classes", "classes that occur in the data", format!("{classes:?}")));
        }
        Ok(Self {
            pixels: self.pixels.index_select(0, &index),
            labels: self.labels.index_select(0, &index),
            classes: self.classes,
        })
    }

    /// Pixels as `f32` between 0 and 1, by the largest value stored.
    fn unit_pixels(&self) -> Tensor {
        let pixels = self.pixels.to_kind(Kind::Float);
        let largest = pixels.max().double_value(&[]).max(f64::MIN_POSITIVE);
        pixels / largest
    }
}
