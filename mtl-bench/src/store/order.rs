//! The order of records, and natural order of names.
use mtl_core::Record;
use std::cmp::Ordering;

/// Compares runs of digits by their number: `task-2` before `task-10`.
///
/// ```
/// let mut names = ["task-10", "task-2", "parity"];
/// names.sort_by(|a, b| mtl_bench::store::natural_cmp(a, b));
/// assert_eq!(names, ["parity", "task-2", "task-10"]);
/// ```
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let (dx, dy) = (leading_digits(x), leading_digits(y));
        if dx > 0 && dy > 0 {
            let (nx, ny) = (x[..dx].trim_start_matches('0'), y[..dy].trim_start_matches('0'));
            let order = nx.len().cmp(&ny.len()).then_with(|| nx.cmp(ny));
            if order.is_ne() {
                return order;
            }
            (x, y) = (&x[dx..], &y[dy..]);
            continue;
        }
        let (mut cx, mut cy) = (x.chars(), y.chars());
        match (cx.next(), cy.next()) {
            (None, None) => return a.cmp(b), // `1` and `01` differ.
            (p, q) if p == q => (x, y) = (cx.as_str(), cy.as_str()),
            (p, q) => return p.cmp(&q),
        }
    }
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

pub(super) fn compare(a: &Record, b: &Record) -> Ordering {
    series(a, b).then_with(|| a.cell.cmp(&b.cell)).then_with(|| a.step.cmp(&b.step))
}

/// Whether two records measure the same quantity of the same run, at two steps.
pub(super) fn same_series(a: &Record, b: &Record) -> bool {
    series(a, b).is_eq() && a.cell == b.cell
}

fn series(a: &Record, b: &Record) -> Ordering {
    natural_cmp(&a.study, &b.study)
        .then_with(|| natural_cmp(&a.setting, &b.setting))
        .then_with(|| natural_cmp(&a.method, &b.method))
        .then_with(|| natural_cmp(&a.task, &b.task))
        .then_with(|| natural_cmp(&a.metric, &b.metric))
        .then_with(|| a.seed.cmp(&b.seed))
}

/// A record without its value, in words, for errors.
pub(super) fn describe(record: &Record) -> String {
    let mut text = format!("`{}`", record.metric);
    let parts = [("method", &record.method), ("setting", &record.setting), ("task", &record.task)];
    for (name, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!(", {name} `{value}`");
    }
    text + &format!(", seed {}, step {}", record.seed, record.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn natural_order_is_total_and_agrees_with_equality(a in "[a0-2]{0,4}", b in "[a0-2]{0,4}", c in "[a0-2]{0,4}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b).is_eq(), a == b);
            if natural_cmp(&a, &b).is_le() && natural_cmp(&b, &c).is_le() {
                prop_assert!(natural_cmp(&a, &c).is_le());
            }
        }
    }
}
