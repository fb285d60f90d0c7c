//! A drawing: a list of shapes in CSS pixels that every output plays back.
use super::text;
use crate::Result;

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Color {
    pub(super) rgb: [u8; 3],
    pub(super) alpha: f64,
}

impl Color {
    /// An opaque colour from `0xRRGGBB`.
    pub const fn hex(value: u32) -> Self {
        Self { rgb: [(value >> 16) as u8, (value >> 8) as u8, value as u8], alpha: 1.0 }
    }

    /// The same colour, partly transparent.
    #[must_use]
    pub const fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }
}

/// Where a text lies relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The point is at the left end.
    Start,
    /// The point is in the middle.
    Middle,
    /// The point is at the right end.
    End,
}

/// Size, weight and direction of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Font {
    /// Height of an em.
    pub size: f64,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it reads from bottom to top.
    pub upwards: bool,
    /// Its colour.
    pub color: Color,
}

impl Font {
    /// A plain horizontal font.
    pub const fn new(size: f64, color: Color) -> Self {
        Self { size, bold: false, upwards: false, color }
    }

    /// The bold font.
    #[must_use]
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The font that reads from bottom to top.
    #[must_use]
    pub const fn upwards(self) -> Self {
        Self { upwards: true, ..self }
    }

    /// Width of `text` in this font.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Draw`] when the embedded font does not load.
    pub fn width(&self, text: &str) -> Result<f64> {
        text::width(text, self.size, self.bold)
    }

    /// `text`, cut with an ellipsis so that it is at most `width` wide.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Draw`] when the embedded font does not load.
    pub fn fit(&self, text: &str, width: f64) -> Result<String> {
        if self.width(text)? <= width {
            return Ok(text.to_owned());
        }
        let mut cut: Vec<char> = text.chars().collect();
        loop {
            cut.pop();
            let shorter = cut.iter().collect::<String>().trim_end().to_owned() + "…";
            if cut.is_empty() || self.width(&shorter)? <= width {
                return Ok(shorter);
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Line { points: Vec<(f64, f64)>, width: f64, color: Color },
    Area { points: Vec<(f64, f64)>, color: Color },
    Rect { from: (f64, f64), to: (f64, f64), color: Color },
    Disc { centre: (f64, f64), radius: f64, color: Color },
    Text { at: (f64, f64), text: String, font: Font, anchor: Anchor },
}

/// Shapes in the order of painting; the origin is the upper left corner.
///
/// ```
/// use mtl_bench::plot::{Anchor, Color, Drawing, Font};
///
/// let mut drawing = Drawing::new(200.0, 100.0);
/// drawing.line(&[(10.0, 90.0), (190.0, 10.0)], 1.5, Color::hex(0x0072B2));
/// drawing.text((100.0, 50.0), "Δm", Font::new(12.0, Color::hex(0)), Anchor::Middle);
/// assert!(drawing.to_svg()?.contains("Δm"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) items: Vec<Item>,
}

impl Drawing {
    /// An empty drawing of this size.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, items: Vec::new() }
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, color: Color) {
        self.items.push(Item::Line { points: points.to_vec(), width, color });
    }

    /// A dashed straight line.
    pub fn dashed(&mut self, from: (f64, f64), to: (f64, f64), width: f64, color: Color) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |s: f64| (from.0 + (to.0 - from.0) * s / length, from.1 + (to.1 - from.1) * s / length);
        let mut start = 0.0;
        while start < length {
            self.line(&[at(start), at((start + 5.0).min(length))], width, color);
            start += 9.0;
        }
    }

    /// A filled polygon.
    pub fn area(&mut self, points: &[(f64, f64)], color: Color) {
        self.items.push(Item::Area { points: points.to_vec(), color });
    }

    /// A filled rectangle.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), color: Color) {
        let (low, high) = ((from.0.min(to.0), from.1.min(to.1)), (from.0.max(to.0), from.1.max(to.1)));
        self.items.push(Item::Rect { from: low, to: high, color });
    }

    /// A filled disc.
    pub fn disc(&mut self, centre: (f64, f64), radius: f64, color: Color) {
        self.items.push(Item::Disc { centre, radius, color });
    }

    /// A text whose middle height is at the point.
    pub fn text(&mut self, at: (f64, f64), text: &str, font: Font, anchor: Anchor) {
        self.items.push(Item::Text { at, text: text.to_owned(), font, anchor });
    }
}
