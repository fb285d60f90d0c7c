//! The order of records, and natural order of names.
use mtl_core::Record;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Compares runs of digits by their number: `task-2` before `task-10`.
///
/// ```
/// let mut names = ["task-10", "task-2", "parity"];
/// names.sort_by(|a, b| mtl_bench::store::natural_cmp(a, b));
/// assert_eq!(names, ["parity", "task-2", "task-10"]);
/// ```
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
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

/// The records in the order of [`compare`]. Names are compared once each, not once per comparison of records.
pub(super) fn sorted(records: Vec<Record>) -> Vec<Record> {
    let columns: [fn(&Record) -> &str; 6] =
        [|r| &r.study, |r| &r.setting, |r| &r.method, |r| &r.task, |r| &r.metric, |r| &r.cell];
    let mut keys: Vec<([u32; 6], usize)> = (0..records.len()).map(|i| ([0; 6], i)).collect();
    for (c, column) in columns.into_iter().enumerate() {
        // Neighbours mostly share a name: only where it changes is it looked up.
        let mut ranks: HashMap<&str, u32> = HashMap::new();
        let mut last = None;
        for record in &records {
            let name = column(record);
            if last != Some(name) {
                ranks.insert(name, 0);
                last = Some(name);
            }
        }
        let mut names: Vec<&str> = ranks.keys().copied().collect();
        // The cell is a hash.
        if c == 5 {
            names.sort_unstable()
        } else {
            names.sort_unstable_by(|a, b| natural_cmp(a, b))
        }
        for (rank, name) in (0..).zip(names) {
            ranks.insert(name, rank);
        }
        let mut last = ("", ranks.get("").copied().unwrap_or(0));
        for ((key, _), record) in keys.iter_mut().zip(&records) {
            let name = column(record);
            if last.0 != name {
                last = (name, ranks.get(name).copied().unwrap_or(0));
            }
            key[c] = last.1;
        }
    }
    keys.sort_by(|(a, i), (b, j)| {
        let (x, y) = (&records[*i], &records[*j]);
        (&a[..5], x.seed, a[5], x.step).cmp(&(&b[..5], y.seed, b[5], y.step))
    });
    let mut records: Vec<Option<Record>> = records.into_iter().map(Some).collect();
    keys.into_iter().filter_map(|(_, i)| records.get_mut(i).and_then(Option::take)).collect()
}

pub(super) fn compare(a: &Record, b: &Record) -> Ordering {
    series(a, b).then_with(|| a.cell.cmp(&b.cell)).then_with(|| a.step.cmp(&b.step))
}

/// Whether two records measure the same quantity of the same run, at two steps.
pub(super) fn same_series(a: &Record, b: &Record) -> bool {
    // Numbers first: they differ between most neighbours.
    a.seed == b.seed && a.cell == b.cell && series(a, b).is_eq()
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
        fn sorting_by_ranks_is_sorting_by_comparison(rows in proptest::collection::vec(("[a1]{0,2}", "[b02]{0,3}", "[c0-9]{0,2}", 0u64..3), 0..20)) {
            let row = |(m, t, c, s): (String, String, String, u64)| Record { cell: c, ..Record::new("x", 1.0).method(m).task(t).seed(s).step(s % 2) };
            let records: Vec<Record> = rows.into_iter().map(row).collect();
            let mut expected = records.clone();
            expected.sort_by(compare);
            prop_assert_eq!(sorted(records), expected);
        }

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
