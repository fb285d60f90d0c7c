//! Widths of a slimmable network under budgets.
use super::in_file;
use crate::cli::args::Explore;
use crate::cli::files::{self, beside, is_path};
use crate::cli::table::{Table, number};
use crate::cli::{UNMET, input, plots, print, print_json, say};
use crate::explore::width::{
    AccuracyTable, AdditiveScore, Choice, CostSource, CostTables, CostUnit, Query, Score, SearchConfig,
    SlimNet, WidthBudget, WidthSpace, normalise, search_with,
};
use crate::text;
use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A search of widths in TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WidthFile {
    budgets: Vec<f64>,
    preferences: Vec<f64>,
    #[serde(default)]
    cost: Cost,
    design: Option<String>,
    #[serde(default = "eight")]
    round_to: u64,
    accuracy: Option<String>,
    score: Option<AdditiveScore>,
    space: WidthSpace,
    net: SlimNet,
    #[serde(default)]
    config: SearchConfig,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cost {
    #[default]
    Macs,
    Latency,
    Energy,
}

fn eight() -> u64 {
    8
}

/// One answer; without widths where the budget is too small.
#[derive(Debug, Serialize)]
struct Row {
    budget: f64,
    unit: String,
    cost: Option<f64>,
    score: Option<f64>,
    encoder: Vec<f64>,
    decoders: Vec<f64>,
    accuracies: Option<Vec<f64>>,
    beta: Option<f64>,
    method: Option<String>,
    networks_scored: u64,
}

pub(super) fn widths(args: &Explore, path: &Path) -> anyhow::Result<u8> {
    let content = files::read(path)?;
    let answer = || {
        let file: WidthFile = text::from_toml("widths", &content)?;
        answer(args, path, &file)
    };
    answer().map_err(|e| in_file(path, e))
}

fn answer(args: &Explore, path: &Path, file: &WidthFile) -> anyhow::Result<u8> {
    let source = source(path, file)?;
    let costs = CostTables::build(&file.space, &file.net, file.round_to, &source)?;
    let table = match &file.accuracy {
        Some(named) => {
            let named = beside(path, named);
            let content = files::read(&named)?;
            let json = named.extension().is_some_and(|e| e == "json");
            let read = if json { AccuracyTable::from_json } else { AccuracyTable::from_csv };
            Some(read(&file.space, &content).map_err(|e| in_file(&named, e.into()))?)
        }
        None => None,
    };
    let score = match (&table, &file.score) {
        (Some(table), None) => Score::Table(table),
        (None, Some(additive)) => Score::Additive(additive),
        _ => bail!("one of `accuracy` and `score` must be given"),
    };
    ensure!(!file.budgets.is_empty(), "`budgets` must have at least one, but is empty");
    let preferences = normalise(&file.preferences)?;
    let config = SearchConfig { seed: args.seed, ..file.config };
    let (mut rows, mut front, mut code) = (Vec::new(), Vec::new(), 0);
    for &amount in &file.budgets {
        let budget = match costs.unit {
            CostUnit::Macs => WidthBudget::Macs(amount as u64),
            CostUnit::Seconds => WidthBudget::LatencyS(amount),
            CostUnit::Joules => WidthBudget::EnergyJ(amount),
        };
        let query = Query { budget, preferences: preferences.clone() };
        match search_with(&file.space, &costs, score, &query, &config) {
            Ok(choice) => {
                front.extend(choice.front.iter().copied());
                rows.push(row(amount, &file.space, &costs, table.as_ref(), Some(&choice)));
            }
            // A budget that nothing meets is an answer; anything else is a bad file.
            Err(crate::HwError::Config { field, must, value }) if field == "budget" && amount > 0.0 => {
                say(&format!("no widths for a budget of {amount}: it must be {must}, but is {value}"));
                rows.push(row(amount, &file.space, &costs, None, None));
                code = UNMET;
            }
            Err(e) => return Err(e.into()),
        }
    }
    if let Some(path) = &args.plot {
        plots::save(path, &plot(&rows, front, &costs)?)?;
    }
    if args.output.json {
        print_json(&rows)?;
        return Ok(code);
    }
    let table = text_table(&rows);
    print(&if args.output.csv { table.csv() } else { table.to_string() })?;
    Ok(code)
}

fn source(path: &Path, file: &WidthFile) -> anyhow::Result<CostSource> {
    let design = match &file.design {
        Some(named) if is_path(named) => {
            Some(input::design(&beside(path, named).display().to_string(), None)?)
        }
        Some(named) => Some(input::design(named, None)?),
        None => None,
    };
    match (file.cost, design) {
        (Cost::Macs, None) => Ok(CostSource::Macs),
        (Cost::Macs, Some(_)) => bail!("`design` is for `cost` latency or energy, but that is macs"),
        (Cost::Latency, Some(design)) => Ok(CostSource::Latency(Box::new(design))),
        (Cost::Energy, Some(design)) => Ok(CostSource::Energy(Box::new(design))),
        (_, None) => bail!("`cost` latency or energy needs a `design`"),
    }
}

fn row(
    budget: f64,
    space: &WidthSpace,
    costs: &CostTables,
    table: Option<&AccuracyTable>,
    choice: Option<&Choice>,
) -> Row {
    let ratios = |lists: &[Vec<f64>], indices: &[usize]| {
        lists.iter().zip(indices).filter_map(|(list, &i)| list.get(i).copied()).collect::<Vec<f64>>()
    };
    let widths = choice.map(|c| &c.widths);
    Row {
        budget,
        unit: costs.unit.to_string(),
        cost: choice.map(|c| c.cost),
        score: choice.map(|c| c.score),
        encoder: widths.map_or_else(Vec::new, |w| ratios(&space.encoder, &w.encoder)),
        decoders: widths.map_or_else(Vec::new, |w| ratios(&space.decoders, &w.decoders)),
        accuracies: table.zip(widths).and_then(|(t, w)| t.get(w)).map(<[f64]>::to_vec),
        beta: choice.map(|c| c.beta),
        method: choice.map(|c| c.method.to_string()),
        networks_scored: choice.map_or(0, |c| c.visited),
    }
}

fn text_table(rows: &[Row]) -> Table {
    let unit = rows.first().map_or("", |r| r.unit.as_str());
    let tasks = rows.iter().filter_map(|r| r.accuracies.as_ref()).map(Vec::len).max().unwrap_or(0);
    let head = [format!("budget {unit}"), format!("cost {unit}")].into_iter();
    let fixed = ["score", "encoder", "decoders", "method", "scored"].map(str::to_owned);
    let mut table = Table::new(head.chain(fixed).chain((0..tasks).map(|t| format!("task {t}"))));
    let list = |ratios: &[f64]| ratios.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    for r in rows {
        let cells = [
            r.budget.into(),
            r.cost.into(),
            r.score.into(),
            list(&r.encoder).into(),
            list(&r.decoders).into(),
            r.method.clone().into(),
            r.networks_scored.into(),
        ];
        let of = |t: usize| r.accuracies.as_ref().and_then(|a| a.get(t)).copied().into();
        table.row(cells.into_iter().chain((0..tasks).map(of)));
    }
    table
}

fn plot(
    rows: &[Row],
    mut front: Vec<(f64, f64)>,
    costs: &CostTables,
) -> anyhow::Result<plots::pareto::Canvas> {
    front.extend(rows.iter().filter_map(|r| r.cost.zip(r.score)));
    front.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    front.dedup();
    let best = rows.iter().filter_map(|r| r.score).fold(f64::NEG_INFINITY, f64::max);
    let title = format!("Widths under {} budgets, score up to {}", rows.len(), number(best));
    let (unit, factor) = match costs.unit {
        CostUnit::Macs => ("cost in 10⁶ multiply-accumulates", 1e-6),
        CostUnit::Seconds => ("latency in ms", 1e3),
        CostUnit::Joules => ("energy in mJ", 1e3),
    };
    let (x, y) = front.iter().map(|&(c, s)| (factor * c, s)).unzip();
    plots::pareto::draw(&plots::pareto::Plot {
        title: &title,
        x: (unit, x),
        y: ("score, larger is better", y),
        z: None,
        knee: None,
        rising: true,
    })
}
