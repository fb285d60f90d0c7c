//! Matrices as heat maps: accuracy after each experience, affinity between tasks.
use super::drawing::{Anchor, Color, Drawing};
use super::frame;
use super::theme::{GRID, LABEL, MARGIN, MUTED, TICK, diverging, viridis};
use super::{Plot, check};
use crate::metrics::AccuracyMatrix;
use crate::{Error, Result};

/// A matrix of numbers with named rows and columns; unknown entries stay grey.
///
/// ```
/// use mtl_bench::{metrics::AccuracyMatrix, plot::{HeatMap, Plot}};
///
/// let tasks = ["0/1".to_owned(), "2/3".to_owned()];
/// let matrix = AccuracyMatrix::full(&tasks, vec![vec![0.99, 0.5], vec![0.7, 0.98]])?;
/// assert!(HeatMap::accuracy(&matrix).to_svg_string()?.contains("0.98"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    title: Option<String>,
    row_label: String,
    column_label: String,
    value_label: String,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<Option<f64>>>,
    range: Option<(f64, f64)>,
    decimals: usize,
    centre: Option<f64>,
}

impl HeatMap {
    /// One row of values per name in `rows`, one value per name in `columns`.
    ///
    /// # Errors
    ///
    /// [`Error::Draw`] when the matrix is empty or its size is another.
    pub fn new(rows: &[String], columns: &[String], values: Vec<Vec<Option<f64>>>) -> Result<Self> {
        let fits = values.len() == rows.len() && values.iter().all(|row| row.len() == columns.len());
        if !fits || rows.is_empty() || columns.is_empty() {
            return Err(Error::Draw(format!(
                "a matrix of {} × {} names needs as many values",
                rows.len(),
                columns.len()
            )));
        }
        Ok(Self::unchecked(rows.to_vec(), columns.to_vec(), values))
    }

    fn unchecked(rows: Vec<String>, columns: Vec<String>, values: Vec<Vec<Option<f64>>>) -> Self {
        Self {
            title: None,
            row_label: String::new(),
            column_label: String::new(),
            value_label: String::new(),
            rows,
            columns,
            values,
            range: None,
            decimals: 2,
            centre: None,
        }
    }

    /// The accuracy matrix: training goes down, tasks go right, colours from 0 to 1.
    pub fn accuracy(matrix: &AccuracyMatrix) -> Self {
        let tasks = matrix.tasks().to_vec();
        Self {
            row_label: "after training on".to_owned(),
            column_label: "test task".to_owned(),
            value_label: "accuracy".to_owned(),
            range: Some((0.0, 1.0)),
            ..Self::unchecked(tasks.clone(), tasks, matrix.rows().to_vec())
        }
    }

    /// Affinity or transfer between tasks, sources down and targets right, on a diverging scale centred at 0.
    ///
    /// # Errors
    ///
    /// As [`HeatMap::new`].
    pub fn affinity(sources: &[String], targets: &[String], values: Vec<Vec<Option<f64>>>) -> Result<Self> {
        Ok(Self::new(sources, targets, values)?
            .labels("source task", "target task", "transfer")
            .diverging(0.0))
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets what rows, columns and values are.
    #[must_use]
    pub fn labels(
        mut self,
        rows: impl Into<String>,
        columns: impl Into<String>,
        values: impl Into<String>,
    ) -> Self {
        (self.row_label, self.column_label, self.value_label) = (rows.into(), columns.into(), values.into());
        self
    }

    /// Fixes the values of the darkest and the brightest colour.
    #[must_use]
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Blue below `centre`, orange above it, white at it; equal distances get equal strength. Numbers carry their sign.
    /// A range set before or after is widened to be symmetric.
    #[must_use]
    pub fn diverging(mut self, centre: f64) -> Self {
        self.centre = Some(centre);
        self
    }

    /// Sets the decimals of the numbers.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals.min(9);
        self
    }

    fn shade(&self, share: f64) -> (Color, Color) {
        if self.centre.is_some() { diverging(share) } else { viridis(share) }
    }

    fn extent(&self) -> (f64, f64) {
        let known = || self.values.iter().flatten().flatten().copied();
        let (low, high) = self
            .range
            .unwrap_or((known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max)));
        if let Some(centre) = self.centre {
            let reach = (centre - low).abs().max((high - centre).abs());
            let reach = if reach > 0.0 && reach.is_finite() { reach } else { 0.5 };
            return (centre - reach, centre + reach);
        }
        if !low.is_finite() {
            return (0.0, 1.0); // Nothing is known.
        }
        if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
    }

    fn number(&self, value: f64) -> String {
        let text = frame::number(value, self.decimals);
        let positive = text.contains(|c: char| ('1'..='9').contains(&c)) && !text.starts_with('−');
        if self.centre == Some(0.0) && positive { format!("+{text}") } else { text }
    }

    /// The bar that explains the colours.
    fn color_bar(&self, drawing: &mut Drawing, left: f64, top: f64, bottom: f64) -> Result<()> {
        const SLICES: usize = 64;
        let (low, high) = self.extent();
        let height = bottom - top;
        for slice in 0..SLICES {
            let y = |s: usize| bottom - height * s as f64 / SLICES as f64;
            let (color, _) = self.shade((slice as f64 + 0.5) / SLICES as f64);
            drawing.rect((left, y(slice)), (left + 14.0, y(slice + 1)), color);
        }
        for share in [0.0, 0.5, 1.0] {
            let text = TICK.fit(&self.number(low + share * (high - low)), 38.0)?;
            drawing.text((left + 20.0, bottom - share * height), &text, TICK, Anchor::Start);
        }
        let text = LABEL.fit(&self.value_label, height)?;
        drawing.text((left + 66.0, (top + bottom) / 2.0), &text, LABEL.upwards(), Anchor::Middle);
        Ok(())
    }
}

impl Plot for HeatMap {
    fn draw(&self) -> Result<Drawing> {
        check("the matrix", self.values.iter().flatten().flatten())?;
        check("the centre of the scale", self.centre.as_ref())?;
        let (n_rows, n_columns) = (self.rows.len() as f64, self.columns.len() as f64);
        let cell = (560.0 / n_columns.max(n_rows)).clamp(26.0, 64.0);
        let (width, height) = (cell.max(44.0), cell.min(44.0));
        let names = frame::widest(self.rows.iter().map(String::as_str))?.min(180.0);
        let left = MARGIN + 24.0 + names + 8.0;
        let widest = frame::widest(self.columns.iter().map(String::as_str))?;
        let upright = widest > width - 6.0;
        let column_names = if upright { widest.min(140.0) + 10.0 } else { 22.0 };
        let right = left + n_columns * width;
        let mut drawing = Drawing::new((right + 24.0 + 74.0 + MARGIN).ceil().max(320.0), 0.0);
        let top = frame::title(&mut drawing, self.title.as_deref())? + 4.0;
        let bottom = top + n_rows * height;
        drawing.height = (bottom + column_names + 24.0 + MARGIN).ceil();
        let (low, high) = self.extent();
        for (i, row) in self.values.iter().enumerate() {
            let y = top + i as f64 * height;
            let name = TICK.fit(&self.rows[i], names)?;
            drawing.text((left - 8.0, y + height / 2.0), &name, TICK, Anchor::End);
            for (j, value) in row.iter().enumerate() {
                let x = left + j as f64 * width;
                let (color, ink, text) = match value {
                    None => (GRID, MUTED, "–".to_owned()),
                    Some(v) => {
                        let (color, ink) = self.shade((v - low) / (high - low));
                        (color, ink, self.number(*v))
                    }
                };
                drawing.rect((x + 0.5, y + 0.5), (x + width - 0.5, y + height - 0.5), color);
                let font = super::Font { color: ink, ..TICK };
                if font.width(&text)? < width - 4.0 {
                    drawing.text((x + width / 2.0, y + height / 2.0), &text, font, Anchor::Middle);
                }
            }
        }
        for (j, name) in self.columns.iter().enumerate() {
            let x = left + (j as f64 + 0.5) * width;
            if upright {
                drawing.text((x, bottom + 8.0), &TICK.fit(name, 140.0)?, TICK.upwards(), Anchor::End);
            } else {
                drawing.text((x, bottom + 14.0), name, TICK, Anchor::Middle);
            }
        }
        let across = LABEL.fit(&self.column_label, right - left + 60.0)?;
        drawing.text(((left + right) / 2.0, bottom + column_names + 14.0), &across, LABEL, Anchor::Middle);
        let down = LABEL.fit(&self.row_label, bottom - top)?;
        drawing.text((MARGIN + 4.0, (top + bottom) / 2.0), &down, LABEL.upwards(), Anchor::Middle);
        self.color_bar(&mut drawing, right + 20.0, top, bottom)?;
        Ok(drawing)
    }
}
