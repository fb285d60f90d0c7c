//! Fitted power law: points, curve, limit and confidence band on logarithmic axes.
use super::axis::Axis;
use super::drawing::Drawing;
use super::frame::{self, Frame, Swatch};
use super::theme::{HEIGHT, INK, MUTED, WIDTH, series_color};
use super::{Plot, check};
use crate::stats::PowerLawFit;
use crate::{Error, Result};

/// Points of the curve that is drawn.
const SAMPLES: usize = 121;

/// A score over data or model size with its fitted law `y = a·x^(−b) + c`.
///
/// The band is the pointwise t interval of the fitted mean by the delta method: gᵀ Cov(a, b, c) g with
/// g = (x^(−b), −a·ln x·x^(−b), 1). It says how well the curve is known, not where the next run will fall. The curve is
/// paler outside the sizes that were measured.
///
/// ```
/// use mtl_bench::{plot::{Plot, PowerLawPlot}, stats::{FitOptions, fit_power_law}};
///
/// let x = [10.0, 20.0, 40.0, 80.0, 160.0];
/// let y = [0.74, 0.55, 0.41, 0.33, 0.25];
/// let fit = fit_power_law(&x, &y, &FitOptions::default())?;
/// let plot = PowerLawPlot::new("examples", "error [share]", &x, &y, fit)?;
/// assert!(plot.to_svg_string()?.contains("limit c"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PowerLawPlot {
    title: Option<String>,
    x_label: String,
    y_label: String,
    points: Vec<(f64, f64)>,
    fit: PowerLawFit,
    extend_to: Option<f64>,
    linear_y: bool,
}

impl PowerLawPlot {
    /// The points that `fit` was fitted to. Labels carry units.
    ///
    /// # Errors
    ///
    /// [`Error::Draw`] when there are not as many points as the fit has residuals, or fewer than 4.
    pub fn new(
        x_label: impl Into<String>,
        y_label: impl Into<String>,
        x: &[f64],
        y: &[f64],
        fit: PowerLawFit,
    ) -> Result<Self> {
        if x.len() != y.len() || x.len() != fit.residuals.len() || x.len() < 4 {
            return Err(Error::Draw(format!(
                "a fit to {} points cannot be shown with {} x and {} y",
                fit.residuals.len(),
                x.len(),
                y.len()
            )));
        }
        let points = x.iter().copied().zip(y.iter().copied()).collect();
        let (x_label, y_label) = (x_label.into(), y_label.into());
        Ok(Self { title: None, x_label, y_label, points, fit, extend_to: None, linear_y: false })
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Draws the law as far as the size `x`, paler where nothing was measured.
    #[must_use]
    pub fn extend_to(mut self, x: f64) -> Self {
        self.extend_to = Some(x);
        self
    }

    /// Makes the vertical axis linear: for scores that can be 0 or negative.
    #[must_use]
    pub fn linear_y(mut self) -> Self {
        self.linear_y = true;
        self
    }

    fn check(&self) -> Result<()> {
        for (x, y) in &self.points {
            check("a point", [x, y])?;
            if *x <= 0.0 || (*y <= 0.0 && !self.linear_y) {
                return Err(Error::Draw(format!(
                    "the point ({x}, {y}) is not positive on a logarithmic axis"
                )));
            }
        }
        if let Some(x) = self.extend_to {
            check("the size to extend to", [&x])?;
            if x <= 0.0 {
                return Err(Error::Draw(format!("cannot extend to the size {x} on a logarithmic axis")));
            }
        }
        check("the fit", [&self.fit.a.value, &self.fit.b.value, &self.fit.c.value])
    }

    /// Law and half-width of its interval at `x`.
    fn at(&self, x: f64) -> (f64, f64) {
        let (a, b) = (self.fit.a.value, self.fit.b.value);
        let gradient = [x.powf(-b), -a * x.ln() * x.powf(-b), 1.0];
        let mut variance = 0.0;
        for (row, g) in self.fit.covariance.iter().zip(gradient) {
            variance += row.iter().zip(gradient).map(|(c, h)| g * c * h).sum::<f64>();
        }
        // The t quantile of the fit's own level and degrees of freedom.
        let parameter = &self.fit.c;
        let critical = if parameter.standard_error > 0.0 {
            parameter.interval.half_width() / parameter.standard_error
        } else {
            0.0
        };
        (self.fit.predict(x), critical * variance.max(0.0).sqrt())
    }
}

impl Plot for PowerLawPlot {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let measured =
            self.points.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
        let end = self.extend_to.map_or(measured, |x| (measured.0.min(x), measured.1.max(x)));
        let sample = |i: usize| end.0 * (end.1 / end.0).powf(i as f64 / (SAMPLES - 1) as f64);
        let curve: Vec<(f64, f64, f64)> = (0..SAMPLES)
            .map(|i| {
                let x = sample(i);
                let (y, half) = self.at(x);
                (x, y, half)
            })
            .collect();
        for (_, y, half) in &curve {
            check("the fitted curve", [y, half])?;
        }
        let fit = &self.fit;
        let c = fit.c.value;
        // A limit far below all points, or one that a logarithmic axis cannot show, would flatten the data.
        let values = || self.points.iter().map(|p| p.1).chain(curve.iter().map(|p| p.1));
        let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let show_limit = if self.linear_y { (c - low).abs() < high - low } else { c > 0.1 * low };
        let ys = values().chain(show_limit.then_some(c));
        let positive = |v: &f64| self.linear_y || *v > 0.0;
        let y = if self.linear_y { Axis::padded(ys) } else { Axis::log(ys.filter(positive)) };
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let blue = series_color(0);
        let law = format!(
            "fit y = {}·x^({}) + {}",
            frame::significant(fit.a.value),
            frame::significant(-fit.b.value),
            frame::significant(c)
        );
        let interval = fit.c.interval;
        let limit = format!(
            "limit c = {} [{}, {}]{}",
            frame::significant(c),
            frame::significant(interval.low),
            frame::significant(interval.high),
            if show_limit { "" } else { ", outside the axis" }
        );
        let band = format!("{} % interval of the fit", frame::short(100.0 * interval.level));
        let entries = [
            ("measured", Swatch::Marker(0, INK)),
            (law.as_str(), Swatch::Line(blue)),
            (band.as_str(), Swatch::Band(blue.alpha(0.16))),
            (limit.as_str(), Swatch::Dashes(MUTED)),
        ];
        let top = frame::swatches(&mut drawing, &entries, top)?;
        let frame =
            Frame::new(&mut drawing, top, (Axis::log([end.0, end.1]), &self.x_label), (y, &self.y_label))?;
        let place =
            |y: f64| if positive(&y) { frame.y(y).clamp(frame.top, frame.bottom) } else { frame.bottom };
        let upper = curve.iter().map(|(x, y, half)| (frame.x(*x), place(y + half)));
        let lower = curve.iter().rev().map(|(x, y, half)| (frame.x(*x), place(y - half)));
        drawing.area(&upper.chain(lower).collect::<Vec<_>>(), blue.alpha(0.16));
        if show_limit {
            drawing.dashed((frame.left, frame.y(c)), (frame.right, frame.y(c)), 1.5, MUTED);
        }
        for pair in curve.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|(x, y, _)| (frame.x(x), place(y)));
            let middle = (pair[0].0 * pair[1].0).sqrt();
            let inside = measured.0 <= middle && middle <= measured.1;
            drawing.line(&[a, b], 2.0, if inside { blue } else { blue.alpha(0.45) });
        }
        for (x, y) in &self.points {
            frame::marker(&mut drawing, (frame.x(*x), frame.y(*y)), 0, 4.0, INK);
        }
        Ok(drawing)
    }
}
