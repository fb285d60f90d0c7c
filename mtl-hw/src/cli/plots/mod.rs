//! Figures as SVG and PNG, in one style.
pub(crate) mod breakdown;
mod canvas;
mod frame;
pub(crate) mod pareto;
pub(crate) mod roofline;

use crate::cli::files;
use anyhow::bail;
use canvas::{Canvas, Rgb};
use std::path::Path;

const TITLE: f64 = 15.0;
const LABEL: f64 = 12.5;
const TICK: f64 = 11.5;
const MARGIN: f64 = 16.0;

/// Okabe and Ito's colours, told apart with every kind of colour blindness.
const SERIES: [Rgb; 6] = [
    Rgb(0x00, 0x72, 0xB2),
    Rgb(0xD5, 0x5E, 0x00),
    Rgb(0x00, 0x9E, 0x73),
    Rgb(0xCC, 0x79, 0xA7),
    Rgb(0xE6, 0x9F, 0x00),
    Rgb(0x56, 0xB4, 0xE9),
];

/// Writes a figure in the format that the file's name asks for.
pub(crate) fn save(path: &Path, canvas: &Canvas) -> anyhow::Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => save_svg(path, &canvas.svg()?),
        Some("png") => {
            let png = canvas.png()?;
            files::write(path, |out| Ok(out.write_all(&png)?))
        }
        _ => bail!("`{}`: a plot is a .svg or a .png", path.display()),
    }
}

/// Writes a figure that is SVG already.
pub(crate) fn save_svg(path: &Path, svg: &str) -> anyhow::Result<()> {
    if path.extension().is_none_or(|e| e != "svg") {
        bail!("`{}`: this plot is a .svg", path.display());
    }
    files::write(path, |out| Ok(out.write_all(svg.as_bytes())?))
}
