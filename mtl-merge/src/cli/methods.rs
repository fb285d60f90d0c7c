//! `mtl-merge methods`: what can be merged how.
use crate::cli::{args, print, print_json, table::Table};
use crate::{Base, MethodSpec, Methods, ParamKind, ParamSpec, Preset};
use serde_json::json;

pub(crate) fn methods(args: &args::Methods, all: &Methods) -> anyhow::Result<u8> {
    if let Some(name) = &args.name {
        let spec = all.get(name)?.spec();
        if args.json {
            print_json(&as_json(spec))?
        } else {
            print(&explain(spec))?
        }
        return Ok(0);
    }
    if args.json {
        print_json(&all.specs().map(as_json).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut table = Table::new(&["method", "base", "models", "parameters (= default)", "source"]);
    for spec in all.specs() {
        let params: Vec<String> = spec.params.iter().map(short).collect();
        table.row(&[spec.info.name, base(spec), &models(spec), &params.join(", "), spec.info.source]);
    }
    print(&format!(
        "{table}\nParameters marked * may differ between models. `mtl-merge methods NAME` explains one.\n"
    ))?;
    Ok(0)
}

fn explain(spec: &MethodSpec) -> String {
    let info = &spec.info;
    let mut text = format!("{}: {} ({})\n", info.name, info.paper, info.source);
    text += &format!("base model {}; {} models besides it\n", base(spec), models(spec));
    let mut table = Table::new(&["parameter", "scope", "value", "default", ""]);
    for param in spec.params {
        let scope = if param.is_per_model() { "per model" } else { "all" };
        table.row(&[param.name, scope, accepted(param), &preset(param), param.about]);
    }
    if !spec.params.is_empty() {
        text += &format!("\n{table}");
    }
    text
}

fn as_json(spec: &MethodSpec) -> serde_json::Value {
    let param = |p: &ParamSpec| {
        let default = match p.preset {
            Preset::Flag(value) => json!(value),
            Preset::Number(value) => json!(value),
            Preset::Text(value) => json!(value),
            _ => json!(null),
        };
        json!({
            "name": p.name, "per_model": p.is_per_model(), "value": accepted(p), "default": default,
            "required": matches!(p.preset, Preset::Required), "about": p.about,
        })
    };
    json!({
        "name": spec.info.name, "paper": spec.info.paper, "source": spec.info.source, "base": base(spec),
        "min_models": spec.min_models, "max_models": spec.max_models,
        "parameters": spec.params.iter().map(param).collect::<Vec<_>>(),
    })
}

fn base(spec: &MethodSpec) -> &'static str {
    match spec.base {
        Base::Required => "required",
        Base::Unused => "unused",
        _ => "optional",
    }
}

fn models(spec: &MethodSpec) -> String {
    match (spec.min_models, spec.max_models) {
        (min, None) => format!("{min} or more"),
        (min, Some(max)) if min == max => format!("{min}"),
        (min, Some(max)) => format!("{min} to {max}"),
    }
}

fn short(param: &ParamSpec) -> String {
    let mark = if param.is_per_model() { "*" } else { "" };
    match param.preset {
        Preset::Required | Preset::Absent => format!("{}{mark}", param.name),
        _ => format!("{}{mark} = {}", param.name, preset(param)),
    }
}

fn preset(param: &ParamSpec) -> String {
    match param.preset {
        Preset::Required => "required".to_owned(),
        Preset::Flag(value) => value.to_string(),
        Preset::Number(value) => value.to_string(),
        Preset::Text(value) => value.to_owned(),
        _ => "none".to_owned(),
    }
}

fn accepted(param: &ParamSpec) -> &'static str {
    match param.kind {
        ParamKind::Flag => "true or false",
        ParamKind::Number(range) | ParamKind::PerModel(range) => range.must,
        _ => "a text",
    }
}
