//! The embedded font: measured here, drawn by the backends.
use crate::{Error, Result};
use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};
use std::sync::OnceLock;

/// What SVG viewers look for; the embedded font answers to the same name, so that both outputs agree.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// plotters sizes fonts by ascent + descent in bitmaps: 2384 of 2048 units per em in this font.
pub(super) const LINE_PER_EM: f64 = 2384.0 / 2048.0;

static REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold.ttf");

pub(super) fn register() -> Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let good = DONE.get_or_init(|| {
        register_font(FAMILY, FontStyle::Normal, REGULAR).is_ok()
            && register_font(FAMILY, FontStyle::Bold, BOLD).is_ok()
    });
    if *good { Ok(()) } else { Err(Error::Draw("the embedded font does not load".to_owned())) }
}

pub(super) fn font(size: f64, bold: bool) -> FontDesc<'static> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FAMILY), size, style)
}

pub(super) fn width(text: &str, size: f64, bold: bool) -> Result<f64> {
    register()?;
    let measured = font(1000.0 * LINE_PER_EM, bold).box_size(text);
    let (width, _) = measured.map_err(|e| Error::Draw(e.to_string()))?;
    Ok(f64::from(width) * size / 1000.0)
}
