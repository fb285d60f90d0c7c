//! Pareto front: a scatter of methods by two objectives, and the line through those that none beats.
use super::axis::Axis;
use super::drawing::{Anchor, Drawing};
use super::frame::{self, Frame};
use super::theme::{AXIS, HEIGHT, INK, SMALL, TICK, WIDTH, series_color};
use super::{Plot, check};
use crate::metrics::{Better, non_dominated};
use crate::{Error, Result};

/// A method at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPoint {
    /// Name beside the point.
    pub name: String,
    /// First objective.
    pub x: f64,
    /// Second objective.
    pub y: f64,
}

/// Methods by two objectives.
///
/// ```
/// use mtl_bench::{metrics::Better, plot::{ParetoPlot, Plot}};
///
/// let plot = ParetoPlot::new(("latency [ms]", Better::Lower), ("accuracy [%]", Better::Higher))
///     .point("small", 2.0, 91.0)
///     .point("large", 9.0, 95.0);
/// assert!(plot.to_svg_string()?.contains("large"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPlot {
    title: Option<String>,
    x: (String, Better),
    y: (String, Better),
    points: Vec<ParetoPoint>,
    log_x: bool,
}

impl ParetoPlot {
    /// Label with unit, and direction, of each objective.
    pub fn new(x: (impl Into<String>, Better), y: (impl Into<String>, Better)) -> Self {
        Self { title: None, x: (x.0.into(), x.1), y: (y.0.into(), y.1), points: Vec::new(), log_x: false }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a method.
    #[must_use]
    pub fn point(mut self, name: impl Into<String>, x: f64, y: f64) -> Self {
        self.points.push(ParetoPoint { name: name.into(), x, y });
        self
    }

    /// Makes the horizontal axis logarithmic; all its values must be positive.
    #[must_use]
    pub fn log_x(mut self) -> Self {
        self.log_x = true;
        self
    }

    fn check(&self) -> Result<()> {
        if self.points.is_empty() {
            return Err(Error::Draw("there are no points".to_owned()));
        }
        for point in &self.points {
            check(&format!("point `{}`", point.name), [&point.x, &point.y])?;
            if self.log_x && point.x <= 0.0 {
                return Err(Error::Draw(format!("`{}` has {} on a logarithmic axis", point.name, point.x)));
            }
        }
        Ok(())
    }
}

impl Plot for ParetoPlot {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let legend = [("on the front", series_color(0)), ("beaten by another", AXIS)];
        let top = frame::legend(&mut drawing, &legend, top)?;
        let xs = self.points.iter().map(|p| p.x);
        let x = if self.log_x { Axis::log(xs) } else { Axis::padded(xs) };
        let y = Axis::padded(self.points.iter().map(|p| p.y));
        let name = |(label, better): &(String, Better)| match better {
            Better::Higher => format!("{label}, more is better"),
            Better::Lower => format!("{label}, less is better"),
        };
        let frame = Frame::new(&mut drawing, top, (x, &name(&self.x)), (y, &name(&self.y)))?;
        let objectives: Vec<Vec<f64>> = self.points.iter().map(|p| vec![p.x, p.y]).collect();
        let front = non_dominated(&objectives, &[self.x.1, self.y.1])?;
        let place = |i: usize| (frame.x(self.points[i].x), frame.y(self.points[i].y));
        let mut line: Vec<(f64, f64)> = front.iter().map(|&i| place(i)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let line = steps(&line, self.x.1);
        drawing.line(&line, 1.5, series_color(0).alpha(0.6));
        let mut taken: Vec<Block> = line.windows(2).map(|w| Block::around(w[0], w[1], 2.0)).collect();
        for i in 0..self.points.len() {
            let (x, y) = place(i);
            let (kind, color) = if front.contains(&i) { (0, series_color(0)) } else { (1, AXIS) };
            frame::marker(&mut drawing, (x, y), kind, 4.8, color);
            taken.push(Block::around((x, y), (x, y), 6.0));
        }
        for i in 0..self.points.len() {
            let on_front = front.contains(&i);
            label(&mut drawing, &frame, place(i), &self.points[i].name, on_front, &mut taken)?;
        }
        Ok(drawing)
    }
}

/// What the front attains: between two points, the y of the one whose x is good enough.
fn steps(points: &[(f64, f64)], x: Better) -> Vec<(f64, f64)> {
    let mut line = Vec::with_capacity(2 * points.len());
    for (i, &point) in points.iter().enumerate() {
        if let Some(&before) = i.checked_sub(1).and_then(|k| points.get(k)) {
            line.push(if x == Better::Lower { (point.0, before.1) } else { (before.0, point.1) });
        }
        line.push(point);
    }
    line
}

#[derive(Debug, Clone, Copy)]
struct Block {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Block {
    /// The rectangle with these opposite corners, and `air` around it.
    fn around(a: (f64, f64), b: (f64, f64), air: f64) -> Self {
        Self {
            left: a.0.min(b.0) - air,
            top: a.1.min(b.1) - air,
            right: a.0.max(b.0) + air,
            bottom: a.1.max(b.1) + air,
        }
    }

    fn overlap(&self, other: &Self) -> f64 {
        let across = self.right.min(other.right) - self.left.max(other.left);
        let down = self.bottom.min(other.bottom) - self.top.max(other.top);
        across.max(0.0) * down.max(0.0)
    }
}

/// Puts a name near its point where it covers the least, nearest first; a thin line leads to one that is far.
fn label(
    drawing: &mut Drawing,
    frame: &Frame,
    (x, y): (f64, f64),
    name: &str,
    on_front: bool,
    taken: &mut Vec<Block>,
) -> Result<()> {
    let font = if on_front { super::Font { color: INK, ..TICK } } else { SMALL };
    let text = font.fit(name, (frame.right - frame.left) / 2.0)?;
    let (width, half) = (font.width(&text)?, font.size * 0.62);
    let mut best: Option<(f64, Block, f64)> = None;
    for distance in [0.0, 14.0, 28.0, 44.0] {
        let (side, rise) = (9.0 + distance, half + 8.0 + distance);
        let centres = [
            (x + side + width / 2.0, y),
            (x - side - width / 2.0, y),
            (x, y - rise),
            (x, y + rise),
            (x + 6.0 + distance / 2.0 + width / 2.0, y - rise),
            (x - 6.0 - distance / 2.0 - width / 2.0, y - rise),
            (x + 6.0 + distance / 2.0 + width / 2.0, y + rise),
            (x - 6.0 - distance / 2.0 - width / 2.0, y + rise),
        ];
        for (cx, cy) in centres {
            let block =
                Block { left: cx - width / 2.0, top: cy - half, right: cx + width / 2.0, bottom: cy + half };
            let inside = block.left >= frame.left
                && block.right <= frame.right
                && block.top >= frame.top - 4.0
                && block.bottom <= frame.bottom;
            let covered: f64 = taken.iter().map(|t| t.overlap(&block)).sum();
            let cost = covered + if inside { 0.0 } else { 1e6 };
            if best.is_none_or(|(least, _, _)| cost < least - 1e-9) {
                best = Some((cost, block, distance));
            }
        }
    }
    if let Some((_, block, distance)) = best {
        if distance > 0.0 {
            let nearest = (x.clamp(block.left - 3.0, block.right + 3.0), y.clamp(block.top, block.bottom));
            drawing.line(&[(x, y), nearest], 0.8, AXIS);
        }
        let middle = ((block.left + block.right) / 2.0, (block.top + block.bottom) / 2.0);
        drawing.text(middle, &text, font, Anchor::Middle);
        taken.push(block);
    }
    Ok(())
}
