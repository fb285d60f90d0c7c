//! Axes: range, ticks and their labels.

/// A map from data to the unit interval, with ticks at round numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// An axis that holds all `values`, widened to round numbers by at most one tick.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let step = step(low, high, 6.0);
        Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, log: false }
    }

    /// An axis that ends exactly at the first and the last value.
    pub(super) fn tight(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        Self { low, high, log: false }
    }

    /// An axis with some air around the values.
    pub(super) fn padded(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let air = 0.07 * (high - low);
        Self { low: low - air, high: high + air, log: false }
    }

    /// A logarithmic axis with some air; all values must be positive.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values.into_iter().map(f64::log10));
        let air = 0.07 * (high - low);
        Self { low: low - air, high: high + air, log: true }
    }

    /// Position of `value`: 0 at the lower end, 1 at the upper one.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// Ticks, about `target` of them, with labels.
    pub(super) fn ticks(&self, target: f64) -> Vec<(f64, String)> {
        if self.log {
            return self.log_ticks(target);
        }
        let step = step(self.low, self.high, target);
        let size = self.low.abs().max(self.high.abs());
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).map(|v| (v, label(v, step, size))).collect()
    }

    fn log_ticks(&self, target: f64) -> Vec<(f64, String)> {
        let decades = self.high - self.low;
        let mantissas: &[f64] = if decades > target {
            &[1.0]
        } else if decades > 1.5 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        };
        let mut ticks = Vec::new();
        for exponent in self.low.floor() as i32..=self.high.ceil() as i32 {
            for mantissa in mantissas {
                let value = mantissa * 10_f64.powi(exponent);
                if (-1e-9..=1.0 + 1e-9).contains(&self.place(value)) {
                    let step = if *mantissa == 1.5 { 0.1 } else { 1.0 } * 10_f64.powi(exponent);
                    ticks.push((value, label(value, step, value)));
                }
            }
        }
        ticks
    }
}

/// Smallest and largest value, made apart when they are equal; 0 to 1 when there are none.
fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    if high - low <= 1e-9 * high.abs().max(low.abs()) {
        let air = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        return (low - air, high + air);
    }
    (low, high)
}

/// The round step (1, 2 or 5 times a power of ten) that gives at most `target` intervals.
fn step(low: f64, high: f64, target: f64) -> f64 {
    let raw = (high - low) / target;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= raw * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// `value` with the decimals that a step needs; thousands as k, then M, G and T, when the axis reaches `size`.
fn label(value: f64, step: f64, size: f64) -> String {
    if value.abs() < 1e-9 * step {
        return "0".to_owned();
    }
    let (unit, suffix) = match size {
        size if size >= 1e12 => (1e12, "T"),
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    if size < 1e-3 {
        return format!("{value:.0e}").replace('-', "−");
    }
    let decimals = (-(step / unit * 1.000_001).log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{:.decimals$}", value / unit).replace('-', "−") + suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks(6.0).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::linear([0.83, 0.97])), ["0.80", "0.85", "0.90", "0.95", "1.00"]);
        assert_eq!(labels(&Axis::linear([0.0, 25_000.0])), ["0", "5k", "10k", "15k", "20k", "25k"]);
        assert_eq!(labels(&Axis::linear([-3.0, 2.0])), ["−3", "−2", "−1", "0", "1", "2"]);
    }

    proptest! {
        #[test]
        fn an_axis_holds_its_values_and_has_ticks(a in -1e6..1e6_f64, b in -1e6..1e6_f64) {
            for axis in [Axis::linear([a, b]), Axis::padded([a, b]), Axis::tight([a, b]), Axis::log([a.abs() + 1.0, b.abs() + 1.0])] {
                let places = if axis.log { [axis.place(a.abs() + 1.0), axis.place(b.abs() + 1.0)] } else { [axis.place(a), axis.place(b)] };
                for place in places {
                    prop_assert!((-1e-6..=1.0 + 1e-6).contains(&place), "{place}");
                }
                if !axis.log {
                    let n = axis.ticks(6.0).len();
                    prop_assert!((2..=8).contains(&n), "{n} ticks");
                }
            }
        }
    }
}
