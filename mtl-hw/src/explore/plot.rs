//! Plot data of a front.
use super::front::ParetoFront;
use super::space::Space;
use crate::{HwError, Result};
use serde::Serialize;

/// A front as two columns and labels, for any plotting program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlotData {
    /// Title of the horizontal axis.
    pub x_label: String,
    /// Title of the vertical axis.
    pub y_label: String,
    /// Horizontal values, rising.
    pub x: Vec<f64>,
    /// Vertical values.
    pub y: Vec<f64>,
    /// Parameters of each point.
    pub labels: Vec<String>,
    /// Index of the knee.
    pub knee: Option<usize>,
}

impl ParetoFront {
    /// Two goals of the front as plot data; accuracy with its own sign.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when a goal index is out of range.
    pub fn plot_data(&self, space: &Space, x: usize, y: usize) -> Result<PlotData> {
        let goal = |axis: usize| {
            let must = || format!("below the number of goals, {}", self.goals.len());
            self.goals.get(axis).copied().ok_or_else(|| HwError::config("axis", must(), axis))
        };
        let (gx, gy) = (goal(x)?, goal(y)?);
        let sign = |g| if g == super::Goal::Accuracy { -1.0 } else { 1.0 };
        let knee = self.knee().map(|(p, _)| p.clone());
        let mut rows: Vec<(f64, f64, String, bool)> = self
            .points
            .iter()
            .map(|(point, o)| {
                let value = |g: super::Goal| sign(g) * g.cost(o).unwrap_or(f64::NAN);
                (value(gx), value(gy), space.describe(point), knee.as_ref() == Some(point))
            })
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Ok(PlotData {
            x_label: gx.to_string(),
            y_label: gy.to_string(),
            knee: rows.iter().position(|r| r.3),
            x: rows.iter().map(|r| r.0).collect(),
            y: rows.iter().map(|r| r.1).collect(),
            labels: rows.into_iter().map(|r| r.2).collect(),
        })
    }
}
