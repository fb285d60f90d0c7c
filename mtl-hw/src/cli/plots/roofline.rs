//! Layers under the roofline of a design.
use super::canvas::{Anchor, Canvas, INK, MUTED, width};
use super::frame::{Frame, Scale, mark};
use super::{SERIES, TICK};
use crate::cli::estimate::Estimated;
use crate::cli::table::number;
use crate::cost::roofline::Roofline;
use crate::graph::{OpKind, Part};

/// Series of the legend.
const GROUPS: [&str; 6] = ["embedding", "attention", "feed-forward", "experts", "heads", "convolutions"];

fn group(part: Part, kind: OpKind) -> usize {
    match part {
        _ if matches!(kind, OpKind::MoeFfn | OpKind::GatedMoeFfn) => 3,
        Part::Embedding => 0,
        Part::Attention => 1,
        Part::FeedForward => 2,
        Part::Head => 4,
        Part::Backbone => 5,
    }
}

pub(crate) fn draw(e: &Estimated) -> anyhow::Result<Canvas> {
    let hz = e.report.clock_hz;
    let roof = Roofline { peak_macs: e.report.peak_macs, clock_hz: hz, bytes_per_s: e.bandwidth()? };
    let (mut points, mut left_out) = (Vec::new(), 0);
    for (layer, bytes) in e.layers().filter(|(l, _)| l.macs > 0) {
        // What a layer takes by itself: its own load may be hidden in another's time.
        let cycles = layer.cycles.max(layer.load_cycles).max(layer.compute_cycles);
        if bytes == 0 || cycles == 0 {
            left_out += 1;
            continue;
        }
        let rate = 1e-9 * layer.macs as f64 * hz as f64 / cycles as f64;
        points.push((group(layer.part, layer.kind), (layer.macs as f64 / bytes as f64, rate)));
    }
    let peak = 1e-9 * roof.peak_macs as f64 * hz as f64;
    let ridge = roof.ridge()?;
    let x = Scale::log(points.iter().map(|p| p.1.0).chain([ridge / 4.0, ridge * 4.0]));
    let y = Scale::log(points.iter().map(|p| p.1.1).chain([peak * 1.3, peak / 20.0]));
    let title = format!("Roofline: {} on {}", e.report.model, e.report.accelerator);
    let axes = ("multiply-accumulates per off-chip byte", "10⁹ multiply-accumulates per second");
    let mut frame = Frame::new(&title, [460.0, 320.0], 150.0, (x, axes.0), (y, axes.1))?;

    let slope = |intensity: f64| 1e-9 * intensity * roof.bytes_per_s as f64;
    let (low, high) = (x.ends(), y.ends());
    let start = (high.0 / (1e-9 * roof.bytes_per_s as f64)).max(low.0);
    let line = [(start, slope(start)), (ridge, peak), (low.1, peak)].map(|p| frame.point(p));
    frame.canvas.line(line.to_vec(), 1.8, INK);
    let over = format!("{} GMAC/s", number(peak));
    frame.canvas.text((frame.px(ridge) + 2.0, frame.py(peak) - 13.0), &over, TICK, MUTED, Anchor::Start);
    let bandwidth = format!("{} GB/s", number(1e-9 * roof.bytes_per_s as f64));
    let middle = (start * ridge).sqrt();
    let at = frame.point((middle, slope(middle)));
    let room = width(&bandwidth, TICK)?;
    let right = at.0 - 10.0 - room < frame.left;
    let at = if right { (at.0 + 12.0, at.1 + 10.0) } else { (at.0 - 10.0, at.1) };
    frame.canvas.text(at, &bandwidth, TICK, MUTED, if right { Anchor::Start } else { Anchor::End });

    for &(series, point) in &points {
        let at = frame.point(point);
        if frame.inside(point) {
            mark(&mut frame.canvas, at, series, SERIES[series]);
        }
    }
    let mut row = 0;
    for (series, name) in GROUPS.iter().enumerate() {
        if points.iter().any(|p| p.0 == series) {
            frame.legend(row, series, SERIES[series], name);
            row += 1;
        }
    }
    if left_out > 0 {
        let y = frame.top + 8.0 + 20.0 * row as f64 + 8.0;
        for (i, line) in
            [format!("{left_out} without off-chip"), "bytes not shown".to_owned()].iter().enumerate()
        {
            let at = (frame.right + 25.0, y + 15.0 * i as f64);
            frame.canvas.text(at, line, TICK, MUTED, Anchor::Start);
        }
    }
    Ok(frame.canvas)
}
