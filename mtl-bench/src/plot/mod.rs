//! Figures: learning curves, bars, matrices, Pareto fronts, rank diagrams, profiles, radar and forest plots, fitted
//! power laws; one drawing, played back as SVG and PNG.
mod axis;
mod bars;
mod cd_diagram;
mod curves;
mod drawing;
mod forest;
mod frame;
mod heat_map;
mod pareto;
mod power_law;
mod profiles;
mod radar;
mod render;
mod text;
mod theme;

pub use bars::BarChart;
pub use cd_diagram::CriticalDifferenceDiagram;
pub use curves::{Curve, CurvePoint, LearningCurves};
pub use drawing::{Anchor, Color, Drawing, Font};
pub use forest::ForestPlot;
pub use heat_map::HeatMap;
pub use pareto::{ParetoPlot, ParetoPoint};
pub use power_law::PowerLawPlot;
pub use profiles::ProfilePlot;
pub use radar::Radar;
pub use theme::SERIES;

use crate::Result;
use std::path::Path;

/// A figure. Implement [`Plot::draw`]; the outputs come for free.
///
/// ```
/// use mtl_bench::plot::{Curve, CurvePoint, LearningCurves, Plot};
///
/// let points = [(0.0, 0.5), (100.0, 0.8)].map(|(x, mean)| CurvePoint { x, mean, band: None });
/// let plot = LearningCurves::new("step", "accuracy").curve(Curve { name: "pcgrad".into(), points: points.to_vec() });
/// assert!(plot.to_svg_string()?.starts_with("<svg"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
pub trait Plot {
    /// Lays the figure out.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Draw`] when there is nothing to show or a number is not finite.
    fn draw(&self) -> Result<Drawing>;

    /// The figure as an SVG document.
    ///
    /// # Errors
    ///
    /// As [`Plot::draw`].
    fn to_svg_string(&self) -> Result<String> {
        self.draw()?.to_svg()
    }

    /// Writes the figure as SVG, on white so that it can be read wherever it is shown.
    ///
    /// # Errors
    ///
    /// As [`Plot::draw`], and [`mtl_core::Error::Io`] when the file cannot be written.
    fn save_svg(&self, path: &Path) -> Result<()> {
        let paper = "><rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>";
        let svg = self.to_svg_string()?.replacen('>', paper, 1);
        Ok(mtl_core::files::write_atomic(path, |w| w.write_all(svg.as_bytes()))?)
    }

    /// Writes the figure as PNG, at two pixels per CSS pixel.
    ///
    /// # Errors
    ///
    /// As [`Plot::save_svg`].
    fn save_png(&self, path: &Path) -> Result<()> {
        let png = self.draw()?.to_png()?;
        Ok(mtl_core::files::write_atomic(path, |w| w.write_all(&png))?)
    }
}

fn check<'a>(what: &str, values: impl IntoIterator<Item = &'a f64>) -> Result<()> {
    match values.into_iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(crate::Error::Draw(format!("{what} has the value {bad}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
