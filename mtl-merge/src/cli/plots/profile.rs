//! Norms of task vectors by layer, relative to the base model's.
use super::canvas::{AXIS, Anchor, Canvas, GRID, INK, MUTED, Rgb, fit, widest, width};
use crate::PartNorms;

const TITLE: f64 = 15.0;
const LABEL: f64 = 12.5;
const TICK: f64 = 11.5;
const MARGIN: f64 = 16.0;

/// Okabe and Ito's colours, told apart with every kind of colour blindness.
const SERIES: [Rgb; 8] = [
    Rgb(0x00, 0x72, 0xB2),
    Rgb(0xD5, 0x5E, 0x00),
    Rgb(0x00, 0x9E, 0x73),
    Rgb(0xCC, 0x79, 0xA7),
    Rgb(0xE6, 0x9F, 0x00),
    Rgb(0x56, 0xB4, 0xE9),
    Rgb(0x4D, 0x4D, 0x4D),
    Rgb(0xB8, 0xA8, 0x00),
];

pub(super) fn draw(profile: &[PartNorms], names: &[String]) -> anyhow::Result<Canvas> {
    // Percent of the base's norm; parts whose base is zero have none.
    let relative = |part: &PartNorms, model: usize| {
        (part.base_norm > 0.0).then(|| 100.0 * part.norms[model] / part.base_norm)
    };
    let all = profile.iter().flat_map(|part| (0..names.len()).filter_map(move |model| relative(part, model)));
    let (step, top_value) = scale(all.fold(0.0, f64::max));
    let ticks: Vec<(f64, String)> = (0..)
        .map(|i| f64::from(i) * step)
        .take_while(|v| *v <= top_value * 1.000_001)
        .map(|v| (v, tick(v, step)))
        .collect();
    let tick_texts: Vec<String> = ticks.iter().map(|(_, text)| text.clone()).collect();
    let labels: Vec<String> = profile.iter().map(|part| label(&part.part)).collect();
    let legend = widest(names, TICK)?.min(180.0);

    let left = MARGIN + LABEL + 14.0 + widest(&tick_texts, TICK)? + 8.0;
    let top = MARGIN + TITLE + 20.0;
    let (plot_width, plot_height) = ((labels.len() as f64 * 30.0).clamp(360.0, 760.0), 280.0);
    let (right, bottom) = (left + plot_width, top + plot_height);
    let total = right + 24.0 + 26.0 + legend + MARGIN;
    let height = (bottom + 50.0 + MARGIN).max(top + names.len() as f64 * 20.0 + MARGIN);
    let mut canvas = Canvas::new(total, height);
    canvas.text((MARGIN, MARGIN + TITLE / 2.0), "Norms of task vectors by layer", TITLE, INK, Anchor::Start);

    let x = |i: usize| left + plot_width * (i as f64 + 0.5) / labels.len().max(1) as f64;
    let y = |value: f64| bottom - plot_height * value / top_value;
    for (value, text) in &ticks {
        canvas.line(vec![(left, y(*value)), (right, y(*value))], 1.0, GRID);
        canvas.text((left - 8.0, y(*value)), text, TICK, MUTED, Anchor::End);
    }
    canvas.line(vec![(left, bottom), (right, bottom)], 1.0, AXIS);
    // As many labels as fit side by side; the first and the last always.
    let room = widest(&labels, TICK)? + 10.0;
    let every = (room / (plot_width / labels.len().max(1) as f64)).ceil().max(1.0) as usize;
    let last = labels.len().saturating_sub(1);
    for (i, text) in labels.iter().enumerate() {
        if i == last || (i % every == 0 && i + every <= last) {
            canvas.line(vec![(x(i), bottom), (x(i), bottom + 4.0)], 1.0, AXIS);
            canvas.text((x(i), bottom + 14.0), text, TICK, MUTED, Anchor::Middle);
        }
    }
    canvas.text(((left + right) / 2.0, bottom + 38.0), "layer", LABEL, INK, Anchor::Middle);
    let measure = "norm of τ, % of the base's norm";
    canvas.upwards((MARGIN + LABEL / 2.0, (top + bottom) / 2.0), measure, LABEL, INK, Anchor::Middle);

    for (model, name) in names.iter().enumerate() {
        let color = SERIES[model % SERIES.len()];
        let mut points = Vec::new();
        for (i, part) in profile.iter().enumerate() {
            // What lies outside the layers is no step of their sequence.
            let outside = is_outside(&part.part);
            if outside {
                flush(&mut canvas, &mut points, model, color);
            }
            points.extend(relative(part, model).map(|value| (x(i), y(value))));
            if outside || relative(part, model).is_none() {
                flush(&mut canvas, &mut points, model, color);
            }
        }
        flush(&mut canvas, &mut points, model, color);
        let at = top + 8.0 + 20.0 * model as f64;
        canvas.line(vec![(right + 24.0, at), (right + 44.0, at)], 2.0, color);
        marker(&mut canvas, (right + 34.0, at), model, color);
        canvas.text((right + 50.0, at), &fit(name, TICK, legend)?, TICK, INK, Anchor::Start);
    }
    debug_assert!(width(measure, LABEL)? < plot_height);
    Ok(canvas)
}

/// Draws the points gathered so far and starts a new line.
fn flush(canvas: &mut Canvas, points: &mut Vec<(f64, f64)>, model: usize, color: Rgb) {
    let points = std::mem::take(points);
    points.iter().for_each(|&point| marker(canvas, point, model, color));
    if points.len() > 1 {
        canvas.line(points, 1.6, color);
    }
}

/// Discs and squares in turn, so that colour is not the only difference.
fn marker(canvas: &mut Canvas, (x, y): (f64, f64), model: usize, color: Rgb) {
    // The colours repeat after eight models: the marks then change places.
    if (model + model / SERIES.len()).is_multiple_of(2) {
        canvas.disc((x, y), 3.0, color);
    } else {
        canvas.rect((x - 2.8, y - 2.8), (x + 2.8, y + 2.8), color);
    }
}

fn is_outside(part: &str) -> bool {
    part == "before" || part == "after"
}

/// The number of a layer, or the name of what lies outside the layers.
fn label(part: &str) -> String {
    let number = part.rsplit('.').next().unwrap_or(part);
    if number.bytes().all(|b| b.is_ascii_digit()) { number.to_owned() } else { part.to_owned() }
}

/// A round step and the end of an axis that holds `largest` in at most six steps.
fn scale(largest: f64) -> (f64, f64) {
    if largest <= 0.0 || !largest.is_finite() {
        return (0.5, 1.0);
    }
    let rough = largest / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(10.0 * power);
    (step, (largest / step).ceil() * step)
}

fn tick(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(scale(93.0), (20.0, 100.0));
        assert_eq!(scale(0.0), (0.5, 1.0));
        let (step, end) = scale(0.0031);
        assert_eq!((tick(step, step), tick(end, step)), ("0.001".to_owned(), "0.004".to_owned()));
    }

    #[test]
    fn layers_are_called_by_their_number() {
        assert_eq!((label("model.layers.12"), label("before")), ("12".to_owned(), "before".to_owned()));
    }
}
