//! Title, legend and axes around the data, laid out so that nothing overlaps.
use super::axis::Axis;
use super::drawing::{Anchor, Color, Drawing};
use super::theme::{AXIS, GRID, LABEL, MARGIN, TICK, TITLE};
use crate::Result;

/// The shapes that tell series apart besides their colours.
pub(super) fn marker(drawing: &mut Drawing, (x, y): (f64, f64), kind: usize, size: f64, color: Color) {
    let shape = |corners: &[(f64, f64)]| -> Vec<(f64, f64)> {
        corners.iter().map(|(dx, dy)| (x + dx * size, y + dy * size)).collect()
    };
    // Colours repeat after 8: the next 8 series take another shape each.
    match (kind + kind / 8) % 4 {
        0 => drawing.disc((x, y), size, color),
        1 => drawing.rect((x - 0.9 * size, y - 0.9 * size), (x + 0.9 * size, y + 0.9 * size), color),
        2 => drawing.area(&shape(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)]), color),
        _ => drawing.area(&shape(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]), color),
    }
}

/// Draws the title at the top; returns where the rest may begin.
pub(super) fn title(drawing: &mut Drawing, title: Option<&str>) -> Result<f64> {
    let Some(title) = title else { return Ok(MARGIN) };
    let text = TITLE.fit(title, drawing.width - 2.0 * MARGIN)?;
    drawing.text((MARGIN, MARGIN + 8.0), &text, TITLE, Anchor::Start);
    Ok(MARGIN + 28.0)
}

/// What stands before a name in a legend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Swatch {
    /// The marker of the i-th series.
    Marker(usize, Color),
    /// A line.
    Line(Color),
    /// A dashed line.
    Dashes(Color),
    /// An area.
    Band(Color),
}

impl Swatch {
    fn draw(self, drawing: &mut Drawing, (x, y): (f64, f64)) {
        match self {
            Self::Marker(i, color) => marker(drawing, (x, y), i, 5.0, color),
            Self::Line(color) => drawing.line(&[(x - 6.0, y), (x + 6.0, y)], 2.0, color),
            Self::Dashes(color) => drawing.dashed((x - 6.0, y), (x + 6.0, y), 1.5, color),
            Self::Band(color) => drawing.rect((x - 6.0, y - 5.0), (x + 6.0, y + 5.0), color),
        }
    }
}

/// Draws the names of the series above the data, in as many lines as they need; returns where the rest may begin.
pub(super) fn legend(drawing: &mut Drawing, names: &[(&str, Color)], top: f64) -> Result<f64> {
    let markers =
        |(i, (name, color)): (usize, &(&'_ str, Color))| (name.to_string(), Swatch::Marker(i, *color));
    let entries: Vec<(String, Swatch)> = names.iter().enumerate().map(markers).collect();
    let entries: Vec<(&str, Swatch)> =
        entries.iter().map(|(name, swatch)| (name.as_str(), *swatch)).collect();
    swatches(drawing, &entries, top)
}

/// As [`legend`], for a figure of fixed height, which grows by what the legend takes beyond two lines.
pub(super) fn growing_legend(drawing: &mut Drawing, names: &[(&str, Color)], top: f64) -> Result<f64> {
    let below = legend(drawing, names, top)?;
    drawing.height += (below - top - 40.0).max(0.0);
    Ok(below)
}

/// As [`legend`], with other signs than markers.
pub(super) fn swatches(drawing: &mut Drawing, entries: &[(&str, Swatch)], top: f64) -> Result<f64> {
    const SWATCH: f64 = 18.0;
    const LINE: f64 = 20.0;
    let right = drawing.width - MARGIN;
    let (mut x, mut y) = (MARGIN, top + 8.0);
    for (name, swatch) in entries {
        let name = LABEL.fit(name, right - MARGIN - SWATCH)?;
        let width = SWATCH + LABEL.width(&name)? + 18.0;
        if x > MARGIN && x + width - 18.0 > right {
            (x, y) = (MARGIN, y + LINE);
        }
        swatch.draw(drawing, (x + 6.0, y));
        drawing.text((x + SWATCH, y), &name, LABEL, Anchor::Start);
        x += width;
    }
    Ok(if entries.is_empty() { top } else { y + LINE })
}

/// A number with so many decimals, with a true minus sign.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.chars().all(|c| c == '0' || c == '.') => zero.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// A number without trailing zeros, at most 4 decimals.
pub(super) fn short(value: f64) -> String {
    let text = number(value, 4);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with three significant digits.
pub(super) fn significant(value: f64) -> String {
    let magnitude = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    if (-4.0..6.0).contains(&magnitude) {
        number(value, (2.0 - magnitude).clamp(0.0, 6.0) as usize)
    } else {
        format!("{value:.2e}").replace('-', "−")
    }
}

/// The rectangle that data are drawn in, with its axes.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    /// Draws two numeric axes with their grid and labels below `top`.
    pub(super) fn new(drawing: &mut Drawing, top: f64, x: (Axis, &str), y: (Axis, &str)) -> Result<Self> {
        let y_ticks = y.0.ticks(6.0);
        let mut left = MARGIN + 26.0;
        left += widest(y_ticks.iter().map(|t| t.1.as_str()))?;
        let (right, bottom) = (drawing.width - MARGIN - 10.0, drawing.height - MARGIN - 42.0);
        let frame = Self { left, top: top + 8.0, right, bottom, x: x.0, y: y.0 };
        for (value, text) in &y_ticks {
            let at = frame.y(*value);
            drawing.line(&[(left, at), (right, at)], 1.0, GRID);
            drawing.text((left - 8.0, at), text, TICK, Anchor::End);
        }
        frame.bottom_axis(drawing, x.1, false)?;
        frame.side_label(drawing, y.1)?;
        Ok(frame)
    }

    /// A frame of known place with one numeric axis along the bottom and a grid of vertical lines.
    pub(super) fn horizontal(
        drawing: &mut Drawing,
        (left, top, right, bottom): (f64, f64, f64, f64),
        x: (Axis, &str),
    ) -> Result<Self> {
        let frame = Self { left, top, right, bottom, x: x.0, y: Axis::linear([]) };
        frame.bottom_axis(drawing, x.1, true)?;
        Ok(frame)
    }

    fn bottom_axis(&self, drawing: &mut Drawing, label: &str, grid: bool) -> Result<()> {
        let ticks = self.x.ticks(7.0);
        let mut free = f64::NEG_INFINITY;
        for (value, text) in &ticks {
            let at = self.x(*value);
            if grid {
                drawing.line(&[(at, self.top), (at, self.bottom)], 1.0, GRID);
            }
            let half = TICK.width(text)? / 2.0;
            if at - half > free {
                drawing.line(&[(at, self.bottom), (at, self.bottom + 4.0)], 1.0, AXIS);
                drawing.text((at, self.bottom + 14.0), text, TICK, Anchor::Middle);
                free = at + half + 6.0;
            }
        }
        drawing.line(&[(self.left, self.bottom), (self.right, self.bottom)], 1.0, AXIS);
        let text = LABEL.fit(label, drawing.width - 2.0 * MARGIN)?;
        // Centred on the axis, but moved if that would leave the figure.
        let half = LABEL.width(&text)? / 2.0;
        let centre = ((self.left + self.right) / 2.0).min(drawing.width - MARGIN - half).max(MARGIN + half);
        drawing.text((centre, self.bottom + 35.0), &text, LABEL, Anchor::Middle);
        Ok(())
    }

    fn side_label(&self, drawing: &mut Drawing, label: &str) -> Result<()> {
        let text = LABEL.fit(label, self.bottom - self.top)?;
        let middle = (self.top + self.bottom) / 2.0;
        drawing.text((MARGIN + 4.0, middle), &text, LABEL.upwards(), Anchor::Middle);
        Ok(())
    }

    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }
}

/// Width of the widest of some tick labels.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> Result<f64> {
    let mut most = 0.0_f64;
    for text in texts {
        most = most.max(TICK.width(text)?);
    }
    Ok(most)
}
