//! `mtl-hw validate`: predictions beside published numbers.
use crate::cli::args::Validate;
use crate::cli::table::Table;
use crate::cli::{files, print, print_json, say};
use crate::validation::{render, rows};

pub(crate) fn validate(args: &Validate) -> anyhow::Result<u8> {
    let rows = rows()?;
    if let Some(path) = &args.write {
        let text = render()?;
        files::write(path, |out| Ok(out.write_all(text.as_bytes())?))?;
    } else if args.output.json {
        print_json(&rows)?;
    } else if args.output.csv {
        let mut table = Table::new([
            "design",
            "model",
            "quantity",
            "published",
            "predicted",
            "error",
            "tolerance",
            "role",
            "nature",
            "note",
        ]);
        for r in &rows {
            table.row([
                r.design.as_str().into(),
                r.model.as_str().into(),
                r.quantity.to_string().into(),
                r.published.into(),
                r.predicted.into(),
                r.error().into(),
                r.tolerance.into(),
                r.role.to_string().into(),
                r.nature.to_string().into(),
                r.note.as_str().into(),
            ]);
        }
        print(&table.csv())?;
    } else {
        print(&render()?)?;
    }
    for r in rows.iter().filter(|r| !args.output.quiet && !r.holds()) {
        let (design, model, quantity) = (&r.design, &r.model, r.quantity);
        say(&format!("{design}, {model}, {quantity}: off by {:.1} %", 100.0 * r.error()));
    }
    Ok(0)
}
