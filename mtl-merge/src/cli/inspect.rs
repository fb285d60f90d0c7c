//! `mtl-merge inspect`: what is in checkpoints, and how task vectors relate.
use crate::cli::{
    args::{self, Format},
    plots, print, print_json, progress, say, size,
    table::{Table, number},
};
use crate::{
    Progress, TaskVectorStats,
    tools::{self, ModelStats, ValueStats},
};

pub(crate) fn inspect(args: &args::Inspect) -> anyhow::Result<u8> {
    match &args.base {
        Some(base) => relate(base, args),
        None => list(args),
    }
}

fn list(args: &args::Inspect) -> anyhow::Result<u8> {
    let mut models = Vec::with_capacity(args.models.len());
    for model in &args.models {
        let progress = Progress::default();
        let stats = progress::watch("reading", args.quiet, &progress, || {
            progress::on_threads(args.threads, || tools::inspect(model, &progress))
        })???;
        models.push(stats);
    }
    match args.format() {
        Format::Json => print_json(&models)?,
        Format::Csv => print(&csv(&models))?,
        Format::Text => models.iter().try_for_each(|model| print(&text(model)))?,
    }
    Ok(0)
}

const VALUES: [&str; 7] = ["norm", "mean", "std", "min", "max", "zeros", "non-finite"];

fn values(values: Option<ValueStats>, write: fn(f64) -> String) -> [String; 7] {
    let Some(v) = values else { return std::array::from_fn(|_| "-".to_owned()) };
    let [norm, mean, std, min, max] = [v.norm, v.mean, v.std, v.min, v.max].map(write);
    [norm, mean, std, min, max, v.zeros.to_string(), v.non_finite.to_string()]
}

fn shape(shape: &[usize], between: &str) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

fn text(model: &ModelStats) -> String {
    let mut table = Table::new(&[&["tensor", "type", "shape", "bytes"][..], &VALUES].concat());
    for t in &model.tensors {
        let first = [t.name.clone(), t.dtype.clone(), shape(&t.shape, "×"), t.bytes.to_string()];
        table.row(&[&first[..], &values(t.values, number)].concat());
    }
    let dtypes: Vec<String> = model.dtypes.iter().map(|(dtype, n)| format!("{n} {dtype}")).collect();
    format!(
        "{}: {} tensors, {} elements ({}), {}, norm {}{}\n\n{table}\n",
        model.model,
        model.tensors.len(),
        model.elements,
        dtypes.join(", "),
        size::human(model.bytes),
        number(model.norm),
        if model.non_finite > 0 {
            format!(", {} values NaN or infinite", model.non_finite)
        } else {
            String::new()
        }
    )
}

fn csv(models: &[ModelStats]) -> String {
    let mut table =
        Table::new(&[&["model", "tensor", "dtype", "shape", "elements", "bytes"][..], &VALUES].concat());
    for model in models {
        for t in &model.tensors {
            let (elements, bytes) = (t.elements.to_string(), t.bytes.to_string());
            let first =
                [model.model.clone(), t.name.clone(), t.dtype.clone(), shape(&t.shape, "x"), elements, bytes];
            table.row(&[&first[..], &values(t.values, |x| x.to_string())].concat());
        }
    }
    table.csv()
}

fn relate(base: &str, args: &args::Inspect) -> anyhow::Result<u8> {
    let models: Vec<&str> = args.models.iter().map(String::as_str).collect();
    let progress = Progress::default();
    let stats = progress::watch("comparing", args.quiet, &progress, || {
        progress::on_threads(args.threads, || TaskVectorStats::of_models(base, &models))
    })???;
    let names = short(&args.models);
    match args.format() {
        Format::Json => print_json(&stats)?,
        Format::Csv => print(&profile(&stats, &stats.models, |x| x.to_string()).csv())?,
        Format::Text => print(&related(base, &stats, &names))?,
    }
    if let Some(dir) = &args.plots {
        let files = plots::write(dir, &stats, &names)?;
        if !args.quiet {
            say(&format!("plots: {}", files.join(", ")));
        }
    }
    Ok(0)
}

fn related(base: &str, stats: &TaskVectorStats, names: &[String]) -> String {
    let columns = columns(names);
    let mut norms = Table::new(&["model", "‖τ‖", "‖τ‖/‖base‖"]);
    for ((column, name), &norm) in columns.iter().zip(names).zip(&stats.norms) {
        let share = if stats.base_norm > 0.0 { number(norm / stats.base_norm) } else { "-".to_owned() };
        let label = if column == name { name.clone() } else { format!("{column} {name}") };
        norms.row(&[label, number(norm), share]);
    }
    let matrix = |values: &[Vec<f64>]| {
        let mut table =
            Table::new(&[&[""][..], &columns.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        for (name, row) in columns.iter().zip(values) {
            let cells = row.iter().map(|x| format!("{x:.4}"));
            table.row(&std::iter::once(name.clone()).chain(cells).collect::<Vec<_>>());
        }
        table.to_string()
    };
    format!(
        "Task vectors τ of {} models against `{base}`, norm {}, {} elements\n\n{norms}\n\
         Cosine of the angles between task vectors\n{}\n\
         Share of opposite signs where both task vectors are non-zero\n{}\n\
         {:.2} % of the changed elements are pushed in opposite directions by some models\n\n\
         Norms of task vectors by part of the model\n{}",
        names.len(),
        number(stats.base_norm),
        stats.elements,
        matrix(&stats.cosine),
        matrix(&stats.sign_conflict),
        100.0 * stats.any_conflict,
        profile(stats, &columns, number)
    )
}

fn profile(stats: &TaskVectorStats, names: &[String], write: fn(f64) -> String) -> Table {
    let head: Vec<&str> = ["part", "base"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(&head);
    for part in &stats.profile {
        let norms = part.norms.iter().map(|&x| write(x));
        table.row(&[part.part.clone(), write(part.base_norm)].into_iter().chain(norms).collect::<Vec<_>>());
    }
    table
}

/// Heads of columns: the names, or numbers where a name is long.
fn columns(names: &[String]) -> Vec<String> {
    if names.iter().all(|name| name.chars().count() <= 20) {
        return names.to_vec();
    }
    (1..=names.len()).map(|i| format!("[{i}]")).collect()
}

/// Names without the folders they share, for tables and plots.
fn short(models: &[String]) -> Vec<String> {
    let trimmed = || models.iter().map(|m| m.trim_end_matches('/'));
    let Some(first) = trimmed().next() else { return Vec::new() };
    let common = |prefix: &&str| trimmed().all(|m| m.starts_with(*prefix) && m.len() > prefix.len());
    let cuts = first.char_indices().filter(|(_, c)| *c == '/').map(|(i, _)| &first[..=i]);
    let prefix = cuts.rev().find(common).map_or(0, str::len);
    let bare = |m: &str| m[prefix..].strip_suffix(".safetensors").unwrap_or(&m[prefix..]).to_owned();
    trimmed().map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_folders_they_share() {
        let models = ["runs/a/digits/".to_owned(), "runs/b/letters.safetensors".to_owned()];
        assert_eq!(short(&models), ["a/digits", "b/letters"]);
        assert_eq!(short(&["x".to_owned(), "y".to_owned()]), ["x", "y"]);
        assert_eq!(short(&["d/x".to_owned()]), ["x"]);
    }
}
