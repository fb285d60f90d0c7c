//! Tables and plots of the balancing study, from whatever records there are.
use super::{architectures, run::SINGLE};
use crate::{
    runner::Report as Files,
    studies::pages::{LEVEL, Pages, gains},
};
use mtl_bench::{
    Comparison, Record, Results, Section, Table,
    metrics::Better,
    plot::BarChart,
    store::Key,
    table::{Cell, Column},
};

/// A suite, what it is called, and what is to be said of it.
const SUITES: [(&str, &str, &str); 4] = [
    (
        "conflict",
        "Conflict: three regressions that pull apart, of scales 1, 1 and 100",
        "Targets are the hyperbolic tangent of projections whose cosines are −0.45, one of them a hundred times larger than \
         the others, so that its squared loss is ten thousand times larger.",
    ),
    (
        "aligned",
        "No conflict: three regressions on nearly the same projection, of one scale",
        "The same as before with cosines of 0.9 and one scale: nothing is to be balanced, and no method should do better than \
         the plain sum.",
    ),
    (
        "multi-digits",
        "Pairs of digits: which is the left one, which the right one",
        "Two digits on one canvas, each pixel the brighter of the two, as in MultiMNIST; one task for each digit.",
    ),
    (
        "attributes",
        "Attributes of a digit: class, parity, upper half, closed loop",
        "Four classifications of the same image.",
    ),
];

/// Suites of rising kinship.
const KINSHIP: [&str; 3] = ["unrelated", "related", "akin"];

/// The setting of a suite under an architecture.
pub(super) fn setting(suite: &str, architecture: &str) -> String {
    format!("{suite}, {architecture}")
}

/// Single-task models have nothing to share: they are trained once for each suite.
pub(super) fn baseline_of(setting: &str) -> String {
    let suite = setting.split_once(", ").map_or(setting, |(suite, _)| suite);
    self::setting(suite, "hps")
}

/// Writes everything and returns the text to print.
pub(super) fn write(records: &[Record], files: &mut Files) -> anyhow::Result<String> {
    let results = Results::from_records(records.iter().cloned())?;
    let scores = results.filter(|r| r.metric != "gate_divergence");
    let gains = gains(&scores, SINGLE, &baseline_of)?;
    let mut pages = Pages::new(files);
    let mut sections = Vec::new();
    for (suite, title, about) in SUITES {
        sections.extend(suite_part(&mut pages, &scores, &gains, suite, title, about)?);
    }
    sections.extend(architectures::part(&mut pages, &gains)?);
    sections.extend(kinship_part(&mut pages, &results, &gains)?);
    pages.finish("Balancers and architectures of joint training", sections)
}

/// Every balancer on one suite, with a shared bottom.
fn suite_part(
    pages: &mut Pages<'_>,
    scores: &Results,
    gains: &Results,
    suite: &str,
    title: &str,
    about: &str,
) -> anyhow::Result<Option<Section>> {
    let here = setting(suite, "hps");
    let (scores, gains) = (scores.setting(&here), gains.setting(&here));
    if gains.is_empty() {
        return Ok(None);
    }
    let tasks = scores.names(Key::Task);
    let metric = |task: &str| scores.task(task).names(Key::Metric).pop().unwrap_or_default();
    let columns = tasks.iter().map(|task| {
        let metric = metric(task);
        let column = Column::new(format!("{task} ({metric})"));
        if metric == "mse" {
            column.better(Better::Lower).decimals(4)
        } else {
            column.better(Better::Higher).percent()
        }
    });
    let columns: Vec<Column> =
        columns.chain([Column::new("Δm").unit("%").better(Better::Higher).decimals(2)]).collect();
    let mut table = Table::new("method", columns).title(title.to_owned());
    // The best gain first; single-task models, which have none, at the top.
    let mut methods: Vec<(String, f64)> = gains
        .group_by(Key::Method)
        .into_iter()
        .map(|(method, runs)| Ok((method, runs.estimate(LEVEL)?.mean)))
        .collect::<anyhow::Result<_>>()?;
    methods.sort_by(|a, b| b.1.total_cmp(&a.1));
    let order: Vec<String> =
        std::iter::once(SINGLE.to_owned()).chain(methods.into_iter().map(|(method, _)| method)).collect();
    for method in &order {
        let of = |task: &String| Ok(Cell::from(scores.method(method).task(task).estimate(LEVEL)?));
        let mut cells = tasks.iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
        let gain = gains.method(method);
        cells.push(if gain.is_empty() { Cell::Empty } else { Cell::from(gain.estimate(LEVEL)?) });
        table.row(method.as_str(), cells)?;
    }
    pages.table(suite, &table)?;
    let others: Vec<&str> =
        order.iter().map(String::as_str).filter(|method| *method != SINGLE && *method != "equal").collect();
    let comparison = Comparison::new("delta_m", Better::Higher).label(format!("Δm ({suite})")).unit("%");
    let sentences = pages.compare(&comparison, &gains, "equal", &others)?;
    let chart = BarChart::from_results(&gains, Key::Method, Key::Setting, LEVEL)?
        .title(title.to_owned())
        .value_label("Δm [%]")
        .decimals(1);
    pages.plot(suite, &chart)?;
    let section = Section::new(title).text(about).table(&table).list(sentences);
    Ok(Some(section.plot(
        &chart,
        "Means over seeds with 95 % t intervals; positive is better than one model per task.",
    )?))
}

/// Kinship of two tasks, and what architectures make of it.
fn kinship_part(
    pages: &mut Pages<'_>,
    results: &Results,
    gains: &Results,
) -> anyhow::Result<Option<Section>> {
    let columns = [
        Column::new("hps Δm").unit("%").better(Better::Higher).decimals(1),
        Column::new("mmoe Δm").unit("%").better(Better::Higher).decimals(1),
        Column::new("ple Δm").unit("%").better(Better::Higher).decimals(1),
        Column::new("mmoe gates apart").unit("nats").decimals(3),
    ];
    let mut table = Table::new("tasks", columns).title("Two regressions of rising kinship, equal weights");
    for suite in KINSHIP {
        let gain = |architecture: &str| -> anyhow::Result<Cell> {
            let runs = gains.setting(&setting(suite, architecture));
            Ok(if runs.is_empty() { Cell::Empty } else { Cell::from(runs.estimate(LEVEL)?) })
        };
        let gates = results.setting(&setting(suite, "mmoe")).metric("gate_divergence");
        if gates.is_empty() {
            return Ok(None);
        }
        let cells = [gain("hps")?, gain("mmoe")?, gain("ple")?, Cell::from(gates.estimate(LEVEL)?)];
        table.row(suite, cells)?;
    }
    pages.table("kinship", &table)?;
    let section = Section::new("Kinship").text(
        "The synthetic regressions of the MMoE paper: sums of sinusoids of two projections with a cosine of 0, 0.5 and 0.95. \
         The gates of two tasks are compared by the symmetric Kullback–Leibler divergence of their means over the test split.",
    );
    Ok(Some(section.table(&table)))
}
