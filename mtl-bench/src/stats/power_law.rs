//! Power laws of a score over data or model size: Hestness et al., *Deep Learning Scaling Is Predictable,
//! Empirically*, arXiv 1712.00409; broken power law: Caballero et al., arXiv 2210.14891; AICc: Hurvich and Tsai,
//! Biometrika 76, 1989.
use super::least_squares::{Minimum, minimise};
use super::{
    Bootstrap, Interval, IntervalMethod, Replicates, check_level, check_values, constant, mean, t_critical,
};
use crate::{Error, Result};
use rand::RngExt;

/// A fitted parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Least-squares estimate.
    pub value: f64,
    /// Standard error.
    pub standard_error: f64,
    /// t interval.
    pub interval: Interval,
}

impl Parameter {
    pub(super) fn new(value: f64, standard_error: f64, df: f64, level: f64) -> Result<Self> {
        let half = t_critical(level, df)? * standard_error;
        let interval = Interval { low: value - half, high: value + half, level, method: IntervalMethod::T };
        Ok(Self { value, standard_error, interval })
    }
}

/// Options of [`fit_power_law`].
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Weight of each point, such as runs over variance; `None` for equal weights.
    pub weights: Option<Vec<f64>>,
    /// Confidence level of the parameters.
    pub level: f64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { weights: None, level: 0.95 }
    }
}

/// `y = a·x^(−b) + c` by least squares.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerLawFit {
    /// Scale.
    pub a: Parameter,
    /// Exponent.
    pub b: Parameter,
    /// Limit for large x.
    pub c: Parameter,
    /// Covariance of (a, b, c), s²(JᵀJ)⁻¹.
    pub covariance: Vec<Vec<f64>>,
    /// (Weighted) sum of squared residuals.
    pub sse: f64,
    /// Share of the (weighted) variance explained.
    pub r2: f64,
    /// y minus the fit, point by point.
    pub residuals: Vec<f64>,
    x: Vec<f64>,
    weights: Vec<f64>,
}

/// Fits a power law with an offset, from several starts.
///
/// ```
/// use mtl_bench::stats::{FitOptions, fit_power_law};
///
/// let x = [10.0, 20.0, 40.0, 80.0, 160.0];
/// let y = x.map(|x: f64| 2.0 * x.powf(-0.5) + 0.1);
/// let fit = fit_power_law(&x, &y, &FitOptions::default())?;
/// assert!((fit.b.value - 0.5).abs() < 1e-6 && (fit.c.value - 0.1).abs() < 1e-6);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 4 points, an x or weight that is not positive, a number that is not finite, or
/// points that do not determine a power law.
pub fn fit_power_law(x: &[f64], y: &[f64], options: &FitOptions) -> Result<PowerLawFit> {
    check_level(options.level)?;
    let weights = check_points(x, y, options.weights.as_deref(), 4)?;
    let undetermined =
        || Error::argument("points", "scattered around one power law", "fitted by none or by many");
    if constant(y) {
        return Err(Error::argument("y", "different from each other", "all equal"));
    }
    let minimum = best(Shape::Offset, x, y, &weights).ok_or_else(undetermined)?;
    let inverse = minimum.inverse.as_ref().ok_or_else(undetermined)?;
    let df = (x.len() - 3) as f64;
    let variance = minimum.sse / df;
    let covariance: Vec<Vec<f64>> =
        inverse.iter().map(|row| row.iter().map(|v| v * variance).collect()).collect();
    let parameter =
        |i: usize| Parameter::new(minimum.params[i], covariance[i][i].max(0.0).sqrt(), df, options.level);
    let residuals = x.iter().zip(y).map(|(&x, y)| y - Shape::Offset.at(&minimum.params, x)).collect();
    Ok(PowerLawFit {
        a: parameter(0)?,
        b: parameter(1)?,
        c: parameter(2)?,
        sse: minimum.sse,
        r2: 1.0 - minimum.sse / weighted_variation(y, &weights),
        residuals,
        covariance,
        x: x.to_vec(),
        weights,
    })
}

fn weighted_variation(y: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let centre = y.iter().zip(weights).map(|(y, w)| w * y).sum::<f64>() / total;
    y.iter().zip(weights).map(|(y, w)| w * (y - centre).powi(2)).sum()
}

/// Size at which a fitted law reaches a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extrapolation {
    /// The size.
    pub x: f64,
    /// Whether it lies outside the sizes that were measured.
    pub outside: bool,
}

impl PowerLawFit {
    fn params(&self) -> [f64; 3] {
        [self.a.value, self.b.value, self.c.value]
    }

    /// Value of the law at `x`.
    pub fn predict(&self, x: f64) -> f64 {
        Shape::Offset.at(&self.params(), x)
    }

    /// Size at which the law takes the value `target`; `None` when it never does.
    pub fn reaches(&self, target: f64) -> Option<Extrapolation> {
        let [a, b, c] = self.params();
        let x = ((target - c) / a).powf(-1.0 / b);
        let ends = self.x.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &x| (l.min(x), h.max(x)));
        (x.is_finite() && x > 0.0).then_some(Extrapolation { x, outside: x < ends.0 || x > ends.1 })
    }

    /// Percentile intervals of a, b and c from refits to resampled residuals.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for no replicates, a level out of range, or when over 5 % of the refits fail.
    pub fn residual_bootstrap(&self, options: &Bootstrap) -> Result<[Interval; 3]> {
        options.check()?;
        // Residuals on the scale of unit weight, widened for the parameters used up.
        let widen = (self.x.len() as f64 / (self.x.len() - 3) as f64).sqrt();
        let scaled: Vec<f64> =
            self.residuals.iter().zip(&self.weights).map(|(r, w)| r * w.sqrt() * widen).collect();
        let centre = mean(&scaled);
        let mut drawn: [Vec<f64>; 3] = Default::default();
        for replicate in 0..u64::from(options.replicates) {
            let mut rng = options.seed.stream("residual-bootstrap", replicate);
            let noisy = |(&x, w): (&f64, &f64)| {
                self.predict(x) + (scaled[rng.random_range(0..scaled.len())] - centre) / w.sqrt()
            };
            let y: Vec<f64> = self.x.iter().zip(&self.weights).map(noisy).collect();
            let refit = minimise(&self.params(), |p| Shape::Offset.points(p, &self.x, &y, &self.weights));
            if let Some(found) = refit {
                drawn.iter_mut().zip(&found.params).for_each(|(column, p)| column.push(*p));
            }
        }
        let kept = drawn[0].len();
        if (kept as f64) < 0.95 * f64::from(options.replicates) {
            let found = format!("{kept} of {}", options.replicates);
            return Err(Error::argument("residuals", "small enough for 95 % of the refits", found));
        }
        let [a, b, c] = drawn;
        let interval = |value, column| -> Result<Interval> {
            Ok(Replicates::new(value, column)?.percentile(options.level))
        };
        Ok([interval(self.a.value, a)?, interval(self.b.value, b)?, interval(self.c.value, c)?])
    }
}

/// Family of curves that [`choose_power_law`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `a·x^(−b)`.
    Pure,
    /// `a·x^(−b) + c`.
    Offset,
    /// `c + a·x^(−b)·(1 + (x/d)^(1/f))^(−g·f)` with parameters (a, b, c, g, ln d, ln f).
    /// The exponent is b before d and b plus g after it.
    Broken,
}

impl Shape {
    fn at(self, p: &[f64], x: f64) -> f64 {
        match self {
            Self::Pure => p[0] * x.powf(-p[1]),
            Self::Offset => p[0] * x.powf(-p[1]) + p[2],
            Self::Broken => {
                let sharpness = p[5].exp();
                // ln(1 + e^t) without overflow.
                let t = (x.ln() - p[4]) / sharpness;
                let bend = t.max(0.0) + (-t.abs()).exp().ln_1p();
                p[2] + p[0] * (-p[1] * x.ln() - p[3] * sharpness * bend).exp()
            }
        }
    }

    fn gradient(self, p: &[f64], x: f64) -> Vec<f64> {
        let power = x.powf(-p[1]);
        match self {
            Self::Pure => vec![power, -p[0] * x.ln() * power],
            Self::Offset => vec![power, -p[0] * x.ln() * power, 1.0],
            Self::Broken => {
                let slope = |i: usize| {
                    let step = 1e-6 * p[i].abs().max(1e-3);
                    let moved = |s: f64| {
                        let mut q = p.to_vec();
                        q[i] += s;
                        self.at(&q, x)
                    };
                    (moved(step) - moved(-step)) / (2.0 * step)
                };
                (0..p.len()).map(slope).collect()
            }
        }
    }

    fn points(self, p: &[f64], x: &[f64], y: &[f64], weights: &[f64]) -> Vec<(f64, Vec<f64>)> {
        let point = |((&x, y), w): ((&f64, &f64), &f64)| {
            let root = w.sqrt();
            (root * (y - self.at(p, x)), self.gradient(p, x).into_iter().map(|g| root * g).collect())
        };
        x.iter().zip(y).zip(weights).map(point).collect()
    }

    /// Number of parameters.
    pub fn parameters(self) -> usize {
        match self {
            Self::Pure => 2,
            Self::Offset => 3,
            Self::Broken => 6,
        }
    }
}

/// The best minimum over all starts.
fn best(shape: Shape, x: &[f64], y: &[f64], weights: &[f64]) -> Option<Minimum> {
    let (low, high) = y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    // Falling curves approach an offset from above, rising ones from below.
    let offsets: &[f64] = match shape {
        Shape::Pure => &[0.0],
        _ => &[0.5 * low, low - 0.5 * (high - low), high + 0.5 * (high - low)],
    };
    let middle = x.iter().map(|x| x.ln()).sum::<f64>() / x.len() as f64;
    let width = x.iter().map(|x| (x.ln() - middle).abs()).fold(0.0, f64::max);
    let mut found: Vec<Minimum> = Vec::new();
    for &c in offsets {
        for b in [0.1, 0.5, 1.0] {
            let (mut top, mut bottom) = (0.0, 0.0);
            for ((x, y), w) in x.iter().zip(y).zip(weights) {
                let power = x.powf(-b);
                top += w * (y - c) * power;
                bottom += w * power * power;
            }
            let starts = match shape {
                Shape::Pure => vec![vec![top / bottom, b]],
                Shape::Offset => vec![vec![top / bottom, b, c]],
                // The break may be anywhere, and sharp or soft.
                Shape::Broken => [-0.5, 0.0, 0.5]
                    .iter()
                    .flat_map(|at| {
                        [-2.0, -0.5].map(|f| vec![top / bottom, b, c, 0.3, middle + at * width, f])
                    })
                    .collect(),
            };
            for start in starts {
                found.extend(minimise(&start, |p| shape.points(p, x, y, weights)));
            }
        }
    }
    found.into_iter().min_by(|a, b| a.sse.total_cmp(&b.sse))
}

/// Weights of checked points: positive x and weights, everything finite.
pub(super) fn check_points(
    x: &[f64],
    y: &[f64],
    weights: Option<&[f64]>,
    at_least: usize,
) -> Result<Vec<f64>> {
    check_values(x, at_least)?;
    check_values(y, at_least)?;
    let weights = weights.map_or_else(|| vec![1.0; x.len()], <[f64]>::to_vec);
    check_values(&weights, at_least)?;
    if y.len() != x.len() || weights.len() != x.len() {
        let found = format!("{} values, {} weights", y.len(), weights.len());
        return Err(Error::argument("y", format!("one value and weight per x ({})", x.len()), found));
    }
    match x.iter().chain(&weights).find(|v| **v <= 0.0) {
        Some(bad) => Err(Error::argument("x", "positive, as weights", bad)),
        None => Ok(weights),
    }
}

/// A family and how well it explains the points.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapeFit {
    /// Family.
    pub shape: Shape,
    /// Its parameters, in the order of the formula.
    pub parameters: Vec<f64>,
    /// Sum of squared residuals.
    pub sse: f64,
    /// Akaike's criterion corrected for few points; lower is better.
    pub aicc: f64,
}

impl ShapeFit {
    /// Value at `x`.
    pub fn predict(&self, x: f64) -> f64 {
        self.shape.at(&self.parameters, x)
    }
}

/// Fits every family that the number of points allows (parameters + 3 or more); the best AICc first.
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 5 points, as for [`fit_power_law`], or when no family fits.
pub fn choose_power_law(x: &[f64], y: &[f64]) -> Result<Vec<ShapeFit>> {
    let weights = check_points(x, y, None, 5)?;
    let n = x.len() as f64;
    let mut fits = Vec::new();
    for shape in [Shape::Pure, Shape::Offset, Shape::Broken] {
        let k = (shape.parameters() + 1) as f64; // With the variance.
        if n - k - 1.0 <= 0.0 {
            continue;
        }
        if let Some(Minimum { params, sse, .. }) = best(shape, x, y, &weights) {
            let aicc = n * (sse / n).ln() + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0);
            fits.push(ShapeFit { shape, parameters: params, sse, aicc });
        }
    }
    if fits.is_empty() {
        return Err(Error::argument("points", "near some power law", "fitted by none"));
    }
    fits.sort_by(|a, b| a.aicc.total_cmp(&b.aicc));
    Ok(fits)
}
