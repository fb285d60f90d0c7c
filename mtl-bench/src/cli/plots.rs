//! `mtl-bench plot`: figures from records.
use super::args::{PlotArgs, PlotKind};
use super::input;
use super::stats::direction;
use crate::plot::{
    BarChart, CriticalDifferenceDiagram, ForestPlot, HeatMap, LearningCurves, Plot, PowerLawPlot,
    ProfilePlot, Radar,
};
use crate::stats::{
    BandKind, Bootstrap, CriticalDifference, FitOptions, PairedDifference, ProfileKind, Scores,
    fit_power_law, friedman, profile_with_band,
};
use crate::store::Key;
use crate::{Estimate, Results};
use anyhow::{Context, bail, ensure};
use std::path::Path;

pub(super) fn plot(args: &PlotArgs) -> anyhow::Result<u8> {
    let steps = matches!(args.kind, PlotKind::Curves | PlotKind::PowerLaw);
    let results = input::results(&args.input, steps)?;
    let metric = input::metric(&results)?;
    let label = metric.replace('_', " ");
    let title = args.title.clone().unwrap_or_default();
    match args.kind {
        PlotKind::Curves => {
            let results = match results.names(Key::Task).as_slice() {
                [_] => results,
                _ => results.mean_over_tasks()?,
            };
            let steps = results.steps().len();
            ensure!(steps > 1, "a curve needs several steps, but there is {steps}");
            let curves = LearningCurves::from_results(&results, Key::Method, args.level)?.y_label(label);
            save(&titled(curves, &title, LearningCurves::title), &args.output)?;
        }
        PlotKind::Bars => {
            let mut bars =
                BarChart::from_results(&results, Key::Task, Key::Method, args.level)?.value_label(label);
            if args.percent {
                bars = bars.percent();
            }
            save(&titled(bars, &title, BarChart::title), &args.output)?;
        }
        PlotKind::HeatMap => {
            let (methods, tasks) = (results.names(Key::Method), results.names(Key::Task));
            let mut values = Vec::new();
            for method in &methods {
                let mut row = Vec::new();
                for task in &tasks {
                    let runs = results.method(method).task(task);
                    row.push(if runs.is_empty() { None } else { Some(runs.estimate(args.level)?.mean) });
                }
                values.push(row);
            }
            let map = HeatMap::new(&methods, &tasks, values)?.labels("method", "task", label);
            save(&titled(map, &title, HeatMap::title), &args.output)?;
        }
        PlotKind::CriticalDifference => {
            let scores =
                Scores::from_results(&results, &metric, direction(&metric, args.better.map(Into::into))?)?;
            let found = friedman(&scores.task_means()?, scores.better)?;
            let diagram = CriticalDifferenceDiagram::nemenyi(&CriticalDifference::nemenyi(
                &found,
                &scores.methods(),
                args.level,
            )?);
            save(&titled(diagram, &title, CriticalDifferenceDiagram::title), &args.output)?;
        }
        PlotKind::Profiles => save(
            &titled(profiles(args, &results, &metric, label)?, &title, ProfilePlot::title),
            &args.output,
        )?,
        PlotKind::Radar => save(&titled(radar(args, &results, label)?, &title, Radar::title), &args.output)?,
        PlotKind::Forest => {
            save(&titled(forest(args, &results, &metric, &label)?, &title, ForestPlot::title), &args.output)?
        }
        PlotKind::PowerLaw => {
            let means = means_by_step(&results)?;
            let (x, y): (Vec<f64>, Vec<f64>) = means.into_iter().unzip();
            let fit = fit_power_law(&x, &y, &FitOptions::default())?;
            let plot = PowerLawPlot::new("step", label, &x, &y, fit)?;
            save(&titled(plot, &title, PowerLawPlot::title), &args.output)?;
        }
    }
    Ok(0)
}

/// Thresholds of a performance profile.
const THRESHOLDS: usize = 101;

fn profiles(args: &PlotArgs, results: &Results, metric: &str, label: String) -> anyhow::Result<ProfilePlot> {
    let scores = Scores::from_results(results, metric, direction(metric, args.better.map(Into::into))?)?;
    let values = || results.records().iter().map(|r| r.value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let tau: Vec<f64> =
        (0..THRESHOLDS).map(|i| low + (high - low) * i as f64 / (THRESHOLDS - 1) as f64).collect();
    let options = Bootstrap { replicates: 1000, level: args.level, ..Bootstrap::default() };
    let mut plot = ProfilePlot::new(format!("{label} τ"));
    for method in scores.methods() {
        let runs = scores.runs_by_tasks(method)?;
        let profile = profile_with_band(&runs, &tau, ProfileKind::Runs, BandKind::Pointwise, &options)?;
        plot = plot.profile(method, profile);
    }
    Ok(plot)
}

fn radar(args: &PlotArgs, results: &Results, label: String) -> anyhow::Result<Radar> {
    let tasks = results.names(Key::Task);
    let mut all = Vec::new();
    for method in results.names(Key::Method) {
        let mut values = Vec::new();
        for task in &tasks {
            let runs = results.method(&method).task(task);
            values.push(runs.estimate(args.level).with_context(|| format!("{method} on {task}"))?.mean);
        }
        all.push((method, values));
    }
    let flat = || all.iter().flat_map(|(_, v)| v.iter().copied());
    let (low, high) = (flat().fold(0.0, f64::min), flat().fold(f64::NEG_INFINITY, f64::max));
    let radar = Radar::new(tasks, label).range(low, if high <= 1.0 { 1.0 } else { high });
    Ok(all.into_iter().fold(radar, |radar, (method, values)| radar.series(method, values)))
}

/// Differences of all methods from the baseline, over the seeds of each task.
fn forest(args: &PlotArgs, results: &Results, metric: &str, label: &str) -> anyhow::Result<ForestPlot> {
    let Some(baseline) = &args.baseline else {
        bail!("`forest` needs `--baseline`, which differences are taken from")
    };
    let methods = results.names(Key::Method);
    if !methods.contains(baseline) {
        return Err(mtl_core::Error::unknown("method", baseline, methods.iter().map(String::as_str)).into());
    }
    let better = direction(metric, args.better.map(Into::into))?;
    let tasks = results.names(Key::Task);
    let mut plot = ForestPlot::new(format!("{label}: difference from {baseline}")).decimals(3);
    for method in methods.iter().filter(|m| *m != baseline) {
        for task in &tasks {
            let scores = Scores::from_results(&results.task(task), metric, better)?;
            let differences: Vec<f64> =
                scores.pairs(method, baseline)?.iter().map(|(_, a, b)| a - b).collect();
            let d = PairedDifference::of(&differences, args.level)?;
            let name = if tasks.len() > 1 { format!("{method}, {task}") } else { method.clone() };
            plot = plot.row(name, Estimate { mean: d.mean, std: d.std, n: d.n, interval: d.interval });
        }
    }
    Ok(plot)
}

/// Mean over seeds at each positive step.
fn means_by_step(results: &Results) -> anyhow::Result<Vec<(f64, f64)>> {
    for key in [Key::Method, Key::Task] {
        let names = results.names(key);
        ensure!(names.len() == 1, "a power law is of one {}, but there are {}", key.name(), names.join(", "));
    }
    let steps = results.steps().into_iter().filter(|&s| s > 0);
    let mean = |step: u64| {
        let values: Vec<f64> = results.records().iter().filter(|r| r.step == step).map(|r| r.value).collect();
        (step as f64, values.iter().sum::<f64>() / values.len() as f64)
    };
    Ok(steps.map(mean).collect())
}

fn titled<P>(plot: P, title: &str, set: impl Fn(P, String) -> P) -> P {
    if title.is_empty() { plot } else { set(plot, title.to_owned()) }
}

fn save(plot: &dyn Plot, path: &Path) -> anyhow::Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => plot.save_svg(path)?,
        Some("png") => plot.save_png(path)?,
        _ => bail!("`{}` must end in .svg or .png", path.display()),
    }
    Ok(())
}
