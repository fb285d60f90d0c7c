//! Tasks that come one after the other: class splits, permuted pixels, rotations.
use super::LabelledImages;
use crate::{
    Error, Result, Seed, TaskSpec,
    data::{Normalize, TensorDataset},
};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How a data set becomes a sequence of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stream", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum StreamKind {
    /// Disjoint groups of classes: class- or task-incremental learning.
    ClassSplit {
        /// Number of tasks; must divide the number of classes.
        tasks: usize,
        /// Shuffles the order of the classes by the seed; otherwise they come in order.
        shuffle: bool,
    },
    /// All classes, the pixels of each task in an order of its own (the first task unchanged): domain-incremental.
    Permutation {
        /// Number of tasks.
        tasks: usize,
    },
    /// All classes, the images of task `t` turned by `t · 180° / tasks`: domain-incremental.
    Rotation {
        /// Number of tasks.
        tasks: usize,
    },
}

/// One task of a stream: its classes and its data.
#[derive(Debug)]
pub struct Experience {
    /// Index in the stream.
    pub task: usize,
    /// Classes that occur, as labels of the whole stream, sorted.
    pub classes: Vec<i64>,
    /// Training split, with one task whose labels are those of the whole stream.
    pub train: TensorDataset,
    /// Test split.
    pub test: TensorDataset,
}

/// A sequence of tasks made from one data set; each is built when it is asked for.
///
/// ```
/// use mtl_core::{Seed, data::{LabelledImages, StreamKind, TaskStream}};
/// use tch::{Device, Kind, Tensor};
///
/// let images = || {
///     let pixels = Tensor::zeros([4, 1, 2, 2], (Kind::Uint8, Device::Cpu));
///     LabelledImages::new(pixels, Tensor::from_slice(&[0i64, 1, 2, 3]), 4)
/// };
/// let kind = StreamKind::ClassSplit { tasks: 2, shuffle: false };
/// let stream = TaskStream::new(images()?, images()?, kind, Seed(0))?;
/// assert_eq!(stream.experience(1)?.classes, [2, 3]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TaskStream {
    train: LabelledImages,
    test: LabelledImages,
    kind: StreamKind,
    normalize: Normalize,
    seed: Seed,
}

impl TaskStream {
    /// A stream over `train` and `test`; orders and permutations come from `seed`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for 0 tasks or, for class splits, a number that does not divide the classes; [`Error::Shape`]
    /// when the images of the two splits differ in size.
    pub fn new(train: LabelledImages, test: LabelledImages, kind: StreamKind, seed: Seed) -> Result<Self> {
        if train.dims() != test.dims() {
            let expected = format!("[…] as in training, {:?}", train.dims());
            return Err(Error::shape("test pixels", expected, test.pixels.size()));
        }
        if train.classes != test.classes {
            return Err(Error::config("classes of the test split", train.classes.to_string(), test.classes));
        }
        let normalize = train.normalize();
        let stream = Self { train, test, kind, normalize, seed };
        let (tasks, classes) = (stream.len(), stream.train.classes as usize);
        if tasks == 0 {
            return Err(Error::config("tasks", "at least 1", tasks));
        }
        if matches!(stream.kind, StreamKind::ClassSplit { .. }) && !classes.is_multiple_of(tasks) {
            return Err(Error::config("tasks", format!("a divisor of the {classes} classes"), tasks));
        }
        Ok(stream)
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        match self.kind {
            StreamKind::ClassSplit { tasks, .. }
            | StreamKind::Permutation { tasks }
            | StreamKind::Rotation { tasks } => tasks,
        }
    }

    /// Whether there is no task; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes of the whole stream.
    pub fn classes(&self) -> i64 {
        self.train.classes
    }

    /// The classes of task `task`, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such task.
    pub fn classes_of(&self, task: usize) -> Result<Vec<i64>> {
        if task >= self.len() {
            return Err(Error::config("task", format!("below {}", self.len()), task));
        }
        let mut classes: Vec<i64> = (0..self.train.classes).collect();
        let StreamKind::ClassSplit { tasks, shuffle } = self.kind else { return Ok(classes) };
        if shuffle {
            classes.shuffle(&mut self.seed.stream("class order", 0));
        }
        let each = classes.len() / tasks;
        let mut own = classes[task * each..(task + 1) * each].to_vec();
        own.sort_unstable();
        Ok(own)
    }

    /// Task `task` with its data.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such task, or no image of its classes.
    pub fn experience(&self, task: usize) -> Result<Experience> {
        let classes = self.classes_of(task)?;
        let train = self.split(&self.train, task, &classes)?;
        let test = self.split(&self.test, task, &classes)?;
        Ok(Experience { task, classes, train, test })
    }

    fn split(&self, images: &LabelledImages, task: usize, classes: &[i64]) -> Result<TensorDataset> {
        let (pixels, labels) = match self.kind {
            StreamKind::ClassSplit { .. } => {
                let own = images.of_classes(classes)?;
                (own.pixels, own.labels)
            }
            StreamKind::Permutation { .. } => (self.permuted(images, task), images.labels.shallow_clone()),
            StreamKind::Rotation { tasks } => {
                (rotated(&images.pixels, 180.0 * task as f64 / tasks as f64), images.labels.shallow_clone())
            }
        };
        let spec = TaskSpec::classification(format!("task {task}"), images.classes);
        Ok(TensorDataset::new(pixels, vec![(spec, labels)])?.normalized(self.normalize))
    }

    /// The pixels in the order that belongs to `task`; all channels alike.
    fn permuted(&self, images: &LabelledImages, task: usize) -> Tensor {
        if task == 0 {
            return images.pixels.shallow_clone();
        }
        let (_, height, width) = images.dims();
        let mut order: Vec<i64> = (0..height * width).collect();
        order.shuffle(&mut self.seed.stream("pixel order", task as u64));
        images.pixels.flatten(2, -1).index_select(2, &Tensor::from_slice(&order)).view_as(&images.pixels)
    }
}

/// Images turned counter-clockwise by `degrees` about their centre, bilinear, black outside.
fn rotated(pixels: &Tensor, degrees: f64) -> Tensor {
    if degrees == 0.0 {
        return pixels.shallow_clone();
    }
    let (sin, cos) = degrees.to_radians().sin_cos();
    let matrix =
        Tensor::from_slice(&[cos as f32, -sin as f32, 0.0, sin as f32, cos as f32, 0.0]).view([1, 2, 3]);
    let size = pixels.size();
    let turn = |chunk: Tensor| {
        let mut dims = size.clone();
        dims[0] = chunk.size()[0];
        let grid = Tensor::affine_grid_generator(&matrix.expand([dims[0], 2, 3], false), &dims, false);
        let turned = chunk.to_kind(Kind::Float).grid_sampler(&grid, 0, 0, false);
        if pixels.is_floating_point() { turned } else { turned.round().to_kind(pixels.kind()) }
    };
    // In chunks: the sampling grid of a whole data set would be eight times its size.
    let chunks: Vec<Tensor> = pixels.split(1024, 0).into_iter().map(turn).collect();
    Tensor::cat(&chunks, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four 3 × 3 images of classes 0 to 3, image `i` holding the numbers `9i..9i + 9`.
    fn images() -> LabelledImages {
        let pixels: Vec<u8> = (0..36).collect();
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3]);
        LabelledImages::new(Tensor::from_slice(&pixels).view([4, 1, 3, 3]), labels, 4).unwrap()
    }

    fn stream(kind: StreamKind) -> TaskStream {
        TaskStream::new(images(), images(), kind, Seed(1)).unwrap()
    }

    #[test]
    fn class_splits_are_disjoint_and_complete() {
        let stream = stream(StreamKind::ClassSplit { tasks: 2, shuffle: true });
        let mut all: Vec<i64> = (0..2).flat_map(|t| stream.classes_of(t).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
        let experience = stream.experience(1).unwrap();
        let labels: Vec<i64> = experience.train.targets(0).unwrap().try_into().unwrap();
        assert_eq!(labels, experience.classes);
    }

    #[test]
    fn permutations_keep_the_pixels_and_differ_between_tasks() {
        let stream = stream(StreamKind::Permutation { tasks: 3 });
        let pixels = |task: usize| -> Vec<u8> {
            let image = stream.experience(task).unwrap().train.inputs().get(0);
            image.flatten(0, -1).try_into().unwrap()
        };
        assert_eq!(pixels(0), (0..9).collect::<Vec<u8>>());
        assert_ne!(pixels(1), pixels(2));
        let mut sorted = pixels(1);
        sorted.sort_unstable();
        assert_eq!(sorted, pixels(0));
    }

    #[test]
    fn a_quarter_turn_moves_the_corners_counter_clockwise() {
        let turned = rotated(&images().pixels, 90.0);
        let first: Vec<u8> = turned.get(0).flatten(0, -1).try_into().unwrap();
        assert_eq!(first, [2, 5, 8, 1, 4, 7, 0, 3, 6]);
    }

    #[test]
    fn a_number_of_tasks_that_does_not_divide_the_classes_is_refused() {
        let kind = StreamKind::ClassSplit { tasks: 3, shuffle: false };
        let err = TaskStream::new(images(), images(), kind, Seed(0)).unwrap_err();
        insta::assert_snapshot!(err, @"`tasks` must be a divisor of the 4 classes, but is 3");
    }
}
