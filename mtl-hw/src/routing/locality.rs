//! How far choices repeat: within a window of tokens, from layer to layer, from image to image.
use super::Choices;
use super::choices::shared;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Distinct experts in every window of consecutive tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WorkingSet {
    /// Tokens of a window.
    pub window: usize,
    /// Mean number of distinct experts.
    pub mean: f64,
    /// Largest number of distinct experts.
    pub max: u64,
}

impl WorkingSet {
    /// Slides a window of `window` tokens over the sequence.
    ///
    /// ```
    /// use mtl_hw::routing::WorkingSet;
    /// let trace = [vec![0], vec![0], vec![1]];
    /// let set = WorkingSet::of_tokens(trace.as_slice(), 2)?;
    /// assert_eq!((set.mean, set.max), (1.5, 2));
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the window is empty or longer than the sequence.
    pub fn of_tokens<'a>(choices: impl Into<Choices<'a>>, window: usize) -> Result<Self> {
        let choices = choices.into();
        if !(1..=choices.tokens()).contains(&window) {
            let must = format!("from 1 to the {} tokens", choices.tokens());
            return Err(HwError::config("window", must, window));
        }
        let mut inside = vec![0u64; 1 << 16]; // tokens of the window that name each id
        let (mut distinct, mut total, mut max, mut windows) = (0u64, 0u64, 0u64, 0u64);
        let mut leaving = choices.rows();
        for (t, row) in choices.rows().enumerate() {
            for &id in row {
                let n = &mut inside[usize::from(id)];
                distinct += u64::from(*n == 0);
                *n += 1;
            }
            if t + 1 < window {
                continue;
            }
            (total, max, windows) = (total + distinct, max.max(distinct), windows + 1);
            for &id in leaving.next().unwrap_or_default() {
                let n = &mut inside[usize::from(id)];
                *n -= 1;
                distinct -= u64::from(*n == 0);
            }
        }
        Ok(Self { window, mean: total as f64 / windows as f64, max })
    }
}

/// Mean number of experts per token that two records of the same tokens share: two tasks of an image, or the same
/// positions of two consecutive images.
///
/// # Errors
///
/// [`HwError::Config`] when the numbers of tokens differ or are zero.
pub fn shared_per_token<'a>(a: impl Into<Choices<'a>>, b: impl Into<Choices<'a>>) -> Result<f64> {
    let (a, b) = (a.into(), b.into());
    if a.tokens() != b.tokens() || a.tokens() == 0 {
        return Err(HwError::config("tokens", format!("positive and equal to {}", a.tokens()), b.tokens()));
    }
    Ok(shared(a, b) as f64 / a.tokens() as f64)
}

/// How much the experts of one layer tell about those of the next: what a prefetcher could know before the gate has run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerCoupling {
    /// Mutual information of the ids of one token in both layers, in bits.
    pub mutual_information_bits: f64,
    /// Entropy of the later layer's ids in bits.
    pub entropy_bits: f64,
}

impl LayerCoupling {
    /// Share of the later layer's entropy that the earlier one explains, from 0 to 1.
    #[must_use]
    pub fn explained(&self) -> f64 {
        if self.entropy_bits > 0.0 { self.mutual_information_bits / self.entropy_bits } else { 0.0 }
    }
}

/// Joint counts of the expert ids of two layers, over tokens and images.
///
/// A token with K experts in one layer and K′ in the other contributes its K·K′ pairs.
///
/// ```
/// use mtl_hw::routing::CouplingCounts;
/// let mut counts = CouplingCounts::new(2, 2)?;
/// let layer = [vec![0], vec![1]];
/// counts.add(layer.as_slice(), layer.as_slice())?;
/// let coupling = counts.coupling();
/// assert_eq!((coupling.mutual_information_bits, coupling.explained()), (1.0, 1.0));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouplingCounts {
    pairs: Vec<u64>, // [earlier, later]
    later: usize,
}

impl CouplingCounts {
    /// No counts yet, for layers of `earlier` and `later` experts.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when a number is zero or their product exceeds 2²⁴.
    pub fn new(earlier: u64, later: u64) -> Result<Self> {
        match crate::math::product("expert pairs", &[earlier, later])? {
            n @ 1..=0x0100_0000 => Ok(Self { pairs: vec![0; n as usize], later: later as usize }),
            n => Err(HwError::config("expert pairs", "from 1 to 16777216", n)),
        }
    }

    /// Adds the tokens of one image.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the numbers of tokens differ or an id is out of range.
    pub fn add<'a>(&mut self, earlier: impl Into<Choices<'a>>, later: impl Into<Choices<'a>>) -> Result<()> {
        let (a, b) = (earlier.into(), later.into());
        if a.tokens() != b.tokens() {
            return Err(HwError::config("tokens", format!("equal to {}", a.tokens()), b.tokens()));
        }
        for (row, next) in a.rows().zip(b.rows()) {
            for &x in row {
                for &y in next {
                    let y = usize::from(y);
                    let slot = self.pairs.get_mut(usize::from(x) * self.later + y);
                    match slot.filter(|_| y < self.later) {
                        Some(n) => *n += 1,
                        None => return Err(HwError::config("expert", format!("below {}", self.later), y)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Mutual information and entropy of what was added; zero when nothing was.
    #[must_use]
    pub fn coupling(&self) -> LayerCoupling {
        let total = self.pairs.iter().sum::<u64>() as f64;
        let mut later = vec![0u64; self.later];
        for row in self.pairs.chunks(self.later) {
            later.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
        }
        let mut information = 0.0;
        for row in self.pairs.chunks(self.later) {
            let earlier = row.iter().sum::<u64>() as f64;
            for (&n, &column) in row.iter().zip(&later).filter(|&(&n, _)| n > 0) {
                information += n as f64 / total * (n as f64 * total / (earlier * column as f64)).log2();
            }
        }
        let entropy = later.iter().filter(|&&n| n > 0).map(|&n| {
            let p = n as f64 / total;
            -p * p.log2()
        });
        LayerCoupling {
            // Rounding must not make independence negative.
            mutual_information_bits: information.max(0.0),
            entropy_bits: entropy.sum::<f64>().max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_layers_tell_nothing() {
        let mut counts = CouplingCounts::new(2, 2).unwrap();
        let (a, b) = ([vec![0], vec![0], vec![1], vec![1]], [vec![0], vec![1], vec![0], vec![1]]);
        counts.add(a.as_slice(), b.as_slice()).unwrap();
        let coupling = counts.coupling();
        assert_eq!((coupling.mutual_information_bits, coupling.entropy_bits), (0.0, 1.0));
        assert_eq!(CouplingCounts::new(2, 2).unwrap().coupling().explained(), 0.0);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut counts = CouplingCounts::new(2, 2).unwrap();
        let (good, bad) = ([vec![0u16]], [vec![2u16]]);
        assert!(counts.add(good.as_slice(), bad.as_slice()).is_err());
        assert!(counts.add(bad.as_slice(), good.as_slice()).is_err());
        assert!(counts.add(good.as_slice(), [].as_slice()).is_err());
        assert!(CouplingCounts::new(0, 2).is_err() && CouplingCounts::new(1 << 16, 1 << 16).is_err());
        assert!(WorkingSet::of_tokens(good.as_slice(), 0).is_err());
        assert!(WorkingSet::of_tokens(good.as_slice(), 2).is_err());
        assert!(shared_per_token([].as_slice(), [].as_slice()).is_err());
    }

    #[test]
    fn a_window_of_all_tokens_holds_the_active_experts() {
        let trace = [vec![0u16, 1], vec![2, 1], vec![3, 0]];
        let all = WorkingSet::of_tokens(trace.as_slice(), 3).unwrap();
        assert_eq!((all.mean, all.max), (4.0, 4));
        assert_eq!(WorkingSet::of_tokens(trace.as_slice(), 1).unwrap().mean, 2.0);
        assert_eq!(WorkingSet::of_tokens(trace.as_slice(), 2).unwrap().mean, 3.5);
    }
}
