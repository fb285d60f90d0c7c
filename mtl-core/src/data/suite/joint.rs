//! Several tasks on the same images: class, parity, groups of labels, dense targets.
use super::LabelledImages;
use crate::{
    Error, Result, TaskKind, TaskSpec,
    data::{Normalize, TensorDataset},
};
use tch::{Kind, Tensor};

/// Builds a suite of tasks that all see the same images.
///
/// ```
/// use mtl_core::data::{JointSuite, LabelledImages};
/// use tch::{Device, Kind, Tensor};
///
/// let pixels = Tensor::ones([4, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let images = LabelledImages::new(pixels, Tensor::from_slice(&[0i64, 3, 6, 9]), 10)?;
/// let data = JointSuite::new(&images).class()?.parity()?.grouping("large", &[5, 6, 7, 8, 9])?.build()?;
/// assert_eq!(data.tasks().len(), 3);
/// assert_eq!(data.batch(1, &[0, 1])?.target.int64_value(&[1]), 1); // 3 is odd
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct JointSuite<'a> {
    images: &'a LabelledImages,
    normalize: Normalize,
    tasks: Vec<(TaskSpec, Tensor)>,
}

impl<'a> JointSuite<'a> {
    /// A suite on `images` without tasks yet, normalised by the images' own statistics.
    pub fn new(images: &'a LabelledImages) -> Self {
        Self { images, normalize: images.normalize(), tasks: Vec::new() }
    }

    /// Normalises by the statistics of another split: that of training for a test split.
    #[must_use]
    pub fn normalized(mut self, normalize: Normalize) -> Self {
        self.normalize = normalize;
        self
    }

    /// Adds the task `class`: the label itself.
    ///
    /// # Errors
    ///
    /// None today; a `Result` so that all tasks chain alike.
    pub fn class(self) -> Result<Self> {
        let classes = self.images.classes;
        let labels = self.images.labels.shallow_clone();
        Ok(self.with(TaskSpec::classification("class", classes), labels))
    }

    /// Adds the task `parity`: 0 for even labels, 1 for odd ones.
    ///
    /// # Errors
    ///
    /// None today; a `Result` so that all tasks chain alike.
    pub fn parity(self) -> Result<Self> {
        let odd = self.images.labels.remainder(2);
        Ok(self.with(TaskSpec::classification("parity", 2), odd))
    }

    /// Adds a task called `name`: 1 for the labels in `members`, 0 for the others.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `members` is empty, or has a label outside the classes.
    pub fn grouping(self, name: &str, members: &[i64]) -> Result<Self> {
        let classes = self.images.classes;
        if members.is_empty() || members.iter().any(|m| !(0..classes).contains(m)) {
            let must = format!("labels in 0..{classes}, at least one");
            return Err(Error::config("members", must, format!("{members:?}")));
        }
        let inside = Tensor::isin(&self.images.labels, &Tensor::from_slice(members), false, false);
        Ok(self.with(TaskSpec::classification(name, 2), inside.to_kind(Kind::Int64)))
    }

    /// Adds the task `ink`: the share of ink in each quadrant, four numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for images smaller than 2 × 2.
    pub fn quadrant_ink(self) -> Result<Self> {
        let (_, height, width) = self.images.dims();
        if height < 2 || width < 2 {
            return Err(Error::shape("pixels", "[…, at least 2, at least 2]", self.images.pixels.size()));
        }
        let ink = self.images.unit_pixels().mean_dim([1i64].as_slice(), false, Kind::Float); // [examples, h, w]
        let quadrants = ink.unsqueeze(1).adaptive_avg_pool2d([2i64, 2]).flatten(1, -1); // [examples, 4]
        Ok(self.with(TaskSpec::new("ink", TaskKind::Regression { dims: 4 }), quadrants))
    }

    /// Adds the dense task `edges`: for each pixel whether the brightness changes there.
    ///
    /// A pixel is an edge when its central-difference gradient is longer than `threshold`, brightness running from 0 to 1
    /// and pixels outside the image repeating the border.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `threshold` is not positive and finite.
    pub fn edges(self, threshold: f64) -> Result<Self> {
        if !(threshold > 0.0 && threshold.is_finite()) {
            return Err(Error::config("threshold", "positive and finite", threshold));
        }
        let (_, height, width) = self.images.dims();
        let grey = self.images.unit_pixels().mean_dim([1i64].as_slice(), true, Kind::Float); // [examples, 1, h, w]
        let padded = grey.replication_pad2d([1i64, 1, 1, 1]); // [examples, 1, h + 2, w + 2]
        let shifted = |dy: i64, dx: i64| padded.narrow(2, dy, height).narrow(3, dx, width);
        let dy = (shifted(2, 1) - shifted(0, 1)) / 2.0;
        let dx = (shifted(1, 2) - shifted(1, 0)) / 2.0;
        let edge = (dy.square() + dx.square()).sqrt().gt(threshold).to_kind(Kind::Int64).squeeze_dim(1);
        let kind = TaskKind::DenseClassification { classes: 2, height, width };
        Ok(self.with(TaskSpec::new("edges", kind), edge))
    }

    /// Adds a task of the caller's own.
    #[must_use]
    pub fn with(mut self, spec: TaskSpec, targets: Tensor) -> Self {
        self.tasks.push((spec, targets));
        self
    }

    /// The suite as a split.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a task, and what [`TensorDataset::new`] returns.
    pub fn build(self) -> Result<TensorDataset> {
        if self.tasks.is_empty() {
            return Err(Error::config("tasks", "at least one task", "none"));
        }
        let inputs = self.images.pixels.shallow_clone();
        Ok(TensorDataset::new(inputs, self.tasks)?.normalized(self.normalize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Two 4 × 4 images: left half bright, and all dark.
    fn images() -> LabelledImages {
        let pixels = Tensor::zeros([2, 1, 4, 4], (Kind::Uint8, Device::Cpu));
        let _ = pixels.get(0).narrow(2, 0, 2).fill_(16);
        LabelledImages::new(pixels, Tensor::from_slice(&[4i64, 7]), 10).unwrap()
    }

    #[test]
    fn edges_lie_where_brightness_changes() {
        let data = JointSuite::new(&images()).edges(0.3).unwrap().build().unwrap();
        let edges = data.targets(0).unwrap();
        assert_eq!(edges.size(), [2, 4, 4]);
        let row: Vec<i64> = edges.get(0).get(2).try_into().unwrap();
        assert_eq!(row, [0, 1, 1, 0]);
        assert_eq!(edges.get(1).sum(Kind::Int64).int64_value(&[]), 0);
    }

    #[test]
    fn ink_is_measured_by_quadrant() {
        let data = JointSuite::new(&images()).quadrant_ink().unwrap().build().unwrap();
        let ink: Vec<f32> = data.targets(0).unwrap().get(0).try_into().unwrap();
        assert_eq!(ink, [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_group_outside_the_classes_is_refused() {
        let err = JointSuite::new(&images()).grouping("odd", &[11]).unwrap_err();
        insta::assert_snapshot!(err, @"`members` must be labels in 0..10, at least one, but is [11]");
    }
}
