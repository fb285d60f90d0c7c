//! Forest plot: effects with intervals, one per row, beside the line of no effect.
use super::axis::Axis;
use super::drawing::{Anchor, Drawing};
use super::frame::{self, Frame};
use super::theme::{AXIS, INK, LABEL, MARGIN, MUTED, SMALL, WIDTH, series_color};
use super::{Plot, check};
use crate::stats::Estimate;
use crate::{Error, Result};

/// Effects with intervals; blue where the interval excludes no effect, grey elsewhere, and a diamond for pooled rows.
///
/// ```
/// use mtl_bench::{Estimate, plot::{ForestPlot, Plot}};
///
/// let plot = ForestPlot::new("gain over equal weights [points]")
///     .row("digit", Estimate::of(&[1.0, 1.4, 0.9], 0.95)?)
///     .row("parity", Estimate::of(&[-0.2, 0.6, 0.1], 0.95)?)
///     .pooled("all tasks", Estimate::of(&[0.4, 1.0, 0.5], 0.95)?);
/// assert!(plot.to_svg_string()?.contains("1.10 [0.44, 1.76]"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ForestPlot {
    title: Option<String>,
    effect_label: String,
    rows: Vec<Row>,
    no_effect: f64,
    sides: Option<(String, String)>,
    decimals: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    effect: Estimate,
    pooled: bool,
}

impl ForestPlot {
    /// The label carries the unit; no effect is 0.
    pub fn new(effect_label: impl Into<String>) -> Self {
        let effect_label = effect_label.into();
        Self { title: None, effect_label, rows: Vec::new(), no_effect: 0.0, sides: None, decimals: 2 }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds an effect; one without an interval is a single mark.
    #[must_use]
    pub fn row(mut self, name: impl Into<String>, effect: Estimate) -> Self {
        self.rows.push(Row { name: name.into(), effect: believable(effect), pooled: false });
        self
    }

    /// Adds an effect over all rows, as a diamond that is as wide as its interval.
    #[must_use]
    pub fn pooled(mut self, name: impl Into<String>, effect: Estimate) -> Self {
        self.rows.push(Row { name: name.into(), effect: believable(effect), pooled: true });
        self
    }

    /// Sets the value of no effect, such as 0.5 for a probability of improvement or 1 for a ratio.
    #[must_use]
    pub fn no_effect(mut self, value: f64) -> Self {
        self.no_effect = value;
        self
    }

    /// Says what lower and higher values favour.
    #[must_use]
    pub fn sides(mut self, lower: impl Into<String>, higher: impl Into<String>) -> Self {
        self.sides = Some((lower.into(), higher.into()));
        self
    }

    /// Sets the decimals of the numbers.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals.min(9);
        self
    }

    fn check(&self) -> Result<()> {
        if self.rows.is_empty() {
            return Err(Error::Draw("there are no effects".to_owned()));
        }
        check("the line of no effect", [&self.no_effect])?;
        for row in &self.rows {
            let ends = ends(&row.effect);
            check(&format!("effect `{}`", row.name), [&row.effect.mean].into_iter().chain(&ends))?;
            if ends[0] > row.effect.mean || row.effect.mean > ends[1] {
                return Err(Error::Draw(format!("effect `{}` lies outside its interval", row.name)));
            }
        }
        Ok(())
    }

    fn numbers(&self, effect: &Estimate) -> String {
        let number = |v: f64| frame::number(v, self.decimals);
        match effect.interval {
            Some(i) => format!("{} [{}, {}]", number(effect.mean), number(i.low), number(i.high)),
            None => format!("{} [no interval]", number(effect.mean)),
        }
    }

    /// What the numbers at the right are: the level, if all intervals have the same.
    fn heading(&self) -> String {
        let mut levels = self.rows.iter().filter_map(|r| r.effect.interval).map(|i| i.level);
        match levels.next() {
            Some(level) if levels.all(|l| l == level) => {
                format!("effect [{} %]", frame::short(100.0 * level))
            }
            Some(_) => "effect [levels differ]".to_owned(),
            None => "effect".to_owned(),
        }
    }
}

/// One run says nothing about the spread, whatever the estimate claims.
fn believable(effect: Estimate) -> Estimate {
    Estimate { interval: effect.interval.filter(|_| effect.n > 1), ..effect }
}

/// Ends of the interval, or the mean twice.
fn ends(effect: &Estimate) -> [f64; 2] {
    effect.interval.map_or([effect.mean; 2], |i| [i.low, i.high])
}

const ROW: f64 = 22.0;

impl Plot for ForestPlot {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let mut drawing = Drawing::new(WIDTH, 0.0);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let (mut names, mut numbers) = (0.0_f64, SMALL.width(&self.heading())?);
        let mut counts = SMALL.width("n")?;
        for row in &self.rows {
            names = names.max(LABEL.bold().width(&row.name)?);
            numbers = numbers.max(SMALL.width(&self.numbers(&row.effect))?);
            counts = counts.max(SMALL.width(&row.effect.n.to_string())?);
        }
        let names = names.min(0.34 * WIDTH);
        let left = MARGIN + names + 14.0;
        let right = (WIDTH - MARGIN - counts - 14.0 - numbers - 14.0).max(left + 80.0);
        let head = top + 8.0;
        drawing.text((right + 14.0 + numbers, head), &self.heading(), SMALL, Anchor::End);
        drawing.text((WIDTH - MARGIN, head), "n", SMALL, Anchor::End);
        let body = head + 14.0;
        let bottom = body + ROW * self.rows.len() as f64;
        let all = self.rows.iter().flat_map(|r| ends(&r.effect)).chain([self.no_effect]);
        let place = (left, body, right, bottom);
        let frame = Frame::horizontal(&mut drawing, place, (Axis::padded(all), &self.effect_label))?;
        let zero = frame.x(self.no_effect);
        drawing.line(&[(zero, body), (zero, bottom)], 1.5, MUTED);
        for (i, row) in self.rows.iter().enumerate() {
            let y = body + ROW * (i as f64 + 0.5);
            let font = if row.pooled { LABEL.bold() } else { LABEL };
            drawing.text((left - 14.0, y), &font.fit(&row.name, names)?, font, Anchor::End);
            drawing.text((right + 14.0 + numbers, y), &self.numbers(&row.effect), SMALL, Anchor::End);
            drawing.text((WIDTH - MARGIN, y), &row.effect.n.to_string(), SMALL, Anchor::End);
            self.mark(&mut drawing, &frame, y, row);
        }
        drawing.height = (bottom + MARGIN + 44.0).ceil();
        if let Some((lower, higher)) = &self.sides {
            let y = bottom + 54.0;
            let text = SMALL.fit(&format!("← {lower}"), zero - 8.0 - MARGIN)?;
            drawing.text((zero - 8.0, y), &text, SMALL, Anchor::End);
            let text = SMALL.fit(&format!("{higher} →"), WIDTH - MARGIN - zero - 8.0)?;
            drawing.text((zero + 8.0, y), &text, SMALL, Anchor::Start);
            drawing.height += 18.0;
        }
        Ok(drawing)
    }
}

impl ForestPlot {
    fn mark(&self, drawing: &mut Drawing, frame: &Frame, y: f64, row: &Row) {
        let clear = row.effect.interval.is_some_and(|i| !i.contains(self.no_effect));
        let color = if clear { series_color(0) } else { AXIS };
        let [low, high] = ends(&row.effect).map(|v| frame.x(v));
        let middle = frame.x(row.effect.mean);
        if row.pooled && row.effect.interval.is_some() {
            drawing.area(&[(low, y), (middle, y - 6.0), (high, y), (middle, y + 6.0)], color);
            return;
        }
        if row.effect.interval.is_some() {
            drawing.line(&[(low, y), (high, y)], 1.5, color);
            for end in [low, high] {
                drawing.line(&[(end, y - 3.5), (end, y + 3.5)], 1.5, color);
            }
            frame::marker(drawing, (middle, y), 1, 4.2, color);
        } else {
            drawing.line(&[(middle, y - 4.0), (middle, y + 4.0)], 2.0, INK);
        }
    }
}
