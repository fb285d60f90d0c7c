//! Radar plot: a few normalised scores per method around a circle.
use super::drawing::{Anchor, Color, Drawing};
use super::frame;
use super::theme::{AXIS, GRID, LABEL, MARGIN, SMALL, WIDTH, series_color};
use super::{Plot, check};
use crate::{Error, Result};
use std::f64::consts::{PI, TAU};

/// Most axes that stay readable; take a [`super::BarChart::points`] for more.
const MOST_AXES: usize = 8;
const RADIUS: f64 = 170.0;
const RINGS: usize = 4;

/// One polygon per method over 3 to 8 axes of one common scale.
///
/// The area of a polygon means nothing: it depends on the order of the axes. For more axes, or for intervals, use
/// [`super::BarChart::points`].
///
/// ```
/// use mtl_bench::plot::{Plot, Radar};
///
/// let radar = Radar::new(["digit", "parity", "order"], "normalised score").series("pcgrad", vec![0.9, 0.8, 0.7]);
/// assert!(radar.to_svg_string()?.contains("parity"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Radar {
    title: Option<String>,
    axes: Vec<String>,
    value_label: String,
    range: (f64, f64),
    series: Vec<(String, Vec<f64>)>,
}

impl Radar {
    /// Axes clockwise from the top, from 0 at the centre to 1 at the rim; the label says what the values are, with
    /// unit.
    pub fn new(axes: impl IntoIterator<Item = impl Into<String>>, value_label: impl Into<String>) -> Self {
        let axes = axes.into_iter().map(Into::into).collect();
        Self { title: None, axes, value_label: value_label.into(), range: (0.0, 1.0), series: Vec::new() }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the values at the centre and at the rim.
    #[must_use]
    pub fn range(mut self, centre: f64, rim: f64) -> Self {
        self.range = (centre, rim);
        self
    }

    /// Adds a method, one value per axis.
    #[must_use]
    pub fn series(mut self, name: impl Into<String>, values: Vec<f64>) -> Self {
        self.series.push((name.into(), values));
        self
    }

    fn check(&self) -> Result<()> {
        let n = self.axes.len();
        if !(3..=MOST_AXES).contains(&n) {
            return Err(Error::Draw(format!(
                "a radar plot has 3 to {MOST_AXES} axes, but this one {n}; use dots"
            )));
        }
        if self.series.is_empty() {
            return Err(Error::Draw("there are no series".to_owned()));
        }
        let (low, high) = self.range;
        check("the range", [&low, &high])?;
        if low >= high {
            return Err(Error::Draw(format!("the rim ({high}) must lie above the centre ({low})")));
        }
        for (name, values) in &self.series {
            check(&format!("series `{name}`"), values)?;
            if values.len() != n {
                return Err(Error::Draw(format!("series `{name}` has {} values for {n} axes", values.len())));
            }
            if let Some(i) = values.iter().position(|v| !(low..=high).contains(v)) {
                let (value, axis) = (values[i], &self.axes[i]);
                return Err(Error::Draw(format!(
                    "series `{name}` has {value} on `{axis}`, outside {low} to {high}"
                )));
            }
        }
        Ok(())
    }
}

impl Plot for Radar {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let n = self.axes.len();
        let mut drawing = Drawing::new(WIDTH, 0.0);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let names: Vec<(&str, Color)> =
            self.series.iter().enumerate().map(|(i, s)| (s.0.as_str(), series_color(i))).collect();
        let top = frame::legend(&mut drawing, &names, top)?;
        let centre = (WIDTH / 2.0, top + 30.0 + RADIUS);
        let at = |axis: usize, radius: f64| {
            let angle = TAU * axis as f64 / n as f64 - PI / 2.0;
            (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin())
        };
        let closed =
            |radii: &[f64]| -> Vec<(f64, f64)> { (0..=n).map(|i| at(i % n, radii[i % n])).collect() };
        for ring in 1..=RINGS {
            let color = if ring == RINGS { AXIS } else { GRID };
            drawing.line(&closed(&vec![RADIUS * ring as f64 / RINGS as f64; n]), 1.0, color);
        }
        for (i, name) in self.axes.iter().enumerate() {
            drawing.line(&[centre, at(i, RADIUS)], 1.0, GRID);
            let (x, y) = at(i, RADIUS + 14.0);
            let (anchor, room) = match x - centre.0 {
                d if d > 1.0 => (Anchor::Start, WIDTH - MARGIN - x),
                d if d < -1.0 => (Anchor::End, x - MARGIN),
                _ => (Anchor::Middle, WIDTH - 2.0 * MARGIN),
            };
            drawing.text((x, y), &LABEL.fit(name, room)?, LABEL, anchor);
        }
        let (low, high) = self.range;
        for (i, (_, values)) in self.series.iter().enumerate() {
            let radii: Vec<f64> = values.iter().map(|v| RADIUS * (v - low) / (high - low)).collect();
            let outline = closed(&radii);
            // Fills of many polygons would mix to mud.
            if self.series.len() <= 3 {
                drawing.area(&outline, series_color(i).alpha(0.10));
            }
            drawing.line(&outline, 2.0, series_color(i));
            for &point in outline.iter().take(n) {
                frame::marker(&mut drawing, point, i, 3.6, series_color(i));
            }
        }
        for ring in 1..RINGS {
            let share = ring as f64 / RINGS as f64;
            let (x, y) = at(0, RADIUS * share);
            drawing.text((x + 6.0, y - 6.0), &frame::short(low + share * (high - low)), SMALL, Anchor::Start);
        }
        let bottom = centre.1 + RADIUS + 44.0;
        let ends = format!(
            "{}: {} at the centre, {} at the rim",
            self.value_label,
            frame::short(low),
            frame::short(high)
        );
        let text = LABEL.fit(&ends, WIDTH - 2.0 * MARGIN)?;
        drawing.text((WIDTH / 2.0, bottom), &text, LABEL, Anchor::Middle);
        drawing.height = (bottom + 8.0 + MARGIN).ceil();
        Ok(drawing)
    }
}
