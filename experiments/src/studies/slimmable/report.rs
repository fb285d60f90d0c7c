//! Tables and plots of the study, from whatever records there are.
use super::{
    claims::{
        DISTILLED, FAMILY, REQUESTS, RETRAINED, UNIFORM, budget_ratio, by_ratio, ratios, uniform_means,
        volumes,
    },
    performance::TASKS,
    run::INDIVIDUAL,
};
use crate::{
    runner::Report as Files,
    studies::pages::{LEVEL, Pages, ordered},
};
use mtl_bench::{
    Comparison, Estimate, Record, Results, Section, Table,
    metrics::Better,
    plot::{BarChart, Curve, CurvePoint, HeatMap, LearningCurves},
    store::Key,
    table::{Cell, Column},
};

const ARMS: [&str; 3] = ["none", "slice-mse", "gram"];

type Part = anyhow::Result<Option<Section>>;

/// Writes everything and returns the text to print.
pub(super) fn write(records: &[Record], files: &mut Files) -> anyhow::Result<String> {
    let results = Results::from_records(records.iter().cloned())?;
    let mut pages = Pages::new(files);
    let parts =
        [distillation_part, control_part, volume_part, width_part].map(|part| part(&mut pages, &results));
    let sections = parts.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    pages.finish("One slimmable network for every preference and budget", sections.into_iter().flatten())
}

fn cell(results: &Results) -> anyhow::Result<Cell> {
    Ok(if results.is_empty() { Cell::Empty } else { Cell::from(results.estimate(LEVEL)?) })
}

/// Networks of all widths, with and without distillation.
fn distillation_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    let means = results.metric("mean_performance");
    let arms = ordered(&means, Key::Method, &ARMS);
    if arms.is_empty() {
        return Ok(None);
    }
    let tasks = TASKS.iter().map(|(task, _)| Column::new(*task).better(Better::Higher).percent());
    let columns: Vec<Column> = tasks.chain([Column::new("mean").better(Better::Higher).percent()]).collect();
    let mut table = Table::new("distillation", columns).title("Mean performance over networks of all widths");
    let performances = results.metric("performance").filter(|r| ARMS.contains(&r.method.as_str()));
    for arm in &arms {
        let of_arm = performances.method(arm);
        let mut cells = TASKS
            .iter()
            .map(|(task, _)| {
                let of_task = of_arm.task(task);
                let of_seed = |seed| {
                    let values: Vec<f64> =
                        of_task.records().iter().filter(|r| r.seed == seed).map(|r| r.value).collect();
                    values.iter().sum::<f64>() / values.len().max(1) as f64
                };
                let values: Vec<f64> = of_task.seeds().into_iter().map(of_seed).collect();
                Ok(if values.is_empty() { Cell::Empty } else { Cell::from(Estimate::of(&values, LEVEL)?) })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        cells.push(cell(&means.method(arm))?);
        table.row(*arm, cells)?;
    }
    pages.table("distillation", &table)?;
    let comparison = Comparison::new("mean_performance", Better::Higher)
        .label("mean performance over networks of all widths")
        .points();
    let sentences = pages.compare(&comparison, &means, "none", &["slice-mse", "gram"])?;
    let mut section = Section::new("Distillation of the widest encoder")
        .text(
            "Performance is accuracy, and for ink the share of variance explained. Every network whose encoder stages have one \
             width counts: four widths of the encoder and four of each task's decoder.",
        )
        .table(&table)
        .list(sentences);
    for arm in ["slice-mse", "gram"] {
        if let Some(map) = gains_by_width(&performances, arm)? {
            pages.plot(&format!("distillation-{arm}"), &map)?;
            section = section.plot(&map, "Mean over tasks and seeds, minus that without distillation.")?;
        }
    }
    Ok(Some(section))
}

/// What a distillation brings at each width of encoder and decoders, in points.
fn gains_by_width(performances: &Results, arm: &str) -> anyhow::Result<Option<HeatMap>> {
    let mean = |method: &str, setting: &str| -> Option<f64> {
        let values: Vec<f64> =
            performances.method(method).setting(setting).records().iter().map(|r| r.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut widths: Vec<f64> =
        performances.names(Key::Setting).iter().filter_map(|s| ratios(s)).map(|(e, _)| e).collect();
    widths.sort_by(f64::total_cmp);
    widths.dedup();
    if widths.is_empty() || performances.method(arm).is_empty() || performances.method("none").is_empty() {
        return Ok(None);
    }
    let gain = |encoder: f64, decoder: f64| {
        let setting = format!("encoder {encoder}, decoder {decoder}");
        Some(100.0 * (mean(arm, &setting)? - mean("none", &setting)?))
    };
    let values = widths.iter().map(|e| widths.iter().map(|d| gain(*e, *d)).collect()).collect();
    let names: Vec<String> = widths.iter().map(f64::to_string).collect();
    let map = HeatMap::new(&names, &names, values)?
        .title(format!("What distillation by {arm} brings"))
        .labels("width of the encoder", "width of the decoders", "gain [points]")
        .diverging(0.0);
    Ok(Some(map))
}

/// What raising a preference does.
fn control_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    let arms = ordered(&results.metric("pairs"), Key::Method, &ARMS);
    if arms.is_empty() {
        return Ok(None);
    }
    let columns = [
        ("wide_share", "decoder not narrowed"),
        ("kept_share", "performance not lower"),
        ("moved_share", "network changes"),
        ("moved_kept_share", "performance not lower where it changes"),
    ];
    let heads = columns.map(|(_, name)| Column::new(name).percent());
    let mut table = Table::new("network and rule", heads).title(
        "Pairs of requests that differ by a tenth of the preference, seen from the task that gains it",
    );
    for arm in &arms {
        for rule in ["anchored", "joint"] {
            let here = results.method(arm).setting(rule);
            let cells = columns
                .iter()
                .map(|(metric, _)| cell(&here.metric(metric)))
                .collect::<anyhow::Result<Vec<_>>>()?;
            table.row(format!("{arm}, {rule}"), cells)?;
        }
    }
    pages.table("control", &table)?;
    let mut section = Section::new("Control by preferences")
        .text(
            "Preferences are all ways to deal out ten tenths to the four tasks, at every budget. The networks are chosen by their \
             scores on the calibration images; performances are those on the test images, and a pair counts as not lower \
             when the number is at least as large, with no allowance for noise. Where neither the encoder nor the task's decoder \
             changes, performances are equal. The anchored rule fixes the split of the budget for equal preferences; the joint \
             rule is the paper's as reconstructed.",
        )
        .table(&table);
    let ours = results.method(DISTILLED);
    for (ratio, setting) in by_ratio(&ours, budget_ratio) {
        let here = ours.setting(&setting);
        let widths = widths_by_preference(&here.metric("preferred_width"))?
            .title(format!("Width of a task's decoder, at the cost of width {ratio}"));
        pages.plot(&format!("width-{ratio}"), &widths)?;
        let curves = changes_by_preference(&here.metric("preferred_performance"))?
            .title(format!("Performance by preference, at the cost of width {ratio}"));
        pages.plot(&format!("performance-{ratio}"), &curves)?;
        section = section
            .plot(&widths, "Mean over all requests with this preference for the task, and over seeds.")?
            .plot(
                &curves,
                "Mean over all requests with this preference for the task, on the test images; bands are 95 % t intervals over \
                 seeds.",
            )?;
    }
    Ok(Some(section))
}

/// Mean width by task and preference.
fn widths_by_preference(results: &Results) -> anyhow::Result<HeatMap> {
    let tasks = ordered(results, Key::Task, &TASKS.map(|(task, _)| task));
    let steps = results.steps();
    let last = steps.last().copied().unwrap_or(1).max(1) as f64;
    let mean = |task: &str, step: u64| {
        let found = results.task(task).filter(|r| r.step == step);
        if found.is_empty() { Ok(None) } else { Ok(Some(found.estimate(LEVEL)?.mean)) }
    };
    let row = |task: &&str| steps.iter().map(|step| mean(task, *step)).collect::<anyhow::Result<Vec<_>>>();
    let values = tasks.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    let columns: Vec<String> = steps.iter().map(|step| (*step as f64 / last).to_string()).collect();
    let rows: Vec<String> = tasks.iter().map(|task| (*task).to_owned()).collect();
    let map = HeatMap::new(&rows, &columns, values)?;
    Ok(map.labels("task", "preference for the task", "width").range(0.0, 1.0))
}

/// For each task a curve of its performance, minus that without any preference for it, seed by seed.
fn changes_by_preference(results: &Results) -> anyhow::Result<LearningCurves> {
    let last = results.steps().last().copied().unwrap_or(1).max(1) as f64;
    let mut curves = LearningCurves::new("preference for the task", "change of its performance [points]");
    for name in ordered(results, Key::Task, &TASKS.map(|(task, _)| task)) {
        let of_task = results.task(name);
        let without = of_task.filter(|r| r.step == 0);
        let point = |step: u64| {
            let pairs = Results::pair(&of_task.filter(|r| r.step == step), &without)?;
            let changes: Vec<f64> = pairs.differences().iter().map(|d| 100.0 * d).collect();
            let estimate = Estimate::of(&changes, LEVEL)?;
            let band = estimate.interval.map(|i| (i.low, i.high));
            Ok(CurvePoint { x: step as f64 / last, mean: estimate.mean, band })
        };
        let points = of_task.steps().into_iter().map(point).collect::<anyhow::Result<Vec<_>>>()?;
        curves = curves.curve(Curve { name: name.to_owned(), points });
    }
    Ok(curves)
}

/// The volume that requests cover, against models of one width.
fn volume_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    let volumes = volumes(results)?;
    let names = ordered(&volumes, Key::Method, &[REQUESTS, UNIFORM, FAMILY, RETRAINED]);
    if names.is_empty() {
        return Ok(None);
    }
    let settings: Vec<String> =
        by_ratio(&volumes, budget_ratio).into_iter().map(|(_, setting)| setting).collect();
    let columns: Vec<Column> =
        settings.iter().map(|setting| Column::new(setting).better(Better::Higher).percent()).collect();
    let mut table = Table::new("networks", columns).title("Volume of performances that is covered");
    for name in &names {
        let of_name = volumes.method(name);
        let cells = settings.iter().map(|s| cell(&of_name.setting(s))).collect::<anyhow::Result<Vec<_>>>()?;
        table.row(*name, cells)?;
    }
    pages.table("volume", &table)?;
    let mut sentences = Vec::new();
    for setting in &settings {
        let comparison =
            Comparison::new("hypervolume", Better::Higher).label(format!("volume at the {setting}")).points();
        sentences.extend(pages.compare(
            &comparison,
            &volumes.setting(setting),
            REQUESTS,
            &[UNIFORM, FAMILY, RETRAINED],
        )?);
    }
    let section = Section::new("Volume of performances").text(
        "The share of the volume between knowing nothing and perfection, over all four tasks, that the networks dominate \
         together on the test images. A budget is the cost of a network with every part at that width; families of one width \
         hold the networks of that width and of all smaller ones. A set of many networks gains from chance: its extremes are \
         the luckiest of many. One model per width and preference was trained for 5 seeds, with equal weights and with 0.7 on \
         each task in turn.",
    );
    Ok(Some(section.table(&table).list(sentences)))
}

/// One network against models of one width each.
fn width_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const ORDER: [&str; 4] = [INDIVIDUAL, "none", "slice-mse", "gram"];
    let uniform = results.filter(|r| {
        r.metric == "performance"
            && ORDER.contains(&r.method.as_str())
            && ratios(&r.setting).is_some_and(|(e, d)| e == d)
    });
    let methods = ordered(&uniform, Key::Method, &ORDER);
    if methods.len() < 2 {
        return Ok(None);
    }
    let means = uniform.mean_over_tasks()?;
    let width_of = |setting: &str| ratios(setting).map(|(e, _)| e);
    let settings: Vec<String> = by_ratio(&means, width_of).into_iter().map(|(_, setting)| setting).collect();
    let width = |setting: &str| ratios(setting).map_or(String::new(), |(e, _)| format!("width {e}"));
    let heads = settings.iter().map(|setting| width(setting));
    let columns: Vec<Column> = heads
        .chain(["mean".to_owned()])
        .map(|name| Column::new(name).better(Better::Higher).percent())
        .collect();
    let mut table = Table::new("training", columns).title("Mean performance with every part at one width");
    let mut chart = BarChart::new("mean performance over tasks [%]")
        .title("One network of all widths, and models of one width")
        .points()
        .percent();
    let overall = Results::from_records(uniform_means(results, &methods)?)?;
    let label = |method: &str| match method {
        INDIVIDUAL => FAMILY.to_owned(),
        "none" => "SuperNet without distillation".to_owned(),
        other => format!("SuperNet, {other}"),
    };
    for method in &methods {
        let of_method = means.method(method);
        let mut cells =
            settings.iter().map(|s| cell(&of_method.setting(s))).collect::<anyhow::Result<Vec<_>>>()?;
        cells.push(cell(&overall.method(method))?);
        table.row(label(method), cells)?;
    }
    for setting in &settings {
        for method in &methods {
            let runs = means.method(method).setting(setting);
            if !runs.is_empty() {
                chart = chart.bar(width(setting), label(method), runs.estimate(LEVEL)?);
            }
        }
    }
    pages.table("widths", &table)?;
    pages.plot("widths", &chart)?;
    let section = Section::new("One network or one per width").text(
        "Every part at one width. A network of all widths takes as many steps as a model of one width, but each step trains \
         three networks: the whole one, the smallest and a random one.",
    );
    Ok(Some(section.table(&table).plot(&chart, "Means over seeds with 95 % t intervals.")?))
}
