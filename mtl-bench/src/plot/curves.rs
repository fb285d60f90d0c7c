//! Learning curves with confidence bands.
use super::axis::Axis;
use super::drawing::{Color, Drawing};
use super::frame::{self, Frame};
use super::theme::{HEIGHT, WIDTH, series_color};
use super::{Plot, check};
use crate::store::{Key, Results};
use crate::{Error, Result};

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Step.
    pub x: f64,
    /// Mean over seeds.
    pub mean: f64,
    /// Ends of the interval; `None` for a single seed.
    pub band: Option<(f64, f64)>,
}

/// A named curve, its points by ascending x.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<CurvePoint>,
}

/// Curves over steps, with the band of their intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningCurves {
    title: Option<String>,
    x_label: String,
    y_label: String,
    curves: Vec<Curve>,
}

impl LearningCurves {
    /// Labels carry units: `step`, `accuracy [%]`.
    pub fn new(x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: None, x_label: x_label.into(), y_label: y_label.into(), curves: Vec::new() }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a curve.
    #[must_use]
    pub fn curve(mut self, curve: Curve) -> Self {
        self.curves.push(curve);
        self
    }

    /// One curve per value of `key`: the mean over seeds at each step, with its t interval at `level`.
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] when a step has several values of a seed: filter by task, setting and metric first.
    pub fn from_results(results: &Results, key: Key, level: f64) -> Result<Self> {
        let metric = results.names(Key::Metric).join(", ").replace('_', " ");
        let mut plot = Self::new("step", metric);
        for (name, group) in results.group_by(key) {
            let mut points = Vec::new();
            for step in group.steps() {
                let estimate = group.filter(|r| r.step == step).estimate(level)?;
                let band = estimate.interval.map(|i| (i.low, i.high));
                points.push(CurvePoint { x: step as f64, mean: estimate.mean, band });
            }
            plot = plot.curve(Curve { name, points });
        }
        Ok(plot)
    }

    /// Sets the label of the vertical axis.
    #[must_use]
    pub fn y_label(mut self, label: impl Into<String>) -> Self {
        self.y_label = label.into();
        self
    }

    /// The range of y: all means, and bands as far as they stay within two spans of the means.
    fn y_values(&self) -> Vec<f64> {
        let points = || self.curves.iter().flat_map(|c| &c.points);
        let (low, high) =
            points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.mean), h.max(p.mean)));
        // The interval of two or three seeds can be so wide that the curves would vanish beside it.
        let room = (high - low).max(0.02 * high.abs());
        let inside = |v: f64| v.clamp(low - room, high + room);
        points()
            .flat_map(|p| p.band.map_or([p.mean; 2], |(l, h)| [inside(l), inside(h)]))
            .chain([low, high])
            .collect()
    }
}

impl Plot for LearningCurves {
    fn draw(&self) -> Result<Drawing> {
        if self.curves.iter().all(|c| c.points.is_empty()) {
            return Err(Error::Draw("there are no points".to_owned()));
        }
        for curve in &self.curves {
            let what = format!("curve `{}`", curve.name);
            let bands = curve.points.iter().filter_map(|p| p.band.as_ref());
            check(&what, curve.points.iter().flat_map(|p| [&p.x, &p.mean]))?;
            check(&what, bands.flat_map(|(l, h)| [l, h]))?;
        }
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let names: Vec<(&str, Color)> =
            self.curves.iter().enumerate().map(|(i, c)| (c.name.as_str(), series_color(i))).collect();
        let top = frame::growing_legend(&mut drawing, &names, top)?;
        let x = Axis::tight(self.curves.iter().flat_map(|c| &c.points).map(|p| p.x));
        let y = Axis::linear(self.y_values());
        let frame = Frame::new(&mut drawing, top, (x, &self.x_label), (y, &self.y_label))?;
        for (i, curve) in self.curves.iter().enumerate() {
            band(&mut drawing, &frame, curve, series_color(i));
        }
        for (i, curve) in self.curves.iter().enumerate() {
            line(&mut drawing, &frame, curve, i);
        }
        Ok(drawing)
    }
}

fn band(drawing: &mut Drawing, frame: &Frame, curve: &Curve, color: Color) {
    let y = |value: f64| frame.y(value).clamp(frame.top, frame.bottom);
    for run in curve.points.chunk_by(|a, b| a.band.is_some() == b.band.is_some()) {
        let upper = run.iter().filter_map(|p| p.band.map(|(_, high)| (frame.x(p.x), y(high))));
        let lower = run.iter().rev().filter_map(|p| p.band.map(|(low, _)| (frame.x(p.x), y(low))));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        if outline.len() > 2 {
            drawing.area(&outline, color.alpha(0.16));
        }
    }
}

fn line(drawing: &mut Drawing, frame: &Frame, curve: &Curve, i: usize) {
    let color = series_color(i);
    let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (frame.x(p.x), frame.y(p.mean))).collect();
    drawing.line(&points, 2.0, color);
    let every = points.len().div_ceil(25).max(1);
    for (k, &point) in points.iter().enumerate() {
        if k % every == 0 || k + 1 == points.len() {
            frame::marker(drawing, point, i, 3.6, color);
        }
    }
}
