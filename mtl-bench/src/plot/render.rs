//! Plays a drawing back to SVG and PNG.
use super::drawing::{Anchor, Color, Drawing, Font, Item};
use super::text;
use crate::{Error, Result};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontTransform, RGBAColor, ShapeStyle, TextStyle};

/// SVG units per CSS pixel: plotters rounds coordinates to whole units.
const SVG_SCALE: f64 = 10.0;
/// PNG pixels per CSS pixel.
const PNG_SCALE: usize = 2;
/// Samples per PNG pixel along each axis, averaged: smooth edges for every shape.
const SAMPLES: usize = 2;

/// How a backend places text.
struct TextRules {
    /// Font size it wants, per em.
    size_per_em: f64,
    /// Distance from the point given to the baseline, per em.
    baseline_per_em: f64,
}

impl Drawing {
    /// The drawing as an SVG document.
    ///
    /// # Errors
    ///
    /// [`Error::Draw`] when plotters fails.
    pub fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        let size = ((self.width * SVG_SCALE) as u32, (self.height * SVG_SCALE) as u32);
        let mut backend = SVGBackend::with_string(&mut svg, size);
        self.play(&mut backend, SVG_SCALE, &TextRules { size_per_em: 1.24, baseline_per_em: 0.76 })?;
        drop(backend);
        let units = format!("width=\"{}\" height=\"{}\" ", size.0, size.1);
        // Round joins keep sharp turns of a curve from growing spikes.
        let pixels = format!(
            "width=\"{}\" height=\"{}\" stroke-linejoin=\"round\" role=\"img\" ",
            self.width, self.height
        );
        Ok(svg.replacen(&units, &pixels, 1))
    }

    /// The drawing as a PNG file on white, at two pixels per CSS pixel.
    ///
    /// # Errors
    ///
    /// [`Error::Draw`] when plotters or the encoder fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let (width, height) = (self.width as usize * PNG_SCALE, self.height as usize * PNG_SCALE);
        let (fine_width, fine_height) = (width * SAMPLES, height * SAMPLES);
        let mut fine = vec![255_u8; fine_width * fine_height * 3];
        {
            let mut backend = BitMapBackend::with_buffer(&mut fine, (fine_width as u32, fine_height as u32));
            let rules =
                TextRules { size_per_em: text::LINE_PER_EM, baseline_per_em: text::LINE_PER_EM / 2.0 };
            self.play(&mut backend, (PNG_SCALE * SAMPLES) as f64, &rules)?;
        }
        encode(&shrink(&fine, width, height), width as u32, height as u32)
    }

    fn play<B: DrawingBackend>(&self, backend: &mut B, scale: f64, rules: &TextRules) -> Result<()> {
        text::register()?;
        for item in &self.items {
            draw(backend, item, scale, rules)?;
        }
        backend.present().map_err(fault)
    }
}

fn draw<B: DrawingBackend>(backend: &mut B, item: &Item, scale: f64, rules: &TextRules) -> Result<()> {
    let at = |(x, y): (f64, f64)| ((x * scale).round() as i32, (y * scale).round() as i32);
    let drawn = match item {
        Item::Line { points, width, color } => {
            let style = ShapeStyle {
                color: paint(*color),
                filled: false,
                stroke_width: (width * scale).round().max(1.0) as u32,
            };
            backend.draw_path(points.iter().map(|&p| at(p)), &style)
        }
        Item::Area { points, color } => backend.fill_polygon(points.iter().map(|&p| at(p)), &fill(*color)),
        Item::Rect { from, to, color } => backend.draw_rect(at(*from), at(*to), &fill(*color), true),
        Item::Disc { centre, radius, color } => {
            backend.draw_circle(at(*centre), (radius * scale).round() as u32, &fill(*color), true)
        }
        Item::Text { at: (x, y), text, font, anchor } => {
            // Half of the capitals' height (0.73 em) puts the middle of the text at the point.
            let shift = (0.365 - rules.baseline_per_em) * font.size;
            let point = if font.upwards { (x + shift, *y) } else { (*x, y + shift) };
            backend.draw_text(text, &text_style(font, *anchor, scale * rules.size_per_em), at(point))
        }
    };
    drawn.map_err(fault)
}

fn fault(error: impl std::fmt::Display) -> Error {
    Error::Draw(error.to_string())
}

fn text_style(font: &Font, anchor: Anchor, scale: f64) -> TextStyle<'static> {
    let horizontal = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let transform = if font.upwards { FontTransform::Rotate270 } else { FontTransform::None };
    let desc = text::font(font.size * scale, font.bold).transform(transform);
    TextStyle {
        font: desc,
        color: paint(font.color).to_backend_color(),
        pos: Pos::new(horizontal, VPos::Top),
    }
}

fn paint(color: Color) -> RGBAColor {
    let [r, g, b] = color.rgb;
    RGBAColor(r, g, b, color.alpha)
}

fn fill(color: Color) -> ShapeStyle {
    ShapeStyle { color: paint(color), filled: true, stroke_width: 0 }
}

/// Averages blocks of samples.
fn shrink(fine: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    let stride = width * SAMPLES * 3;
    for y in 0..height {
        for x in 0..width * 3 {
            let (column, channel) = (x / 3, x % 3);
            let start = y * SAMPLES * stride + column * SAMPLES * 3 + channel;
            let block = (0..SAMPLES * SAMPLES).map(|s| start + s / SAMPLES * stride + s % SAMPLES * 3);
            let sum: usize = block.map(|i| usize::from(fine[i])).sum();
            pixels.push((sum / (SAMPLES * SAMPLES)) as u8);
        }
    }
    pixels
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut attempt = || -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    };
    attempt().map_err(fault)?;
    Ok(file)
}
