//! Two images laid over each other, one task for each: Sabour et al., *Dynamic Routing Between Capsules*, NeurIPS 2017,
//! arXiv 1710.09829; as a multi-task problem Sener and Koltun, NeurIPS 2018, arXiv 1810.04650.
use super::LabelledImages;
use crate::{
    Error, Result, Seed, TaskSpec,
    data::{Normalize, TensorDataset},
};
use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

/// Pairs of images on one canvas: MultiMNIST from MNIST, MultiFashion from Fashion-MNIST, and the like.
///
/// The first image lies at the top left, the second at the bottom right, each pixel the brighter of the two. The canvas is
/// larger than an image by `shift` on each side: 36 × 36 for 28 × 28 images and a shift of 8. Each image is once the first
/// and once the second of a pair in every round; the pairs are drawn anew in each round.
///
/// ```
/// use mtl_core::{Seed, data::{LabelledImages, OverlaidPairs}};
/// use tch::{Device, Kind, Tensor};
///
/// let pixels = Tensor::ones([4, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let images = LabelledImages::new(pixels, Tensor::from_slice(&[0i64, 3, 6, 9]), 10)?;
/// let pairs = OverlaidPairs::new(&images).shift(2).rounds(3).build(Seed(0))?;
/// assert_eq!((pairs.len(), pairs.inputs().size()), (12, vec![12, 1, 10, 10]));
/// assert_eq!(pairs.tasks().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["left", "right"]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct OverlaidPairs<'a> {
    images: &'a LabelledImages,
    shift: i64,
    rounds: u64,
    normalize: Option<Normalize>,
}

impl<'a> OverlaidPairs<'a> {
    /// Pairs of `images`, as many as there are images, shifted by 2/7 of their side as MultiMNIST's are.
    pub fn new(images: &'a LabelledImages) -> Self {
        let (_, height, _) = images.dims();
        Self { images, shift: (2 * height + 3) / 7, rounds: 1, normalize: None }
    }

    /// Sets by how many pixels the second image lies below and to the right of the first.
    #[must_use]
    pub fn shift(mut self, shift: i64) -> Self {
        self.shift = shift;
        self
    }

    /// Sets how many pairs are made of each image.
    #[must_use]
    pub fn rounds(mut self, rounds: u64) -> Self {
        self.rounds = rounds;
        self
    }

    /// Normalises by the statistics of another split: that of training for a test split.
    #[must_use]
    pub fn normalized(mut self, normalize: Normalize) -> Self {
        self.normalize = Some(normalize);
        self
    }

    /// The pairs that `seed` draws.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a negative shift or no round.
    pub fn build(&self, seed: Seed) -> Result<TensorDataset> {
        if self.shift < 0 {
            return Err(Error::config("shift", "at least 0", self.shift));
        }
        if self.rounds == 0 {
            return Err(Error::config("rounds", "at least 1", 0));
        }
        let (pixels, labels) = (&self.images.pixels, &self.images.labels);
        let n = self.images.len() as i64;
        let order = |round: u64, which: &str| {
            let mut order: Vec<i64> = (0..n).collect();
            order.shuffle(&mut seed.stream(which, round));
            order
        };
        let all = |which: &str| -> Tensor {
            Tensor::from_slice(&(0..self.rounds).flat_map(|round| order(round, which)).collect::<Vec<_>>())
        };
        let (first, second) = (all("left"), all("right"));
        let canvas = |index: &Tensor, corner: i64| {
            let (_, height, width) = self.images.dims();
            let picked = pixels.index_select(0, index);
            let mut size = picked.size();
            size[2] += self.shift;
            size[3] += self.shift;
            let canvas = Tensor::zeros(&size, (picked.kind(), picked.device()));
            canvas.narrow(2, corner, height).narrow(3, corner, width).copy_(&picked);
            canvas
        };
        let inputs = canvas(&first, 0).maximum(&canvas(&second, self.shift));
        let classes = self.images.classes;
        let task = |name: &str, index: &Tensor| {
            (TaskSpec::classification(name, classes), labels.index_select(0, index).to_kind(Kind::Int64))
        };
        let normalize = self.normalize.unwrap_or_else(|| Normalize::fit(&inputs));
        let tasks = vec![task("left", &first), task("right", &second)];
        Ok(TensorDataset::new(inputs, tasks)?.normalized(normalize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Three images, each of one brightness, labelled by it.
    fn images() -> LabelledImages {
        let pixels =
            Tensor::stack(&[1i64, 2, 3].map(|v| Tensor::full([1, 4, 4], v, (Kind::Uint8, Device::Cpu))), 0);
        LabelledImages::new(pixels, Tensor::from_slice(&[1i64, 2, 3]), 4).unwrap()
    }

    #[test]
    fn corners_show_one_image_and_the_middle_the_brighter() {
        let pairs = OverlaidPairs::new(&images()).rounds(4).build(Seed(3)).unwrap();
        let (inputs, left, right) = (pairs.inputs(), pairs.targets(0).unwrap(), pairs.targets(1).unwrap());
        assert_eq!(inputs.size(), [12, 1, 5, 5]);
        for i in 0..12 {
            let at = |row: i64, column: i64| inputs.int64_value(&[i, 0, row, column]);
            let (l, r) = (left.int64_value(&[i]), right.int64_value(&[i]));
            assert_eq!((at(0, 0), at(4, 4), at(2, 2), at(0, 4)), (l, r, l.max(r), 0));
        }
        // Every image is as often the first as the second.
        for targets in [left, right] {
            let counts = targets.bincount(None::<&Tensor>, 4);
            assert_eq!(Vec::<i64>::try_from(counts).unwrap(), [0, 4, 4, 4]);
        }
    }

    #[test]
    fn the_seed_decides_and_nonsense_is_refused() {
        let images = images();
        let labels = |seed| {
            let pairs = OverlaidPairs::new(&images).rounds(5).build(Seed(seed)).unwrap();
            Vec::<i64>::try_from(pairs.targets(1).unwrap()).unwrap()
        };
        assert_eq!(labels(1), labels(1));
        assert_ne!(labels(1), labels(2));
        let error = OverlaidPairs::new(&images).shift(-1).build(Seed(0)).unwrap_err();
        insta::assert_snapshot!(error, @"`shift` must be at least 0, but is -1");
        assert!(OverlaidPairs::new(&images).rounds(0).build(Seed(0)).is_err());
    }
}
