//! Gantt charts of simulated schedules.
use super::svg::{Anchor, Svg};
use crate::sim::{Span, SpanKind, Timeline};
use crate::{HwError, Result};
use std::collections::BTreeSet;

/// Unit of the time axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Clock cycles.
    Cycles,
    /// Microseconds at the timeline's clock.
    #[default]
    Micros,
}

/// A chart of one lane per resource, with bars coloured by expert.
///
/// ```
/// use mtl_hw::graph::MoeShape;
/// use mtl_hw::plot::Gantt;
/// use mtl_hw::routing::LayerRouting;
/// use mtl_hw::sim::{LayerSim, SimOptions};
/// let shape = MoeShape { tokens: 64, dim: 64, hidden: 64, experts: 4, top_k: 1 };
/// let accelerator = mtl_hw::presets::zcu104_m3vit()?;
/// let mut layer = LayerSim::new("blk.1", &shape, &accelerator, SimOptions::default())?;
/// let svg = Gantt::default().svg(&layer.timeline(&LayerRouting::Uniform)?)?;
/// assert!(svg.starts_with("<svg") && svg.contains("<title>expert 3"));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gantt {
    /// Unit of the time axis.
    pub unit: TimeUnit,
    /// Width in pixels, from 320 to 20000.
    pub width: u32,
    /// Title; the timeline's when absent.
    pub title: Option<String>,
}

impl Default for Gantt {
    fn default() -> Self {
        Self { unit: TimeUnit::default(), width: 960, title: None }
    }
}

/// Okabe and Ito's palette, which readers with any colour vision can tell apart, without its black.
const PALETTE: [&str; 7] = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];
/// Whether text on the colour is white.
const DARK: [bool; 7] = [false, false, true, false, true, true, false];
const NO_EXPERT: &str = "#B8B8B8";
/// Patterns over the palette, so that more experts than colours differ.
const PATTERNS: usize = 4;

const STYLE: &str = "text{font-family:'DejaVu Sans',Arial,sans-serif;font-size:12px;fill:#222}\
.h{font-size:15px;font-weight:bold}.s{font-size:11px;fill:#555}.b{font-size:10px;pointer-events:none}\
.w{font-size:10px;fill:#fff;pointer-events:none}.g{stroke:#e4e4e4;stroke-width:1}.a{stroke:#444;stroke-width:1}\
.r{stroke:#444;stroke-width:.5}.p{pointer-events:none}.k{stroke:none}";

const LEFT: f64 = 118.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 62.0;
const LANE: f64 = 44.0;
const BAR: f64 = 30.0;
const LEGEND_ROW: f64 = 22.0;
const LEGEND_CELL: f64 = 58.0;

impl Gantt {
    /// Draws a timeline.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a width out of range, an empty timeline, one with a span outside its lanes or cycles, or a
    /// clock of zero.
    pub fn svg(&self, timeline: &Timeline) -> Result<String> {
        if !(320..=20_000).contains(&self.width) {
            return Err(HwError::config("width", "from 320 to 20000 pixels", self.width));
        }
        crate::math::positive("timeline.cycles", timeline.cycles)?;
        crate::math::positive("timeline.clock_hz", timeline.clock_hz)?;
        for (i, s) in timeline.spans.iter().enumerate() {
            let inside = s.start <= s.end && s.end <= timeline.cycles && s.lane < timeline.lanes.len();
            if !inside {
                let must = "in one of the lanes, and to end by the timeline's last cycle";
                return Err(HwError::config(format!("timeline.spans[{i}]"), must, format!("{s:?}")));
            }
        }
        let width = f64::from(self.width);
        let experts: BTreeSet<u16> = timeline.spans.iter().filter_map(|s| s.expert).collect();
        let others = timeline.spans.iter().any(|s| s.expert.is_none());
        let cells = experts.len() + usize::from(others);
        let per_row = (((width - LEFT - RIGHT) / LEGEND_CELL) as usize).max(1);
        let axis = TOP + LANE * timeline.lanes.len() as f64;
        let legend = axis + 58.0;
        let height = legend + LEGEND_ROW * cells.div_ceil(per_row) as f64 + 12.0;
        let mut svg = Svg::new(width, height);
        svg.rect([0.0, 0.0, width, height], "k", "#ffffff", None);
        patterns(&mut svg, &experts);
        let title = self.title.as_deref().unwrap_or(&timeline.title);
        svg.text([LEFT, 24.0], "h", Anchor::Start, &shorten(title, (width - LEFT - RIGHT) / 9.0));
        let scale = Scale { from: LEFT, to: width - RIGHT, cycles: timeline.cycles };
        svg.text([LEFT, 44.0], "s", Anchor::Start, &self.subtitle(timeline));
        self.axis(&mut svg, &scale, timeline, axis);
        for (lane, name) in timeline.lanes.iter().enumerate() {
            let y = TOP + LANE * lane as f64 + LANE / 2.0;
            svg.text([LEFT - 10.0, y - 1.0], "", Anchor::End, &shorten(name, 15.0));
            let busy = format!("{:.0} % busy", 100.0 * timeline.utilisation(lane));
            svg.text([LEFT - 10.0, y + 13.0], "s", Anchor::End, &busy);
        }
        for s in &timeline.spans {
            self.bar(&mut svg, &scale, timeline, s);
        }
        for (i, cell) in experts.iter().map(|&e| Some(e)).chain(others.then_some(None)).enumerate() {
            let (row, column) = ((i / per_row) as f64, (i % per_row) as f64);
            let (x, y) = (LEFT + column * LEGEND_CELL, legend + row * LEGEND_ROW);
            fill(&mut svg, [x, y, 16.0, 12.0], cell, None);
            let name = cell.map_or_else(|| "other".to_owned(), |e| e.to_string());
            svg.text([x + 21.0, y + 10.5], "", Anchor::Start, &name);
        }
        let heading = if experts.is_empty() { "layer" } else { "expert" };
        svg.text([LEFT - 10.0, legend + 10.5], "", Anchor::End, heading);
        Ok(svg.finish(STYLE, title))
    }

    fn subtitle(&self, timeline: &Timeline) -> String {
        let micros = 1e6 * timeline.cycles as f64 / timeline.clock_hz as f64;
        let mhz = timeline.clock_hz as f64 / 1e6;
        format!("{} cycles at {mhz} MHz = {micros:.1} µs", grouped(timeline.cycles))
    }

    /// Cycles in the unit of the axis.
    fn time(&self, cycles: u64, timeline: &Timeline) -> f64 {
        match self.unit {
            TimeUnit::Cycles => cycles as f64,
            TimeUnit::Micros => 1e6 * cycles as f64 / timeline.clock_hz as f64,
        }
    }

    fn axis(&self, svg: &mut Svg, scale: &Scale, timeline: &Timeline, y: f64) {
        let end = self.time(timeline.cycles, timeline);
        let labels = ((scale.to - scale.from) / 110.0).max(2.0);
        let step = round_step(end / labels);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let mut tick = 0.0;
        while tick * step <= end * (1.0 + 1e-9) {
            let value = tick * step;
            let x = scale.from + (scale.to - scale.from) * value / end;
            svg.line([x, TOP, x, y], "g");
            svg.line([x, y, x, y + 5.0], "a");
            let label = match self.unit {
                TimeUnit::Cycles => grouped(value.round() as u64),
                TimeUnit::Micros => format!("{value:.decimals$}"),
            };
            svg.text([x, y + 18.0], "", Anchor::Middle, &label);
            tick += 1.0;
        }
        svg.line([scale.from, y, scale.to, y], "a");
        let unit = match self.unit {
            TimeUnit::Cycles => "time in cycles",
            TimeUnit::Micros => "time in µs",
        };
        svg.text([(scale.from + scale.to) / 2.0, y + 37.0], "", Anchor::Middle, unit);
    }

    fn bar(&self, svg: &mut Svg, scale: &Scale, timeline: &Timeline, s: &Span) {
        let (x, end) = (scale.x(s.start), scale.x(s.end));
        let y = TOP + LANE * s.lane as f64 + (LANE - BAR) / 2.0;
        let verb = match s.kind {
            SpanKind::Load => "load",
            SpanKind::Compute => "compute",
        };
        let expert = s.expert.map_or_else(String::new, |e| format!("expert {e} "));
        let layer = timeline.layers.get(s.layer).map_or("", String::as_str);
        let micros = |cycles: u64| 1e6 * cycles as f64 / timeline.clock_hz as f64;
        let title = format!(
            "{expert}{verb}, {layer}: cycles {} to {} ({}), {:.2} to {:.2} µs ({:.2})",
            grouped(s.start),
            grouped(s.end),
            grouped(s.end - s.start),
            micros(s.start),
            micros(s.end),
            micros(s.end - s.start)
        );
        // Bars of less than half a pixel would vanish.
        let width = (end - x).max(0.5);
        fill(svg, [x, y, width, BAR], s.expert, Some(&title));
        if let Some(e) = s.expert {
            let label = e.to_string();
            let (needs, patterned) = (6.5 * label.len() as f64 + 5.0, usize::from(e) >= PALETTE.len());
            if patterned && width >= needs + 4.0 {
                // A plate keeps the label legible.
                svg.rect([x + (width - needs) / 2.0 + 1.0, y + 8.0, needs - 2.0, 14.0], "p", "#ffffff", None);
                svg.text([x + width / 2.0, y + 18.5], "b", Anchor::Middle, &label);
            } else if !patterned && width >= needs {
                let class = if DARK[usize::from(e)] { "w" } else { "b" };
                svg.text([x + width / 2.0, y + 18.5], class, Anchor::Middle, &label);
            }
        } else if width >= 6.3 * layer.chars().count() as f64 + 6.0 {
            svg.text([x + width / 2.0, y + 18.5], "b", Anchor::Middle, layer);
        }
    }
}

struct Scale {
    from: f64,
    to: f64,
    cycles: u64,
}

impl Scale {
    fn x(&self, cycle: u64) -> f64 {
        self.from + (self.to - self.from) * (cycle as f64 / self.cycles as f64)
    }
}

/// A rectangle in an expert's colour and pattern.
fn fill(svg: &mut Svg, rect: [f64; 4], expert: Option<u16>, title: Option<&str>) {
    let Some(e) = expert.map(usize::from) else {
        return svg.rect(rect, "r", NO_EXPERT, title);
    };
    // A frame would hide the colour of a narrow bar.
    let class = if rect[2] < 3.0 { "k" } else { "r" };
    svg.rect(rect, class, PALETTE[e % PALETTE.len()], title);
    let pattern = e / PALETTE.len() % PATTERNS;
    if pattern > 0 {
        svg.rect(rect, "p", &format!("url(#p{pattern})"), None);
    }
}

/// The patterns that these experts need: stripes one way, the other way, and dots.
fn patterns(svg: &mut Svg, experts: &BTreeSet<u16>) {
    let needs = |p: usize| experts.iter().any(|&e| usize::from(e) / PALETTE.len() % PATTERNS == p);
    let stripes = |id: usize, turn: i32| {
        format!(
            r##"<defs><pattern id="p{id}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})"><rect width="2.2" height="6" fill="#fff" fill-opacity=".8"/></pattern></defs>"##
        )
    };
    let dots = r##"<defs><pattern id="p3" width="6" height="6" patternUnits="userSpaceOnUse"><circle cx="3" cy="3" r="1.5" fill="#fff" fill-opacity=".85"/></pattern></defs>"##;
    for (id, markup) in [(1, stripes(1, 45)), (2, stripes(2, -45)), (3, dots.to_owned())] {
        if needs(id) {
            svg.raw(&markup);
        }
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `x`.
fn round_step(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|&s| s >= x * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// Digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(c);
    }
    out
}

/// At most about `n` characters.
fn shorten(text: &str, n: f64) -> String {
    let n = (n as usize).max(4);
    if text.chars().count() <= n {
        text.to_owned()
    } else {
        text.chars().take(n - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let span =
            |start, end, lane, expert, kind| Span { start, end, lane, layer: 0, expert: Some(expert), kind };
        Timeline {
            title: "a < b & \"c\"".to_owned(),
            clock_hz: 300_000_000,
            cycles: 1200,
            events: 4,
            lanes: vec!["weight port".to_owned(), "<matrix>".to_owned()],
            layers: vec!["blk.1 & co".to_owned()],
            spans: vec![
                span(0, 300, 0, 3, SpanKind::Load),
                span(300, 600, 0, 12, SpanKind::Load),
                span(300, 900, 1, 3, SpanKind::Compute),
                span(900, 1200, 1, 12, SpanKind::Compute),
            ],
        }
    }

    #[test]
    fn names_are_escaped_and_bars_have_tooltips() {
        let svg = Gantt::default().svg(&timeline()).unwrap();
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains("&lt;matrix&gt;"));
        assert!(
            svg.contains(
                "<title>expert 3 load, blk.1 &amp; co: cycles 0 to 300 (300), 0.00 to 1.00 µs (1.00)"
            )
        );
        assert!(svg.contains("time in µs") && svg.contains("1\u{2009}200 cycles at 300 MHz = 4.0 µs"));
        assert!(svg.contains("url(#p1)") && svg.contains("id=\"p1\"") && !svg.contains("id=\"p2\""));
        assert_eq!(svg.matches("% busy").count(), 2);
        let cycles = Gantt { unit: TimeUnit::Cycles, ..Gantt::default() }.svg(&timeline()).unwrap();
        assert!(cycles.contains("time in cycles"));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |gantt: Gantt, change: fn(&mut Timeline)| {
            let mut timeline = timeline();
            change(&mut timeline);
            gantt.svg(&timeline).is_err()
        };
        assert!(refused(Gantt { width: 10, ..Gantt::default() }, |_| ()));
        assert!(refused(Gantt::default(), |t| t.cycles = 0));
        assert!(refused(Gantt::default(), |t| t.clock_hz = 0));
        assert!(refused(Gantt::default(), |t| t.spans[0].lane = 9));
        assert!(refused(Gantt::default(), |t| t.spans[0].end = 5000));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.7, 1.0, 1.2, 3.0, 6.0, 4200.0].map(round_step), [1.0, 1.0, 2.0, 5.0, 10.0, 5000.0]);
        assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
    }
}
