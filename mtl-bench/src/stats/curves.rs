//! Learning curves: alignment on common steps, bands over seeds, area under the curve.
use super::{Bootstrap, Estimate, check_values, interquartile_mean, median, percentile_bootstrap, quantile};
use crate::{Error, Result};

/// Values measured at increasing positions: steps, epochs, or numbers of examples.
///
/// ```
/// use mtl_bench::stats::{Axis, Curve};
///
/// let curve = Curve::new(vec![1.0, 10.0, 100.0], vec![0.0, 0.5, 1.0])?;
/// assert_eq!(curve.area(Axis::Log)?, 0.5); // normalised by the length of the axis
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    x: Vec<f64>,
    y: Vec<f64>,
}

/// Scale of the positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// As they are.
    #[default]
    Linear,
    /// Logarithms of positive positions.
    Log,
}

/// Value between two measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// On the line between them.
    #[default]
    Linear,
    /// The last measurement before, as for a best-so-far score.
    Previous,
}

impl Curve {
    /// A curve of `y` over strictly increasing `x`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there are no points, the lengths differ, a number is not finite, or x does not
    /// increase.
    pub fn new(x: Vec<f64>, y: Vec<f64>) -> Result<Self> {
        check_values(&x, 1)?;
        check_values(&y, 1)?;
        if x.len() != y.len() {
            return Err(Error::argument("y", format!("one value per position ({})", x.len()), y.len()));
        }
        match x.windows(2).position(|w| w[0] >= w[1]) {
            Some(i) => {
                Err(Error::argument("x", "strictly increasing", format!("{} after {}", x[i + 1], x[i])))
            }
            None => Ok(Self { x, y }),
        }
    }

    /// Positions.
    pub fn x(&self) -> &[f64] {
        &self.x
    }

    /// Values.
    pub fn y(&self) -> &[f64] {
        &self.y
    }

    /// Value at `x`; `None` outside the measured range, where nothing is known.
    pub fn at(&self, x: f64, interpolation: Interpolation) -> Option<f64> {
        let after = self.x.partition_point(|p| *p <= x);
        let before = after.checked_sub(1)?;
        if self.x[before] == x {
            return Some(self.y[before]);
        }
        let next = *self.x.get(after)?;
        let share = match interpolation {
            Interpolation::Linear => (x - self.x[before]) / (next - self.x[before]),
            Interpolation::Previous => 0.0,
        };
        Some(self.y[before] + share * (self.y[after] - self.y[before]))
    }

    /// Area under the curve by trapezoids over the length of the axis: the mean height. A single point gives its
    /// value.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for logarithms of positions that are not positive.
    pub fn area(&self, axis: Axis) -> Result<f64> {
        if axis == Axis::Log && self.x[0] <= 0.0 {
            return Err(Error::argument("x", "positive on a logarithmic axis", self.x[0]));
        }
        let position = |i: usize| if axis == Axis::Log { self.x[i].ln() } else { self.x[i] };
        let last = self.x.len() - 1;
        if last == 0 {
            return Ok(self.y[0]);
        }
        let slice = |i: usize| (position(i + 1) - position(i)) * (self.y[i] + self.y[i + 1]) / 2.0;
        Ok((0..last).map(slice).sum::<f64>() / (position(last) - position(0)))
    }

    /// Exponential moving average as a new curve, corrected for the start; `weight` of the past in 0..1.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a weight out of range.
    pub fn smoothed(&self, weight: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&weight) {
            return Err(Error::argument("weight", "at least 0 and below 1", weight));
        }
        let (mut sum, mut total) = (0.0, 0.0);
        let smooth = |v: &f64| {
            sum = weight * sum + (1.0 - weight) * v;
            total = weight * total + (1.0 - weight);
            sum / total
        };
        Ok(Self { x: self.x.clone(), y: self.y.iter().map(smooth).collect() })
    }
}

/// Centre and band of a [`Band`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CurveBand {
    /// Mean with a t interval.
    Mean {
        /// Confidence level.
        level: f64,
    },
    /// Interquartile mean with a bootstrap over curves.
    Iqm(Bootstrap),
    /// Median with quartiles: spread of the runs, not an interval of the median.
    Quartiles,
}

/// A curve over several seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Positions.
    pub x: Vec<f64>,
    /// Centre.
    pub centre: Vec<f64>,
    /// Lower end; equals the centre for a single curve.
    pub low: Vec<f64>,
    /// Upper end.
    pub high: Vec<f64>,
    /// Curves behind each position.
    pub n: usize,
}

/// Summarises `curves`, one per seed, at the positions `x`, which all of them must cover.
///
/// # Errors
///
/// [`Error::Argument`] when there are no curves or positions, or a curve ends before a position, and as the kind of
/// band needs.
pub fn curve_band(
    curves: &[Curve],
    x: &[f64],
    interpolation: Interpolation,
    kind: CurveBand,
) -> Result<Band> {
    check_values(x, 1)?;
    if curves.is_empty() {
        return Err(Error::argument("curves", "at least 1", 0));
    }
    let n = curves.len();
    let mut band = Band { x: x.to_vec(), centre: Vec::new(), low: Vec::new(), high: Vec::new(), n };
    for &position in x {
        let mut values = Vec::with_capacity(n);
        for (i, curve) in curves.iter().enumerate() {
            let outside = || {
                Error::argument(
                    "x",
                    "within the range of every curve",
                    format!("{position}, outside curve {i}"),
                )
            };
            values.push(curve.at(position, interpolation).ok_or_else(outside)?);
        }
        let (centre, low, high) = summary(&values, kind)?;
        band.centre.push(centre);
        band.low.push(low);
        band.high.push(high);
    }
    Ok(band)
}

fn summary(values: &[f64], kind: CurveBand) -> Result<(f64, f64, f64)> {
    let ends = |centre: f64, interval: Option<super::Interval>| match interval {
        Some(i) => (centre, i.low, i.high),
        None => (centre, centre, centre),
    };
    Ok(match kind {
        CurveBand::Mean { level } => {
            let estimate = Estimate::of(values, level)?;
            ends(estimate.mean, estimate.interval)
        }
        CurveBand::Iqm(options) => {
            let iqm = |v: &[f64]| interquartile_mean(&mut v.to_vec());
            let interval =
                if values.len() > 1 { Some(percentile_bootstrap(values, iqm, &options)?) } else { None };
            ends(iqm(values), interval)
        }
        CurveBand::Quartiles => {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            (median(values), quantile(&sorted, 0.25), quantile(&sorted, 0.75))
        }
    })
}
