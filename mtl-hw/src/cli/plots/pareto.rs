//! Non-dominated designs over two axes, coloured by a third.
pub(crate) use super::canvas::Canvas;
use super::canvas::{AXIS, Anchor, INK, MUTED, Rgb, width};
use super::frame::{Frame, Scale};
use super::{LABEL, TICK};

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: (&'a str, Vec<f64>),
    pub(crate) y: (&'a str, Vec<f64>),
    /// Colours, where there is a third axis.
    pub(crate) z: Option<(&'a str, Vec<f64>)>,
    /// A point to name.
    pub(crate) knee: Option<usize>,
    /// Whether a larger y is better.
    pub(crate) rising: bool,
}

/// Five steps of the cividis map, which readers with any colour vision see as dark to light.
const STEPS: [Rgb; 5] = [
    Rgb(0x00, 0x22, 0x4E),
    Rgb(0x43, 0x4E, 0x6C),
    Rgb(0x7D, 0x7C, 0x78),
    Rgb(0xBC, 0xAF, 0x6F),
    Rgb(0xF2, 0xD6, 0x3A),
];

/// The colour at `t` from 0 to 1.
fn color(t: f64) -> Rgb {
    let t = t.clamp(0.0, 1.0) * (STEPS.len() - 1) as f64;
    let (i, share) = ((t as usize).min(STEPS.len() - 2), t - (t as usize).min(STEPS.len() - 2) as f64);
    let (Rgb(a, b, c), Rgb(d, e, f)) = (STEPS[i], STEPS[i + 1]);
    let mix = |x: u8, y: u8| (f64::from(x) + share * (f64::from(y) - f64::from(x))).round() as u8;
    Rgb(mix(a, d), mix(b, e), mix(c, f))
}

pub(crate) fn draw(plot: &Plot<'_>) -> anyhow::Result<Canvas> {
    let (xs, ys) = (&plot.x.1, &plot.y.1);
    let (x, y) = (Scale::around(xs.iter().copied()), Scale::around(ys.iter().copied()));
    let margin = if plot.z.is_some() { 110.0 } else { 30.0 };
    let mut frame = Frame::new(plot.title, [520.0, 340.0], margin, (x, plot.x.0), (y, plot.y.0))?;
    // The outline of what can be reached in these two axes alone.
    let mut order: Vec<usize> = (0..xs.len()).collect();
    let sign = if plot.rising { -1.0 } else { 1.0 };
    order.sort_by(|&a, &b| xs[a].total_cmp(&xs[b]).then((sign * ys[a]).total_cmp(&(sign * ys[b]))));
    let mut line: Vec<(f64, f64)> = Vec::new();
    let mut best = f64::INFINITY;
    for &i in &order {
        if sign * ys[i] < best {
            best = sign * ys[i];
            let (px, py) = frame.point((xs[i], ys[i]));
            if let Some(&(_, before)) = line.last() {
                line.push((px, before));
            }
            line.push((px, py));
        }
    }
    if line.len() > 1 {
        frame.canvas.line(line, 1.2, AXIS);
    }
    let z = plot.z.as_ref().map(|(name, values)| {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        (name, values, finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max))
    });
    for &i in &order {
        let share = z.map_or(0.25, |(_, v, lo, hi)| if hi > lo { (v[i] - lo) / (hi - lo) } else { 0.5 });
        let at = frame.point((xs[i], ys[i]));
        frame.canvas.disc(at, 4.8, INK);
        frame.canvas.disc(at, 4.0, color(share));
    }
    if let Some(knee) = plot.knee.filter(|&k| k < xs.len()) {
        let at = frame.point((xs[knee], ys[knee]));
        ring(&mut frame.canvas, at);
        // Named above the plot, where no mark can lie.
        let name = (frame.right - width("knee", TICK)?, frame.top - 12.0);
        ring(&mut frame.canvas, (name.0 - 14.0, name.1));
        frame.canvas.text(name, "knee", TICK, INK, Anchor::Start);
    }
    if let Some((name, _, lo, hi)) = z {
        bar(&mut frame, name, lo, hi);
    }
    Ok(frame.canvas)
}

/// A circle around a mark.
fn ring(canvas: &mut Canvas, (x, y): (f64, f64)) {
    let at = |i: u32| {
        let angle = f64::from(i) * std::f64::consts::TAU / 48.0;
        (x + 8.5 * angle.cos(), y + 8.5 * angle.sin())
    };
    canvas.line((0..=48).map(at).collect(), 1.8, Rgb(0xD5, 0x5E, 0x00));
}

/// The scale of the colours, right of the plot.
fn bar(frame: &mut Frame, name: &str, lo: f64, hi: f64) {
    let (left, top, bottom) = (frame.right + 30.0, frame.top + 10.0, frame.bottom - 10.0);
    let rows = 64;
    for i in 0..rows {
        let y = |k: i32| bottom - (bottom - top) * f64::from(k) / f64::from(rows);
        frame.canvas.rect(
            (left, y(i + 1)),
            (left + 14.0, y(i) + 0.4),
            color((f64::from(i) + 0.5) / f64::from(rows)),
        );
    }
    for (share, value) in [(0.0, lo), (0.5, (lo + hi) / 2.0), (1.0, hi)] {
        let text = crate::cli::table::number(value);
        let y = bottom - (bottom - top) * share;
        frame.canvas.text((left + 20.0, y), &text, TICK, MUTED, Anchor::Start);
    }
    frame.canvas.upwards((left + 76.0, (top + bottom) / 2.0), name, LABEL, INK, Anchor::Middle);
}
