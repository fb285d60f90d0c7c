//! Labels as classes, and choices with the right one first.
use super::splits::is_hidden;
use super::table::kind;
use super::{Dataset, Row};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A message about a row: split, index, column, what is wrong.
pub(super) type RowFault = (String, usize, &'static str, String);

const ENTAILMENT: [&str; 3] = ["entailment", "neutral", "contradiction"];

/// Turns text labels into indices of the sorted labels of the training split, or of entailment, neutral, contradiction in
/// this order; labels that are numbers or lists already, by the first one, stay. Returns the names.
pub(super) fn encode(dataset: &mut Dataset) -> Result<Option<Vec<String>>, RowFault> {
    let training = dataset.get("train").map(|t| t.rows.as_slice()).unwrap_or_default();
    match training.first().and_then(|r| r.get("labels")) {
        None | Some(Value::Number(_) | Value::Array(_)) => return Ok(None),
        Some(_) => {}
    }
    let mut names = BTreeSet::new();
    for (i, row) in training.iter().enumerate() {
        names.insert(label_name(row).map_err(|m| ("train".into(), i, "labels", m))?);
    }
    if names.len() < 2 {
        let message = format!("all labels are {:?}; a class label needs two", names.first());
        return Err(("train".into(), 0, "labels", message));
    }
    let nli = names.len() == 3 && ENTAILMENT.iter().all(|e| names.contains(*e));
    let names: Vec<String> =
        if nli { ENTAILMENT.map(str::to_owned).to_vec() } else { names.into_iter().collect() };
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    for (split, table) in dataset.iter_mut() {
        for (i, row) in table.rows.iter_mut().enumerate() {
            let fault = |message| (split.clone(), i, "labels", message);
            let name = label_name(row).map_err(fault)?;
            let Some(class) = index.get(name.as_str()) else {
                let fault =
                    (split.clone(), i, "labels", format!("`{name}` is not a label of the training split"));
                return Err(fault);
            };
            row.insert("labels".into(), (*class).into());
        }
    }
    Ok(Some(names))
}

fn label_name(row: &Row) -> Result<String, String> {
    match row.get("labels") {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(Value::Bool(flag)) => Ok(if *flag { "True" } else { "False" }.into()),
        Some(other) => Err(format!("is of kind {}, but the first label is a text", kind(other))),
        None => Err("is missing".into()),
    }
}

/// Spreads `choices_list` over `choice0`, `choice1`, …, the right one first, and cuts choices to `most`. Lists are cut to
/// the shortest in the data set; rows with fewer than two choices go. Choice columns are touched only if there are more
/// than `most`.
pub(super) fn choices(dataset: &mut Dataset, most: usize) -> Result<(), RowFault> {
    let listed = dataset.values().flat_map(|t| &t.rows).any(|r| r.contains_key("choices_list"));
    let columns = |row: &Row| (0..).take_while(|i| row.contains_key(&format!("choice{i}"))).count();
    let mut shortest = usize::MAX;
    for (split, table) in dataset.iter_mut() {
        if listed {
            for (i, row) in table.rows.iter().enumerate() {
                if !matches!(row.get("choices_list"), Some(Value::Array(_))) {
                    return Err((split.clone(), i, "choices_list", "must be a list".into()));
                }
            }
        }
        let options = |row: &Row| match row.get("choices_list") {
            Some(Value::Array(items)) => items.len(),
            _ => columns(row),
        };
        table.rows.retain(|row| options(row) >= 2);
        shortest = table.rows.iter().map(options).min().unwrap_or(usize::MAX).min(shortest);
    }
    if !listed && shortest <= most {
        return Ok(());
    }
    let kept = shortest.min(most);
    for (split, table) in dataset.iter_mut() {
        for (i, row) in table.rows.iter_mut().enumerate() {
            right_first(row, kept).map_err(|(column, message)| (split.clone(), i, column, message))?;
        }
    }
    Ok(())
}

fn right_first(row: &mut Row, kept: usize) -> Result<(), (&'static str, String)> {
    let options: Vec<Value> = match row.remove("choices_list") {
        Some(Value::Array(items)) => items,
        _ => (0..).map_while(|i| row.remove(&format!("choice{i}"))).collect(),
    };
    let label = row.get("labels").cloned().unwrap_or(Value::Null);
    let right = label.as_u64().and_then(|l| usize::try_from(l).ok()).filter(|l| *l < options.len());
    let Some(right) = right else {
        let why = if is_hidden(&label) { "stands for no label" } else { "is not the index of one" };
        return Err(("labels", format!("{label} {why}, but there are {} choices", options.len())));
    };
    let wrong = options.iter().enumerate().filter(|(i, _)| *i != right).map(|(_, o)| o);
    let order: Vec<Value> = options.get(right).into_iter().chain(wrong).take(kept).cloned().collect();
    for (i, option) in order.into_iter().enumerate() {
        row.insert(format!("choice{i}"), option);
    }
    row.insert("labels".into(), 0.into());
    Ok(())
}
