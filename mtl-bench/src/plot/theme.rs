//! One visual style for all figures.
use super::drawing::{Color, Font};

/// Okabe and Ito's colours, told apart with every kind of colour blindness; the pale yellow comes last.
pub const SERIES: [Color; 8] = [
    Color::hex(0x0072B2),
    Color::hex(0xD55E00),
    Color::hex(0x009E73),
    Color::hex(0xCC79A7),
    Color::hex(0xE69F00),
    Color::hex(0x56B4E9),
    Color::hex(0x4D4D4D),
    Color::hex(0xB8A800),
];

pub(super) const INK: Color = Color::hex(0x1F2328);
pub(super) const MUTED: Color = Color::hex(0x57606A);
pub(super) const GRID: Color = Color::hex(0xE4E7EB);
pub(super) const AXIS: Color = Color::hex(0x8C959F);

pub(super) const TITLE: Font = Font::new(15.0, INK).bold();
pub(super) const LABEL: Font = Font::new(12.5, INK);
pub(super) const TICK: Font = Font::new(11.5, MUTED);
pub(super) const SMALL: Font = Font::new(10.5, MUTED);

/// Default size of a figure, CSS pixels.
pub(super) const WIDTH: f64 = 720.0;
pub(super) const HEIGHT: f64 = 440.0;
/// Space around everything.
pub(super) const MARGIN: f64 = 16.0;

pub(super) fn series_color(i: usize) -> Color {
    SERIES[i % SERIES.len()]
}

/// Viridis, darkest first.
const VIRIDIS: [u32; 9] =
    [0x440154, 0x472D7B, 0x3B528B, 0x2C728E, 0x21918C, 0x28AE80, 0x5EC962, 0xADDC30, 0xFDE725];

/// Blue, white, orange of equal lightness at equal distance: told apart with every kind of colour blindness.
const DIVERGING: [u32; 9] =
    [0x00476F, 0x0072B2, 0x5DA5D0, 0xB5D6EA, 0xF7F7F7, 0xF7CBAB, 0xEC9758, 0xD55E00, 0x8A3D00];

/// The colour of a share between 0 and 1 on a scale without a centre, and an ink that is legible on it.
pub(super) fn viridis(share: f64) -> (Color, Color) {
    ramp(&VIRIDIS, share)
}

/// The colour of a share between 0 and 1 on a scale whose centre is 0.5, and an ink that is legible on it.
pub(super) fn diverging(share: f64) -> (Color, Color) {
    ramp(&DIVERGING, share)
}

fn ramp(stops: &[u32; 9], share: f64) -> (Color, Color) {
    let position = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let below = (position as usize).min(stops.len() - 2);
    let weight = position - below as f64;
    let (a, b) = (Color::hex(stops[below]).rgb, Color::hex(stops[below + 1]).rgb);
    let mix = |i: usize| (f64::from(a[i]) * (1.0 - weight) + f64::from(b[i]) * weight).round() as u8;
    let rgb = [mix(0), mix(1), mix(2)];
    let light = 0.2126 * f64::from(rgb[0]) + 0.7152 * f64::from(rgb[1]) + 0.0722 * f64::from(rgb[2]);
    let ink = if light > 125.0 { Color::hex(0x0A0A0A) } else { Color::hex(0xFAFAFA) };
    (Color { rgb, alpha: 1.0 }, ink)
}
