//! Leave-one-out replicates: Quenouille 1949, Tukey 1958; the acceleration is Efron's (JASA 82, 1987).
use super::{check_values, mean};
use crate::{Error, Result};

/// What leaving out one value at a time says about a statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jackknife {
    /// Standard error of the statistic.
    pub standard_error: f64,
    /// Bias estimate, (n − 1)(mean of the replicates − statistic).
    pub bias: f64,
    /// Acceleration constant of the BCa interval; 0 when the statistic never changes.
    pub acceleration: f64,
}

impl Jackknife {
    /// Leaves out each of `values` in turn.
    ///
    /// ```
    /// use mtl_bench::stats::{Jackknife, mean};
    ///
    /// let jackknife = Jackknife::of(&[1.0, 2.0, 3.0], mean)?;
    /// assert!((jackknife.standard_error - (1.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for fewer than 3 values, or a value or statistic that is not finite.
    pub fn of(values: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Result<Self> {
        check_values(values, 3)?;
        let n = values.len() as f64;
        let mut rest = values[1..].to_vec();
        let mut replicates = Vec::with_capacity(values.len());
        for (left_out, &value) in values.iter().enumerate() {
            replicates.push(statistic(&rest));
            if let Some(next) = rest.get_mut(left_out) {
                *next = value;
            }
        }
        let whole = statistic(values);
        if let Some(bad) = replicates.iter().chain([&whole]).find(|s| !s.is_finite()) {
            return Err(Error::argument("statistic", "finite without any one value", bad));
        }
        let centre = mean(&replicates);
        let sum_of = |power: i32| replicates.iter().map(|r| (centre - r).powi(power)).sum::<f64>();
        let (squares, cubes) = (sum_of(2), sum_of(3));
        let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
        Ok(Self {
            standard_error: ((n - 1.0) / n * squares).sqrt(),
            bias: (n - 1.0) * (centre - whole),
            acceleration,
        })
    }
}
