//! `mtl-merge diff`: how two checkpoints differ.
use crate::cli::{
    DIFFERS, args, print, print_json, progress,
    table::{Table, number},
};
use crate::{
    Progress,
    tools::{self, Diff, Tolerance},
};

pub(crate) fn diff(args: &args::Diff) -> anyhow::Result<u8> {
    let tolerance = Tolerance { atol: args.atol, rtol: args.rtol, any_dtype: args.any_dtype };
    let progress = Progress::default();
    let found = progress::watch("comparing", args.quiet, &progress, || {
        progress::on_threads(args.threads, || tools::diff(&args.first, &args.second, tolerance, &progress))
    })???;
    if args.json {
        print_json(&found)?;
    } else if !args.quiet {
        print(&text(&found, args))?;
    }
    Ok(if found.equal { 0 } else { DIFFERS })
}

fn text(found: &Diff, args: &args::Diff) -> String {
    let mut text = String::new();
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    for (names, model) in [(&found.only_first, &args.first), (&found.only_second, &args.second)] {
        names.iter().take(limit).for_each(|name| text += &format!("only in `{model}`: {name}\n"));
        text += &rest(names.len(), limit);
    }
    for shape in found.shapes.iter().take(limit) {
        let (a, b) = (&shape.first, &shape.second);
        text += &format!(
            "{}: {} {:?} in `{}`, {} {:?} in `{}`\n",
            shape.name, a.0, a.1, args.first, b.0, b.1, args.second
        );
    }
    text += &rest(found.shapes.len(), limit);
    if !found.tensors.is_empty() {
        let head = [
            "tensor",
            "type",
            "different",
            "of",
            "max |a-b|",
            "max rel.",
            "rel. norm",
            "1 - cosine",
            "max ulp",
            "at",
        ];
        let mut table = Table::new(&head);
        let or_none = |x: Option<f64>| x.map_or("-".to_owned(), number);
        for t in found.tensors.iter().take(limit) {
            let (a, b) = &t.dtypes;
            table.row(&[
                t.name.clone(),
                if a == b { a.clone() } else { format!("{a}/{b}") },
                t.different.to_string(),
                t.elements.to_string(),
                number(t.max_abs),
                number(t.max_rel),
                or_none(t.relative_norm),
                or_none(t.cosine.map(|c| 1.0 - c)),
                t.max_ulp.map_or("-".to_owned(), |u| u.to_string()),
                t.worst.map_or("-".to_owned(), |u| u.to_string()),
            ]);
        }
        text += &table.to_string();
        text += &rest(found.tensors.len(), limit);
    }
    let verdict = if found.equal { "equal" } else { "different" };
    let within = if args.rtol == 0.0 && args.atol == 0.0 {
        String::new()
    } else {
        format!(" within rtol {} and atol {}", args.rtol, args.atol)
    };
    let missing = found.only_first.len() + found.only_second.len();
    text + &format!(
        "{verdict}{within}: {} tensors compared, {} identical, {missing} in one only, {} of other shape or type\n",
        found.compared,
        found.identical,
        found.shapes.len()
    )
}

fn rest(total: usize, limit: usize) -> String {
    if total > limit {
        format!("… and {} more; `--limit 0` lists all\n", total - limit)
    } else {
        String::new()
    }
}
