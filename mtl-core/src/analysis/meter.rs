//! Conflict over the course of training: the share of mini-batches with conflicting gradients, as plotted by Phan et
//! al., *Improving Multi-task Learning via Seeking Task-based Flat Regions*, arXiv 2211.13723, figure 3.
use super::conflict::{mean, pairs};
use crate::{Error, Result, balancing::Gram};
use serde::{Deserialize, Serialize};

/// Conflict over consecutive mini-batches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConflictWindow {
    /// First step.
    pub first: u64,
    /// Last step.
    pub last: u64,
    /// Mini-batches that were measured.
    pub batches: u64,
    /// Share of them in which two gradients had a negative cosine.
    pub conflicting_batches: f64,
    /// Share of pairs of tasks with a negative cosine, mean over mini-batches.
    pub conflicting_pairs: f64,
    /// Mean cosine over pairs, mean over mini-batches.
    pub mean_cosine: f64,
}

/// Accumulates conflict over windows of mini-batches. A step without inner products costs nothing and is not counted.
///
/// Its state is its serialised form, so that a resumed run goes on in the middle of a window.
///
/// ```
/// use mtl_core::{analysis::ConflictMeter, balancing::Gram};
///
/// let mut meter = ConflictMeter::new(2)?;
/// assert!(meter.observe(0, None).is_none()); // Off, or a balancer that needs no inner products.
/// let gram = |dot: f64| Gram::from_rows(&[vec![1.0, dot], vec![dot, 1.0]]);
/// assert!(meter.observe(1, Some(&gram(0.5)?)).is_none());
/// let window = meter.observe(2, Some(&gram(-1.0)?)).unwrap();
/// assert_eq!((window.first, window.last, window.conflicting_batches, window.mean_cosine), (1, 2, 0.5, -0.25));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConflictMeter {
    window: u64,
    current: Sums,
    total: Sums,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    first: u64,
    last: u64,
    batches: u64,
    conflicting: u64,
    pairs: f64,
    cosine: f64,
}

impl Sums {
    fn add(&mut self, step: u64, conflicting_pairs: f64, cosine: f64) {
        if self.batches == 0 {
            self.first = step;
        }
        self.last = step;
        self.batches += 1;
        self.conflicting += u64::from(conflicting_pairs > 0.0);
        self.pairs += conflicting_pairs;
        self.cosine += cosine;
    }

    fn mean(&self) -> Option<ConflictWindow> {
        let n = self.batches as f64;
        (self.batches > 0).then(|| ConflictWindow {
            first: self.first,
            last: self.last,
            batches: self.batches,
            conflicting_batches: self.conflicting as f64 / n,
            conflicting_pairs: self.pairs / n,
            mean_cosine: self.cosine / n,
        })
    }
}

impl ConflictMeter {
    /// A meter that reports after every `window` measured mini-batches.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `window` is 0.
    pub fn new(window: u64) -> Result<Self> {
        if window == 0 {
            return Err(Error::config("window of the conflict meter", "at least 1", window));
        }
        Ok(Self { window, current: Sums::default(), total: Sums::default() })
    }

    /// Hears the inner products of step `step`, where there are any, and gives the window that it completes. Those of a
    /// single task have no pairs and are not counted.
    pub fn observe(&mut self, step: u64, gram: Option<&Gram>) -> Option<ConflictWindow> {
        let gram = gram.filter(|gram| gram.tasks() > 1)?;
        let cosines = pairs(gram, Gram::cosine);
        let negative = cosines.iter().filter(|c| **c < 0.0).count() as f64 / cosines.len() as f64;
        let cosine = mean(&cosines);
        self.total.add(step, negative, cosine);
        self.current.add(step, negative, cosine);
        if self.current.batches < self.window {
            return None;
        }
        std::mem::take(&mut self.current).mean()
    }

    /// The unfinished window, which starts anew; none when nothing was measured since the last one.
    pub fn finish(&mut self) -> Option<ConflictWindow> {
        std::mem::take(&mut self.current).mean()
    }

    /// Everything measured so far; none when nothing was.
    pub fn total(&self) -> Option<ConflictWindow> {
        self.total.mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of three tasks with these cosines.
    fn gram([a, b, c]: [f64; 3]) -> Gram {
        Gram::from_rows(&[vec![1.0, a, b], vec![a, 1.0, c], vec![b, c, 1.0]]).unwrap()
    }

    #[test]
    fn windows_and_total_agree_with_counting() {
        let steps = [[0.5, -0.5, -0.25], [0.1, 0.2, 0.3], [0.0, 0.0, 0.0], [-0.5, 0.5, 0.75]];
        let mut meter = ConflictMeter::new(3).unwrap();
        let mut windows = Vec::new();
        for (i, cosines) in steps.into_iter().enumerate() {
            windows.extend(meter.observe(10 * i as u64, Some(&gram(cosines))));
            assert_eq!(meter.observe(10 * i as u64 + 1, None), None);
        }
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert_eq!((windows.len(), windows[0].first, windows[0].last, windows[0].batches), (1, 0, 20, 3));
        assert!(
            close(windows[0].conflicting_batches, 1.0 / 3.0)
                && close(windows[0].conflicting_pairs, 2.0 / 9.0)
        );
        assert!(close(windows[0].mean_cosine, (-0.25 / 3.0 + 0.2) / 3.0));
        let total = meter.total().unwrap();
        assert_eq!((total.batches, total.conflicting_batches), (4, 0.5));
        let rest = meter.finish().unwrap();
        assert_eq!((rest.first, rest.batches, rest.conflicting_batches), (30, 1, 1.0));
        assert_eq!(meter.finish(), None);
    }

    #[test]
    fn a_meter_goes_on_where_its_text_stopped() {
        let mut meter = ConflictMeter::new(2).unwrap();
        meter.observe(0, Some(&gram([0.5, 0.5, -0.5])));
        let mut copy: ConflictMeter = serde_json::from_str(&serde_json::to_string(&meter).unwrap()).unwrap();
        let next = gram([0.25, 0.0, 0.5]);
        assert_eq!(copy.observe(1, Some(&next)), meter.observe(1, Some(&next)));
        assert_eq!(copy, meter);
    }

    #[test]
    fn a_single_task_is_not_counted_and_a_window_of_nothing_refused() {
        let mut meter = ConflictMeter::new(1).unwrap();
        assert_eq!(meter.observe(0, Some(&Gram::from_rows(&[vec![1.0]]).unwrap())), None);
        assert_eq!(meter.total(), None);
        let err = ConflictMeter::new(0).unwrap_err();
        insta::assert_snapshot!(err, @"`window of the conflict meter` must be at least 1, but is 0");
    }
}
