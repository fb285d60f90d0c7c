//! Shapes in CSS pixels, played back to SVG and PNG by plotters.
use anyhow::{anyhow, ensure};
use plotters::{
    backend::{BitMapBackend, DrawingBackend, SVGBackend},
    style::{
        Color as _, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle,
        register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::sync::OnceLock;

/// What SVG viewers look for; the embedded font answers to the same name, so that both outputs agree.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
static FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans.ttf");
/// plotters sizes fonts by ascent + descent in bitmaps: 2384 of 2048 units per em in this font.
const LINE_PER_EM: f64 = 2384.0 / 2048.0;
/// SVG units per CSS pixel: plotters rounds coordinates to whole units.
const SVG_SCALE: f64 = 10.0;
/// PNG pixels per CSS pixel, and samples per PNG pixel and axis, which are averaged.
const PNG_SCALE: usize = 2;
const SAMPLES: usize = 2;

pub(super) const INK: Rgb = Rgb(0x1F, 0x23, 0x28);
pub(super) const MUTED: Rgb = Rgb(0x57, 0x60, 0x6A);
pub(super) const GRID: Rgb = Rgb(0xE4, 0xE7, 0xEB);
pub(super) const AXIS: Rgb = Rgb(0x8C, 0x95, 0x9F);

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rgb(pub(super) u8, pub(super) u8, pub(super) u8);

/// Where a text lies relative to its point, which is at half its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone)]
enum Item {
    Line { points: Vec<(f64, f64)>, width: f64, color: Rgb },
    Rect { from: (f64, f64), to: (f64, f64), color: Rgb },
    Disc { centre: (f64, f64), radius: f64, color: Rgb },
    Text { at: (f64, f64), text: String, size: f64, upwards: bool, color: Rgb, anchor: Anchor },
}

/// A picture; the origin is the upper left corner.
#[derive(Debug, Clone)]
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    items: Vec<Item>,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width: width.ceil(), height: height.ceil(), items: Vec::new() }
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, color: Rgb) {
        self.items.push(Item::Line { points, width, color });
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), color: Rgb) {
        self.items.push(Item::Rect { from, to, color });
    }

    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, color: Rgb) {
        self.items.push(Item::Disc { centre, radius, color });
    }

    pub(super) fn text(&mut self, at: (f64, f64), text: &str, size: f64, color: Rgb, anchor: Anchor) {
        self.items.push(Item::Text { at, text: text.to_owned(), size, upwards: false, color, anchor });
    }

    /// A text that reads from bottom to top.
    pub(super) fn upwards(&mut self, at: (f64, f64), text: &str, size: f64, color: Rgb, anchor: Anchor) {
        self.items.push(Item::Text { at, text: text.to_owned(), size, upwards: true, color, anchor });
    }

    /// The picture as an SVG document.
    pub(super) fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        let size = ((self.width * SVG_SCALE) as u32, (self.height * SVG_SCALE) as u32);
        let mut backend = SVGBackend::with_string(&mut svg, size);
        self.play(&mut backend, SVG_SCALE, 1.24, 0.76)?;
        drop(backend);
        let units = format!("width=\"{}\" height=\"{}\" ", size.0, size.1);
        let pixels = format!(
            "width=\"{}\" height=\"{}\" stroke-linejoin=\"round\" role=\"img\" ",
            self.width, self.height
        );
        Ok(svg.replacen(&units, &pixels, 1))
    }

    /// The picture as a PNG file on white.
    pub(super) fn png(&self) -> anyhow::Result<Vec<u8>> {
        let (width, height) = (self.width as usize * PNG_SCALE, self.height as usize * PNG_SCALE);
        let mut fine = vec![255_u8; width * height * 3 * SAMPLES * SAMPLES];
        {
            let size = ((width * SAMPLES) as u32, (height * SAMPLES) as u32);
            let mut backend = BitMapBackend::with_buffer(&mut fine, size);
            self.play(&mut backend, (PNG_SCALE * SAMPLES) as f64, LINE_PER_EM, LINE_PER_EM / 2.0)?;
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width * 3 {
                let sample = |s: usize| {
                    let (row, column) = (y * SAMPLES + s / SAMPLES, x / 3 * SAMPLES + s % SAMPLES);
                    usize::from(fine[(row * width * SAMPLES + column) * 3 + x % 3])
                };
                pixels.push(((0..SAMPLES * SAMPLES).map(sample).sum::<usize>() / (SAMPLES * SAMPLES)) as u8);
            }
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        Ok(file)
    }

    /// `size_per_em` and `baseline_per_em` say how the backend sizes and places text.
    fn play<B: DrawingBackend>(
        &self,
        backend: &mut B,
        scale: f64,
        size_per_em: f64,
        baseline_per_em: f64,
    ) -> anyhow::Result<()> {
        register()?;
        let at = |(x, y): (f64, f64)| ((x * scale).round() as i32, (y * scale).round() as i32);
        for item in &self.items {
            let drawn = match item {
                Item::Line { points, width, color } => {
                    let width = (width * scale).round().max(1.0) as u32;
                    let style =
                        ShapeStyle { color: paint(*color).to_rgba(), filled: false, stroke_width: width };
                    backend.draw_path(points.iter().map(|&p| at(p)), &style)
                }
                Item::Rect { from, to, color } => {
                    backend.draw_rect(at(*from), at(*to), &paint(*color).filled(), true)
                }
                Item::Disc { centre, radius, color } => {
                    let radius = (radius * scale).round() as u32;
                    backend.draw_circle(at(*centre), radius, &paint(*color).filled(), true)
                }
                Item::Text { at: (x, y), text, size, upwards, color, anchor } => {
                    // Half of the capitals' height (0.73 em) puts the middle of the text at the point.
                    let shift = (0.365 - baseline_per_em) * size;
                    let point = if *upwards { (x + shift, *y) } else { (*x, y + shift) };
                    let horizontal = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let turn = if *upwards { FontTransform::Rotate270 } else { FontTransform::None };
                    let style = TextStyle {
                        font: font(size * scale * size_per_em).transform(turn),
                        color: paint(*color).to_backend_color(),
                        pos: Pos::new(horizontal, VPos::Top),
                    };
                    backend.draw_text(text, &style, at(point))
                }
            };
            drawn.map_err(|e| anyhow!("cannot draw: {e}"))?;
        }
        backend.present().map_err(|e| anyhow!("cannot draw: {e}"))
    }
}

fn paint(Rgb(r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FAMILY), size, FontStyle::Normal)
}

fn register() -> anyhow::Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let good = *DONE.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());
    ensure!(good, "the embedded font does not load");
    Ok(())
}

/// Width of `text` in a font of `size` pixels per em.
pub(super) fn width(text: &str, size: f64) -> anyhow::Result<f64> {
    register()?;
    let measured = font(1000.0 * LINE_PER_EM).box_size(text);
    let (width, _) = measured.map_err(|e| anyhow!("cannot measure text: {e}"))?;
    Ok(f64::from(width) * size / 1000.0)
}

/// The widest of `texts`.
pub(super) fn widest(texts: &[String], size: f64) -> anyhow::Result<f64> {
    texts.iter().try_fold(0.0, |widest: f64, text| Ok(widest.max(width(text, size)?)))
}
