//! Which splits a data set ends up with.
use super::{Dataset, Table};
use mtl_core::Seed;
use rand::seq::SliceRandom;
use serde_json::Value;

/// Names of splits that a task has.
pub(super) const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// Gives a data set a train, a validation and a test split, by these rules in order: a single split is called train;
/// `auxiliary_train` goes; a test split whose labels (column `labels`, or else `label`) are all equal goes, as they are
/// hidden; validation without train is halved into both; validation without test is halved into both; train without
/// validation gives a tenth for it; test without validation is halved into both. Draws use seed 0; rows keep their order.
///
/// The rules run twice in [`super::Annotation::apply`], so a lone split becomes 90 % train, 5 % validation, 5 % test.
pub fn fix_splits(dataset: &mut Dataset) {
    if dataset.len() == 1
        && let Some((_, table)) = dataset.pop_first()
    {
        dataset.insert("train".into(), table);
    }
    dataset.remove("auxiliary_train");
    if dataset.get("test").is_some_and(hides_labels) {
        dataset.remove("test");
    }
    let has = |dataset: &Dataset, name: &str| dataset.contains_key(name);
    if has(dataset, "validation") && !has(dataset, "train") {
        divide(dataset, "validation", "train", 2);
    }
    if has(dataset, "validation") && !has(dataset, "test") {
        divide(dataset, "validation", "test", 2);
    }
    if has(dataset, "train") && !has(dataset, "validation") {
        divide(dataset, "train", "validation", 10);
    }
    if has(dataset, "test") && !has(dataset, "validation") {
        divide(dataset, "test", "validation", 2);
    }
}

fn hides_labels(table: &Table) -> bool {
    let label = |row: &super::Row| row.get("labels").or_else(|| row.get("label")).cloned();
    let mut labels = table.rows.iter().map(label);
    let Some(Some(first)) = labels.next() else { return false };
    labels.all(|l| l == Some(first.clone()))
}

/// Moves one in `parts` rows (rounded up) of `from` to the new split `to`; a single row stays.
fn divide(dataset: &mut Dataset, from: &str, to: &str, parts: usize) {
    let Some(table) = dataset.get_mut(from) else { return };
    if table.rows.len() < 2 {
        return;
    }
    let moved = draw(table.rows.len(), table.rows.len().div_ceil(parts), &format!("tasksource {from} {to}"));
    let mut taken = Table::default();
    let mut kept = Vec::with_capacity(table.rows.len() - moved.len());
    let mut next = moved.into_iter().peekable();
    for (i, row) in std::mem::take(&mut table.rows).into_iter().enumerate() {
        if next.next_if_eq(&i).is_some() {
            taken.rows.push(row);
        } else {
            kept.push(row);
        }
    }
    table.rows = kept;
    dataset.insert(to.to_owned(), taken);
}

/// `n` of `of` indices, ascending, by seed 0.
fn draw(of: usize, n: usize, purpose: &str) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..of).collect();
    indices.shuffle(&mut Seed(0).stream(purpose, 0));
    indices.truncate(n);
    indices.sort_unstable();
    indices
}

/// Keeps at most `most` rows, drawn with seed 0, in their order.
pub(super) fn cap(table: &mut Table, most: usize, split: &str) {
    if table.rows.len() > most {
        let kept = draw(table.rows.len(), most, &format!("tasksource cap {split}"));
        let mut rows = std::mem::take(&mut table.rows).into_iter().map(Some).collect::<Vec<_>>();
        table.rows = kept.into_iter().filter_map(|i| rows.get_mut(i).and_then(Option::take)).collect();
    }
}

/// Whether a label stands for no label: null, or −1.
pub(super) fn is_hidden(label: &Value) -> bool {
    label.is_null() || label.as_i64() == Some(-1)
}
