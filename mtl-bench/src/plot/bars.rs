//! Bars, or points on a free axis, with intervals: one group per category, one series per colour.
use super::axis::Axis;
use super::drawing::{Anchor, Color, Drawing};
use super::frame::{self, Frame};
use super::theme::{INK, LABEL, MARGIN, SMALL, WIDTH, series_color};
use super::{Plot, check};
use crate::stats::Estimate;
use crate::store::{Key, Results};
use crate::{Error, Result};

/// Horizontal bars with intervals: long labels fit, and the figure grows with their number.
///
/// Bars start at 0. Where all values are far from 0 use [`BarChart::points`], which shows dots on a free axis.
///
/// ```
/// use mtl_bench::{Estimate, plot::{BarChart, Plot}};
///
/// let chart = BarChart::new("accuracy").bar("parity", "pcgrad", Estimate::of(&[0.90, 0.92], 0.95)?);
/// assert!(chart.to_svg_string()?.contains("parity"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    title: Option<String>,
    value_label: String,
    bars: Vec<(String, String, Estimate)>,
    points: bool,
    scale: f64,
    decimals: usize,
}

impl BarChart {
    /// The label of the axis carries the unit: `latency [ms]`.
    pub fn new(value_label: impl Into<String>) -> Self {
        Self {
            title: None,
            value_label: value_label.into(),
            bars: Vec::new(),
            points: false,
            scale: 1.0,
            decimals: 3,
        }
    }

    /// One group per value of `groups`, one series per value of `series`; means over seeds with t intervals at `level`.
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] when a bar has several values of a seed: filter by setting, metric and step first.
    pub fn from_results(results: &Results, groups: Key, series: Key, level: f64) -> Result<Self> {
        let mut chart = Self::new(results.names(Key::Metric).join(", ").replace('_', " "));
        for (group, part) in results.group_by(groups) {
            for (name, runs) in part.group_by(series) {
                chart = chart.bar(group.clone(), name, runs.estimate(level)?);
            }
        }
        Ok(chart)
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the label of the value axis.
    #[must_use]
    pub fn value_label(mut self, label: impl Into<String>) -> Self {
        self.value_label = label.into();
        self
    }

    /// Adds a bar; groups and series come in the order of their first bar.
    #[must_use]
    pub fn bar(mut self, group: impl Into<String>, series: impl Into<String>, value: Estimate) -> Self {
        // One run says nothing about the spread, whatever the estimate claims.
        let value = Estimate { interval: value.interval.filter(|_| value.n > 1), ..value };
        self.bars.push((group.into(), series.into(), value));
        self
    }

    /// Shows shares as percentages; say `[%]` in the label.
    #[must_use]
    pub fn percent(mut self) -> Self {
        (self.scale, self.decimals) = (100.0, 1);
        self
    }

    /// Sets the decimals of the numbers beside the bars.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals.min(9);
        self
    }

    /// Shows dots on an axis that need not start at 0.
    #[must_use]
    pub fn points(mut self) -> Self {
        self.points = true;
        self
    }

    fn axis(&self) -> Axis {
        let ends = self.bars.iter().flat_map(|(_, _, e)| {
            let interval = e.interval.map_or([e.mean; 2], |i| [i.low, i.high]);
            [interval[0], e.mean, interval[1]].map(|v| v * self.scale)
        });
        if self.points { Axis::padded(ends) } else { Axis::linear(ends.chain([0.0])) }
    }

    fn check(&self) -> Result<()> {
        if self.bars.is_empty() {
            return Err(Error::Draw("there are no bars".to_owned()));
        }
        for (group, series, e) in &self.bars {
            let ends = e.interval.map_or([e.mean; 2], |i| [i.low, i.high]);
            check(&format!("bar `{group}`, `{series}`"), [&e.mean].into_iter().chain(&ends))?;
        }
        Ok(())
    }
}

const BAR: f64 = 17.0;
const GAP: f64 = 14.0;

impl Plot for BarChart {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let groups = first_seen(self.bars.iter().map(|b| b.0.as_str()));
        let series = first_seen(self.bars.iter().map(|b| b.1.as_str()));
        let rows = |group: &str| self.bars.iter().filter(|b| b.0 == group).count() as f64;
        let body: f64 = groups.iter().map(|g| rows(g) * BAR + GAP).sum();
        let mut drawing = Drawing::new(WIDTH, 0.0);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let names: Vec<(&str, Color)> =
            series.iter().enumerate().map(|(i, &s)| (s, series_color(i))).collect();
        // A lone series that is named like nothing or like the only group needs no legend.
        let legend: &[_] = if names.len() > 1 { &names } else { &[] };
        let top = frame::legend(&mut drawing, legend, top)? + 6.0;
        drawing.height = (top + body + MARGIN + 46.0).ceil();
        let mut label_width = 0.0_f64;
        for group in &groups {
            label_width = label_width.max(LABEL.width(group)?);
        }
        let label_width = label_width.min(0.36 * WIDTH);
        let left = MARGIN + label_width + 10.0;
        let number = |v: f64| frame::number(v * self.scale, self.decimals);
        let mut number_width = 0.0_f64;
        for (_, _, estimate) in &self.bars {
            number_width = number_width.max(SMALL.width(&number(estimate.mean))?);
        }
        let right = WIDTH - MARGIN - number_width - 10.0;
        let place = (left, top, right, top + body);
        let frame = Frame::horizontal(&mut drawing, place, (self.axis(), &self.value_label))?;
        let mut y = top + GAP / 2.0;
        for group in groups {
            let height = rows(group) * BAR;
            let text = LABEL.fit(group, label_width)?;
            drawing.text((left - 10.0, y + height / 2.0), &text, LABEL, Anchor::End);
            for (_, name, estimate) in self.bars.iter().filter(|b| b.0 == group) {
                let i = series.iter().position(|s| s == name).unwrap_or(0);
                self.row(&mut drawing, &frame, y + BAR / 2.0, i, estimate);
                let at = (right + 10.0 + number_width, y + BAR / 2.0);
                drawing.text(at, &number(estimate.mean), SMALL, Anchor::End);
                y += BAR;
            }
            y += GAP;
        }
        Ok(drawing)
    }
}

impl BarChart {
    fn row(&self, drawing: &mut Drawing, frame: &Frame, y: f64, i: usize, estimate: &Estimate) {
        let x = |value: f64| frame.x(value * self.scale);
        let color = series_color(i);
        if !self.points {
            let half = BAR / 2.0 - 1.5;
            drawing.rect((x(0.0), y - half), (x(estimate.mean), y + half), color.alpha(0.85));
        }
        if let Some(interval) = estimate.interval {
            let ink = if self.points { color } else { INK };
            let (low, high) = (x(interval.low), x(interval.high));
            drawing.line(&[(low, y), (high, y)], 1.5, ink);
            for end in [low, high] {
                drawing.line(&[(end, y - 3.5), (end, y + 3.5)], 1.5, ink);
            }
        }
        if self.points {
            frame::marker(drawing, (x(estimate.mean), y), i, 4.2, color);
        }
    }
}

fn first_seen<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
