//! Critical-difference diagram: Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 7, 2006.
use super::drawing::{Anchor, Drawing};
use super::frame;
use super::theme::{AXIS, INK, LABEL, MARGIN, SMALL, TICK, WIDTH};
use super::{Plot, check};
use crate::stats::CriticalDifference;
use crate::{Error, Result};

/// Average ranks on a line; a thick bar joins methods that do not differ significantly.
///
/// ```
/// use mtl_bench::{metrics::Better, plot::{CriticalDifferenceDiagram, Plot}, stats::{CriticalDifference, friedman}};
///
/// let blocks = [vec![3.0, 2.0, 1.0], vec![6.0, 5.0, 4.0], vec![9.0, 7.0, 8.0], vec![3.0, 2.0, 1.0]];
/// let found = CriticalDifference::nemenyi(&friedman(&blocks, Better::Higher)?, &["a", "b", "c"], 0.95)?;
/// assert!(CriticalDifferenceDiagram::nemenyi(&found).to_svg_string()?.contains("CD = 1.66"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CriticalDifferenceDiagram {
    title: Option<String>,
    ranks: Vec<(String, f64)>,
    groups: Vec<Vec<usize>>,
    cd: Option<f64>,
    best_right: bool,
}

impl CriticalDifferenceDiagram {
    /// Methods with their average ranks, and groups of positions in `ranks` that do not differ, such as those of
    /// [`crate::stats::maximal_groups`]. A group that skips a method carries a dot at each of its members.
    pub fn new(ranks: Vec<(String, f64)>, groups: Vec<Vec<usize>>) -> Self {
        Self { title: None, ranks, groups, cd: None, best_right: false }
    }

    /// Ranks, critical difference and groups of Nemenyi's test.
    pub fn nemenyi(found: &CriticalDifference) -> Self {
        let groups = found.groups.iter().map(|&(first, last)| (first..=last).collect()).collect();
        Self { cd: Some(found.cd), ..Self::new(found.ranks.clone(), groups) }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Shows a bar as long as the critical difference, in ranks.
    #[must_use]
    pub fn critical_difference(mut self, cd: f64) -> Self {
        self.cd = Some(cd);
        self
    }

    /// Puts the best method on the right.
    #[must_use]
    pub fn best_right(mut self) -> Self {
        self.best_right = true;
        self
    }

    fn check(&self) -> Result<()> {
        let k = self.ranks.len();
        if k < 2 {
            return Err(Error::Draw(format!(
                "a critical-difference diagram needs 2 methods, but there are {k}"
            )));
        }
        for (name, rank) in &self.ranks {
            check(&format!("rank of `{name}`"), [rank])?;
            if !(1.0..=k as f64).contains(rank) {
                return Err(Error::Draw(format!("rank of `{name}` must lie in 1 to {k}, but is {rank}")));
            }
        }
        if let Some(cd) = self.cd {
            check("the critical difference", [&cd])?;
            if cd <= 0.0 {
                return Err(Error::Draw(format!("the critical difference must be positive, but is {cd}")));
            }
        }
        match self.groups.iter().flatten().find(|&&m| m >= k) {
            Some(m) => Err(Error::Draw(format!("a group names method {m}, but there are {k}"))),
            None => Ok(()),
        }
    }

    /// Each group as (left end, right end, members), by their lane below the axis.
    fn lanes(&self, x: impl Fn(usize) -> f64) -> Vec<Vec<(f64, f64, &[usize])>> {
        let mut bars: Vec<(f64, f64, &[usize])> = Vec::new();
        for group in self.groups.iter().filter(|g| g.len() > 1) {
            let ends = group.iter().map(|&m| x(m));
            let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            bars.push((low, high, group));
        }
        bars.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut lanes: Vec<Vec<(f64, f64, &[usize])>> = Vec::new();
        for bar in bars {
            let free = lanes.iter_mut().find(|lane| lane.last().is_none_or(|last| last.1 + 14.0 < bar.0));
            match free {
                Some(lane) => lane.push(bar),
                None => lanes.push(vec![bar]),
            }
        }
        lanes
    }

    /// Whether some group leaves out a method between its ends, so that a bar alone would say too much.
    fn gaps(&self) -> bool {
        self.groups.iter().any(|group| {
            let ranks = || group.iter().filter_map(|&m| self.ranks.get(m)).map(|r| r.1);
            let (low, high) = (ranks().fold(f64::INFINITY, f64::min), ranks().fold(0.0, f64::max));
            (0..self.ranks.len())
                .any(|m| !group.contains(&m) && low < self.ranks[m].1 && self.ranks[m].1 < high)
        })
    }
}

const ROW: f64 = 20.0;
const LANE: f64 = 9.0;

impl Plot for CriticalDifferenceDiagram {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let k = self.ranks.len();
        let mut drawing = Drawing::new(WIDTH, 0.0);
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let mut names = 0.0_f64;
        for (name, _) in &self.ranks {
            names = names.max(LABEL.width(name)?);
        }
        let (names, numbers) = (names.min(0.27 * WIDTH), SMALL.width(&format!("{k}.00"))?);
        let left = MARGIN + names + numbers + 20.0;
        let right = WIDTH - left;
        let scale = (right - left) / (k - 1) as f64;
        let place = |rank: f64| {
            if self.best_right { right - (rank - 1.0) * scale } else { left + (rank - 1.0) * scale }
        };
        let line = top + 8.0;
        drawing.text((WIDTH - MARGIN, line), "average rank, 1 is best", LABEL, Anchor::End);
        if let Some(cd) = self.cd {
            let (length, full) = (cd * scale, right - left);
            let note = if length > full { ", longer than the axis" } else { "" };
            drawing.text((left, line), &format!("CD = {cd:.2}{note}"), LABEL, Anchor::Start);
            let end = left + length.min(full);
            drawing.line(&[(left, line + 15.0), (end, line + 15.0)], 2.0, INK);
            for x in [left, end] {
                drawing.line(&[(x, line + 11.0), (x, line + 19.0)], 2.0, INK);
            }
        }
        let axis = line + if self.cd.is_some() { 52.0 } else { 36.0 };
        drawing.line(&[(left, axis), (right, axis)], 1.5, AXIS);
        for rank in (1..=k).step_by(k.div_ceil(12)) {
            let x = place(rank as f64);
            drawing.line(&[(x, axis - 5.0), (x, axis)], 1.5, AXIS);
            drawing.text((x, axis - 14.0), &rank.to_string(), TICK, Anchor::Middle);
        }
        let lanes = self.lanes(|m| place(self.ranks[m].1));
        let first_row = axis + 22.0 + LANE * lanes.len() as f64;
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| place(self.ranks[a].1).total_cmp(&place(self.ranks[b].1)).then(a.cmp(&b)));
        for (i, &m) in order.iter().enumerate() {
            let (name, rank) = &self.ranks[m];
            let on_left = i < k.div_ceil(2);
            let row = if on_left { i } else { k - 1 - i };
            let (x, y) = (place(*rank), first_row + ROW * row as f64);
            let edge = if on_left { left - 6.0 } else { right + 6.0 };
            drawing.line(&[(x, axis), (x, y), (edge, y)], 1.0, AXIS);
            let (out, anchor) = if on_left { (-1.0, Anchor::End) } else { (1.0, Anchor::Start) };
            drawing.text((edge + 4.0 * out, y), &format!("{rank:.2}"), SMALL, anchor);
            let at = (edge + (10.0 + numbers) * out, y);
            drawing.text(at, &LABEL.fit(name, names)?, LABEL, anchor);
        }
        let dots = self.gaps();
        for (lane, bars) in lanes.iter().enumerate() {
            let y = axis + 12.0 + LANE * lane as f64;
            for (low, high, members) in bars {
                drawing.line(&[(low - 3.0, y), (high + 3.0, y)], if dots { 1.5 } else { 4.0 }, INK);
                for &m in members.iter().filter(|_| dots) {
                    drawing.disc((place(self.ranks[m].1), y), 3.2, INK);
                }
            }
        }
        drawing.height = (first_row + ROW * (k.div_ceil(2) - 1) as f64 + 12.0 + MARGIN).ceil();
        Ok(drawing)
    }
}
