//! `mtl-bench plot`: figures from records.
use super::args::{PlotArgs, PlotKind};
use super::input;
use crate::plot::{BarChart, HeatMap, LearningCurves, Plot};
use crate::store::Key;
use anyhow::{bail, ensure};
use std::path::Path;

pub(super) fn plot(args: &PlotArgs) -> anyhow::Result<u8> {
    let results = input::results(&args.input, args.kind == PlotKind::Curves)?;
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
    }
    Ok(0)
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
