//! Two methods measured on the same seeds.
use super::Results;
use crate::{Error, Result};

/// The values of two methods for one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Seed of both runs.
    pub seed: u64,
    /// Value of the first method.
    pub a: f64,
    /// Value of the second method.
    pub b: f64,
}

/// Values of two methods paired by seed, and the seeds that had no partner.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The pairs, by seed.
    pub pairs: Vec<Pair>,
    /// Seeds that only one of the two has.
    pub unpaired: Vec<u64>,
}

impl Results {
    /// Pairs the one value per seed of `a` and of `b`.
    ///
    /// ```
    /// use mtl_bench::{Record, Results};
    ///
    /// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).seed(seed);
    /// let all = Results::from_records([run("x", 0, 0.5), run("x", 1, 0.6), run("y", 1, 0.7)])?;
    /// let pairs = Results::pair(&all.method("x"), &all.method("y"))?;
    /// assert_eq!((pairs.pairs.len(), pairs.unpaired), (1, vec![0]));
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] as [`Results::by_seed`].
    pub fn pair(a: &Results, b: &Results) -> Result<Pairs> {
        let (a, b) = (a.by_seed()?, b.by_seed()?);
        let pairs =
            a.iter().filter_map(|(&seed, &x)| b.get(&seed).map(|&y| Pair { seed, a: x, b: y })).collect();
        let mut unpaired: Vec<u64> = a.keys().filter(|s| !b.contains_key(s)).copied().collect();
        unpaired.extend(b.keys().filter(|s| !a.contains_key(s)));
        unpaired.sort_unstable();
        Ok(Pairs { pairs, unpaired })
    }
}

impl Pairs {
    /// Differences a − b, by seed.
    pub fn differences(&self) -> Vec<f64> {
        self.pairs.iter().map(|p| p.a - p.b).collect()
    }

    /// The pairs, or an error that names the seeds without a partner.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when a seed is there on one side only.
    pub fn complete(self) -> Result<Vec<Pair>> {
        if self.unpaired.is_empty() {
            return Ok(self.pairs);
        }
        Err(Error::Missing { what: format!("one of the two methods for seeds {:?}", self.unpaired) })
    }
}
