//! Axes.
use super::canvas::{AXIS, Anchor, Canvas, GRID, INK, MUTED, Rgb, widest};
use super::{LABEL, MARGIN, TICK, TITLE};

/// One axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    lo: f64,
    hi: f64,
    log: bool,
}

impl Scale {
    /// An axis from zero that holds these values.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let top = values.into_iter().filter(|v| v.is_finite()).fold(0.0, f64::max);
        let top = if top > 0.0 { top } else { 1.0 };
        let step = round_step(top / 6.0);
        Self { lo: 0.0, hi: (top / step).ceil() * step, log: false }
    }

    /// An axis around these values; logarithmic where they are positive and span more than a factor of 20.
    pub(super) fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let (lo, hi) = extent(values);
        if lo > 0.0 && hi / lo > 20.0 {
            return Self::log([lo, hi]);
        }
        let step = round_step(((hi - lo) / 5.0).max(hi.abs() * 1e-6).max(f64::MIN_POSITIVE));
        let (mut from, mut to) = ((lo / step).floor() * step, (hi / step).ceil() * step);
        // Room, so that no mark lies on the edge.
        if lo - from < 0.15 * step && from > 0.0 {
            from -= step;
        }
        if to - hi < 0.15 * step {
            to += step;
        }
        Self { lo: from, hi: to, log: false }
    }

    /// A logarithmic axis around positive values.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (lo, hi) = extent(values.into_iter().filter(|v| *v > 0.0));
        let (mut lo, mut hi) = (lo.log10() - 0.08, hi.log10() + 0.08);
        if hi - lo < 1.0 {
            (lo, hi) = (lo.floor(), hi.ceil());
        }
        Self { lo: 10f64.powf(lo), hi: 10f64.powf(hi), log: true }
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        (self.lo, self.hi)
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn at(&self, v: f64) -> f64 {
        if self.log {
            (v / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (v - self.lo) / (self.hi - self.lo)
        }
    }

    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        if !self.log {
            let step = round_step((self.hi - self.lo) / 6.0);
            let first = (self.lo / step).ceil() as i64;
            let last = (self.hi / step * (1.0 + 1e-9)).floor() as i64;
            let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
            return (first..=last).map(|i| i as f64 * step).map(|v| (v, format!("{v:.digits$}"))).collect();
        }
        let decades = (self.hi / self.lo).log10();
        let marks: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let range = self.lo.log10().floor() as i32..=self.hi.log10().ceil() as i32;
        let values = range.flat_map(|p| marks.iter().map(move |m| m * 10f64.powi(p)));
        values.filter(|v| (self.lo..=self.hi).contains(v)).map(|v| (v, short(v))).collect()
    }
}

fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|v| v.is_finite());
    let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if lo <= hi { (lo, hi) } else { (1.0, 1.0) }
}

/// A tick of a logarithmic axis.
fn short(v: f64) -> String {
    if (1e-3..1e5).contains(&v) {
        let digits = (-v.log10().floor()).max(0.0) as usize;
        format!("{v:.digits$}")
    } else {
        format!("{v:.0e}")
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `x`.
fn round_step(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|&s| s >= x * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A plot of two axes with a margin to its right for a legend.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) canvas: Canvas,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame {
    /// Axes, grid and titles. `margin` is left free to the right of the plot.
    pub(super) fn new(
        title: &str,
        [width, height]: [f64; 2],
        margin: f64,
        (x, x_title): (Scale, &str),
        (y, y_title): (Scale, &str),
    ) -> anyhow::Result<Self> {
        let y_ticks = y.ticks();
        let texts: Vec<String> = y_ticks.iter().map(|(_, t)| t.clone()).collect();
        let left = MARGIN + LABEL + 14.0 + widest(&texts, TICK)? + 8.0;
        let top = MARGIN + TITLE + 20.0;
        let (right, bottom) = (left + width, top + height);
        let least = left + super::canvas::width(title, TITLE)?;
        let mut canvas = Canvas::new((right + margin).max(least) + MARGIN, bottom + 50.0 + MARGIN);
        canvas.text((MARGIN, MARGIN + TITLE / 2.0), title, TITLE, INK, Anchor::Start);
        let mut frame = Self { canvas, left, right, top, bottom, x, y };
        for (v, text) in x.ticks() {
            let at = frame.px(v);
            frame.canvas.line(vec![(at, top), (at, bottom)], 1.0, GRID);
            frame.canvas.line(vec![(at, bottom), (at, bottom + 4.0)], 1.0, AXIS);
            frame.canvas.text((at, bottom + 14.0), &text, TICK, MUTED, Anchor::Middle);
        }
        for (v, text) in y_ticks {
            let at = frame.py(v);
            frame.canvas.line(vec![(left, at), (right, at)], 1.0, GRID);
            frame.canvas.text((left - 8.0, at), &text, TICK, MUTED, Anchor::End);
        }
        frame.canvas.line(vec![(left, top), (left, bottom), (right, bottom)], 1.0, AXIS);
        frame.canvas.text(((left + right) / 2.0, bottom + 38.0), x_title, LABEL, INK, Anchor::Middle);
        let middle = (top + bottom) / 2.0;
        frame.canvas.upwards((MARGIN + LABEL / 2.0, middle), y_title, LABEL, INK, Anchor::Middle);
        Ok(frame)
    }

    pub(super) fn px(&self, v: f64) -> f64 {
        self.left + (self.right - self.left) * self.x.at(v)
    }

    pub(super) fn py(&self, v: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * self.y.at(v)
    }

    pub(super) fn point(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.px(x), self.py(y))
    }

    pub(super) fn inside(&self, (x, y): (f64, f64)) -> bool {
        let within = |scale: Scale, v: f64| (0.0..=1.0).contains(&scale.at(v));
        within(self.x, x) && within(self.y, y)
    }

    /// A row of the legend to the right of the plot.
    pub(super) fn legend(&mut self, row: usize, series: usize, color: Rgb, name: &str) {
        let at = (self.right + 30.0, self.top + 8.0 + 20.0 * row as f64);
        mark(&mut self.canvas, at, series, color);
        self.canvas.text((at.0 + 12.0, at.1), name, TICK, INK, Anchor::Start);
    }
}

/// Discs and squares in turn, so that colour is not the only difference.
pub(super) fn mark(canvas: &mut Canvas, (x, y): (f64, f64), series: usize, color: Rgb) {
    // A white rim keeps marks apart where they overlap.
    let white = Rgb(0xFF, 0xFF, 0xFF);
    if series.is_multiple_of(2) {
        canvas.disc((x, y), 4.6, white);
        canvas.disc((x, y), 3.8, color);
    } else {
        canvas.rect((x - 4.2, y - 4.2), (x + 4.2, y + 4.2), white);
        canvas.rect((x - 3.4, y - 3.4), (x + 3.4, y + 3.4), color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(Scale::from_zero([93.0]).ends(), (0.0, 100.0));
        assert_eq!(Scale::from_zero([]).ends(), (0.0, 1.0));
        let texts = |s: Scale| s.ticks().into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        assert_eq!(texts(Scale::log([1.0, 100.0])), ["1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!(texts(Scale::log([0.5, 2e6])), ["1", "10", "100", "1000", "10000", "1e5", "1e6"]);
        let one = Scale::around([2.0]);
        assert!(one.at(2.0) > 0.0 && one.at(2.0) < 1.0, "{one:?}");
    }
}
