//! Time of each block and unit as bars.
use super::canvas::{AXIS, Anchor, Canvas, GRID, INK, MUTED, widest, width};
use super::frame::Scale;
use super::{LABEL, MARGIN, SERIES, TICK, TITLE};
use crate::cost::Report;

const ROW: f64 = 19.0;
const BAR: f64 = 13.0;
const WIDTH: f64 = 520.0;

pub(crate) fn draw(report: &Report) -> anyhow::Result<Canvas> {
    let totals = report.totals();
    let ms = |cycles: u64| 1e3 * cycles as f64 / report.clock_hz as f64;
    let scale = Scale::from_zero(totals.iter().map(|t| ms(t.cycles)));
    let names: Vec<String> = totals.iter().map(|t| t.group.clone()).collect();
    let shares: Vec<String> = totals
        .iter()
        .map(|t| format!("{:.1} %, {}", 100.0 * t.cycles as f64 / report.cycles.max(1) as f64, t.bound))
        .collect();
    let title = format!(
        "{} on {}: {} ms",
        report.model,
        report.accelerator,
        crate::cli::table::number(report.latency_ms())
    );
    let left = MARGIN + widest(&names, TICK)? + 10.0;
    let top = MARGIN + TITLE + 40.0;
    let (right, bottom) = (left + WIDTH, top + ROW * totals.len() as f64 + 4.0);
    let total = (right + 10.0 + widest(&shares, TICK)?).max(MARGIN + width(&title, TITLE)?) + MARGIN;
    let mut canvas = Canvas::new(total, bottom + 50.0 + MARGIN);
    canvas.text((MARGIN, MARGIN + TITLE / 2.0), &title, TITLE, INK, Anchor::Start);
    let mut at = left;
    for (series, name) in ["compute", "loads and stores that nothing hides"].iter().enumerate() {
        let y = MARGIN + TITLE + 18.0;
        canvas.rect((at, y - 5.0), (at + 14.0, y + 5.0), SERIES[series]);
        canvas.text((at + 20.0, y), name, TICK, INK, Anchor::Start);
        at += 20.0 + width(name, TICK)? + 24.0;
    }
    let x = |v: f64| left + WIDTH * scale.at(v);
    for (v, text) in scale.ticks() {
        canvas.line(vec![(x(v), top), (x(v), bottom)], 1.0, GRID);
        canvas.text((x(v), bottom + 14.0), &text, TICK, MUTED, Anchor::Middle);
    }
    for (i, (t, share)) in totals.iter().zip(&shares).enumerate() {
        let y = top + ROW * (i as f64 + 0.5) + 2.0;
        canvas.text((left - 8.0, y), &t.group, TICK, INK, Anchor::End);
        let (compute, end) = (x(ms(t.cycles - t.exposed_cycles.min(t.cycles))), x(ms(t.cycles)));
        canvas.rect((left, y - BAR / 2.0), (compute, y + BAR / 2.0), SERIES[0]);
        canvas.rect((compute, y - BAR / 2.0), (end, y + BAR / 2.0), SERIES[1]);
        canvas.text((right + 10.0, y), share, TICK, MUTED, Anchor::Start);
    }
    canvas.line(vec![(left, top), (left, bottom), (right, bottom)], 1.0, AXIS);
    canvas.text(((left + right) / 2.0, bottom + 38.0), "time in ms", LABEL, INK, Anchor::Middle);
    Ok(canvas)
}
