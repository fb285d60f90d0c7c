//! A square matrix over models as a heat map.
use super::canvas::{Anchor, Canvas, INK, MUTED, Rgb, fit, widest, width};

const TITLE: f64 = 15.0;
const LABEL: f64 = 12.5;
const TICK: f64 = 11.5;
const MARGIN: f64 = 16.0;

pub(super) struct HeatMap<'m> {
    pub(super) title: &'m str,
    /// What the colours measure.
    pub(super) measure: &'m str,
    pub(super) names: &'m [String],
    pub(super) values: &'m [Vec<f64>],
    /// Values of the first and the last colour.
    pub(super) range: (f64, f64),
}

/// Cividis, which looks the same with every kind of colour blindness, darkest first.
const COLORS: [Rgb; 9] = [
    Rgb(0x00, 0x22, 0x4E),
    Rgb(0x12, 0x35, 0x70),
    Rgb(0x3B, 0x49, 0x6C),
    Rgb(0x57, 0x5D, 0x6D),
    Rgb(0x70, 0x71, 0x73),
    Rgb(0x8A, 0x86, 0x78),
    Rgb(0xA5, 0x9C, 0x74),
    Rgb(0xC3, 0xB3, 0x69),
    Rgb(0xFE, 0xE8, 0x38),
];

/// The colour of a share of the range, and an ink that is legible on it.
fn color(share: f64) -> (Rgb, Rgb) {
    let position = share.clamp(0.0, 1.0) * (COLORS.len() - 1) as f64;
    let below = (position as usize).min(COLORS.len() - 2);
    let weight = position - below as f64;
    let (a, b) = (COLORS[below], COLORS[below + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) * (1.0 - weight) + f64::from(b) * weight).round() as u8;
    let mixed = Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2));
    let light = 0.2126 * f64::from(mixed.0) + 0.7152 * f64::from(mixed.1) + 0.0722 * f64::from(mixed.2);
    (mixed, if light > 125.0 { Rgb(0x0A, 0x0A, 0x0A) } else { Rgb(0xFA, 0xFA, 0xFA) })
}

fn written(value: f64) -> String {
    format!("{value:.2}").replace('-', "−")
}

pub(super) fn draw(map: &HeatMap<'_>) -> anyhow::Result<Canvas> {
    let n = map.names.len() as f64;
    let cell = (560.0 / n).clamp(14.0, 64.0);
    let names = widest(map.names, TICK)?;
    let (left_names, below_names) = (names.min(180.0), names.min(140.0));
    let upright = names > cell - 6.0;
    let left = MARGIN + left_names + 10.0;
    let top = MARGIN + TITLE + 18.0;
    let (right, bottom) = (left + n * cell, top + n * cell.min(44.0));
    let height = cell.min(44.0);
    // Room for the numbers beside the bar, its label, and a title that may be wider than the map.
    let bar = right + 22.0;
    let total = (bar + 84.0 + MARGIN).max(MARGIN * 2.0 + width(map.title, TITLE)?);
    let tall = bottom.max(top + 110.0);
    let named = bottom + if upright { below_names + 14.0 } else { 26.0 };
    let mut canvas = Canvas::new(total, named.max(tall) + MARGIN);
    canvas.text((MARGIN, MARGIN + TITLE / 2.0), map.title, TITLE, INK, Anchor::Start);
    let (low, high) = map.range;
    for (i, row) in map.values.iter().enumerate() {
        let y = top + i as f64 * height;
        let name = fit(&map.names[i], TICK, left_names)?;
        canvas.text((left - 8.0, y + height / 2.0), &name, TICK, MUTED, Anchor::End);
        for (j, &value) in row.iter().enumerate() {
            let x = left + j as f64 * cell;
            let (fill, ink) = color((value - low) / (high - low));
            canvas.rect((x + 0.5, y + 0.5), (x + cell - 0.5, y + height - 0.5), fill);
            let text = written(value);
            if width(&text, TICK)? < cell - 4.0 && height > TICK + 2.0 {
                canvas.text((x + cell / 2.0, y + height / 2.0), &text, TICK, ink, Anchor::Middle);
            }
        }
    }
    for (j, name) in map.names.iter().enumerate() {
        let x = left + (j as f64 + 0.5) * cell;
        if upright {
            canvas.upwards((x, bottom + 8.0), &fit(name, TICK, below_names)?, TICK, MUTED, Anchor::End);
        } else {
            canvas.text((x, bottom + 14.0), name, TICK, MUTED, Anchor::Middle);
        }
    }
    // The bar that explains the colours.
    const SLICES: usize = 64;
    for slice in 0..SLICES {
        let y = |s: usize| tall - (tall - top) * s as f64 / SLICES as f64;
        let (fill, _) = color((slice as f64 + 0.5) / SLICES as f64);
        canvas.rect((bar, y(slice + 1)), (bar + 14.0, y(slice)), fill);
    }
    for share in [0.0, 0.5, 1.0] {
        let text = written(low + share * (high - low));
        canvas.text((bar + 20.0, tall - share * (tall - top)), &text, TICK, MUTED, Anchor::Start);
    }
    canvas.upwards((bar + 72.0, (top + tall) / 2.0), map.measure, LABEL, INK, Anchor::Middle);
    Ok(canvas)
}
