//! `mtl-hw explore`: Pareto fronts of designs, and widths under budgets.
mod space;
mod widths;

use crate::cli::args::{Explore, StrategyArg};
use crate::cli::progress::{Bar, on_threads, stop_flag};
use crate::cli::table::{Cell, Table, number};
use crate::cli::{INTERRUPTED, UNMET, plots, print, say, tell};
use crate::explore::{Budget, Ended, Exploration, Explorer, Goal, Nsga2Config, Progress, Space, Strategy};
use crate::{HwError, Result};
use anyhow::ensure;
use std::fmt::Write;
use std::time::Duration;

/// Points of a random search without `--evaluations`.
const RANDOM_POINTS: u64 = 10_000;

pub(crate) fn explore(args: &Explore) -> anyhow::Result<u8> {
    if let Some(path) = &args.widths {
        return widths::widths(args, path);
    }
    let search = space::Search::of(args)?;
    let goals = search.goals.clone();
    let evaluator = search.evaluator()?;
    let space = evaluator.space();
    if !args.output.quiet {
        say(&format!("{} points, {} on {}", space.points(), search.title, search.board));
    }
    let strategy = strategy(args.strategy.or(search.strategy).unwrap_or(StrategyArg::Auto), args);
    let found = run(args, &evaluator, strategy, &goals)?;
    let found = match found {
        Ok(found) => found,
        Err(HwError::Config { field, must, value }) if field.starts_with("constraint.") => {
            say(&format!("no design: `{field}` must be {must}, but is {value}"));
            return Ok(UNMET);
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(path) = &args.plot {
        plots::save(path, &plot(&found, space, &search.title, &search.board)?)?;
    }
    output(args, &found, space)?;
    Ok(if found.ended == Ended::Stopped { INTERRUPTED } else { 0 })
}

fn strategy(choice: StrategyArg, args: &Explore) -> Strategy {
    match choice {
        StrategyArg::Auto => Strategy::Auto,
        StrategyArg::Exhaustive => Strategy::Exhaustive,
        StrategyArg::BranchAndBound => Strategy::BranchAndBound,
        StrategyArg::Nsga2 => Strategy::Nsga2(Nsga2Config::default()),
        StrategyArg::Random => Strategy::Random { n: args.evaluations.unwrap_or(RANDOM_POINTS) },
        StrategyArg::Ubimoe => Strategy::UbiMoe,
    }
}

fn run(
    args: &Explore,
    evaluator: &space::Evaluator<'_>,
    strategy: Strategy,
    goals: &[Goal],
) -> anyhow::Result<Result<Exploration>> {
    let mut budget = Budget { evaluations: args.evaluations, time: None };
    if let Some(seconds) = args.time {
        ensure!(seconds > 0.0 && seconds < 1e9, "`--time` must be positive seconds, but is {seconds}");
        budget.time = Some(Duration::from_secs_f64(seconds));
    }
    let stop = stop_flag()?;
    let bar = Bar::new(args.output.quiet);
    let show = |p: &Progress| bar.show(p);
    let explorer = Explorer::new(evaluator.space(), evaluator.evaluate())
        .strategy(strategy)
        .goals(goals)
        .budget(budget)
        .seed(args.seed)
        .stop_flag(&stop)
        .progress(&show);
    let found = on_threads(args.threads, || explorer.run())?;
    bar.finish();
    Ok(found)
}

fn output(args: &Explore, found: &Exploration, space: &Space) -> anyhow::Result<()> {
    let remark = || {
        let rate = found.evaluated as f64 / found.elapsed.as_secs_f64().max(1e-9);
        let reason = found.reason.as_ref().map_or_else(String::new, |r| format!(" (chosen: {r})"));
        format!("{found}{reason}, {} points/s", number(rate))
    };
    if args.output.json {
        print(&(found.front.to_json(space)? + "\n"))?;
    } else if args.output.csv {
        print(&found.front.to_csv(space))?;
    } else {
        print(&text(args.limit, found, space)?)?;
    }
    if !args.output.quiet {
        say(&remark());
    }
    Ok(())
}

fn text(limit: usize, found: &Exploration, space: &Space) -> anyhow::Result<String> {
    // Parameters that are the same in the whole front are told once.
    let points = &found.front.points;
    let varies =
        |d: usize| points.iter().any(|(p, _)| Some(p.index(d)) != points.first().map(|f| f.0.index(d)));
    let (varying, fixed): (Vec<usize>, Vec<usize>) = (0..space.dims().len()).partition(|&d| varies(d));
    let accuracy = points.iter().any(|(_, o)| o.accuracy.is_some());
    let mut head = vec!["", "ms", "mJ", "memory KiB", "DSP %", "BRAM %", "URAM %", "LUT %"];
    if accuracy {
        head.push("accuracy");
    }
    head.extend(varying.iter().filter_map(|&d| space.dims().get(d)).map(|d| d.name()));
    let knee = found.front.knee().map(|(p, _)| p);
    let mut table = Table::new(head);
    for (point, o) in points {
        let mut cells: Vec<Cell> = vec![
            if knee == Some(point) { "knee" } else { "" }.into(),
            (1e3 * o.latency_s).into(),
            (1e3 * o.energy_j).into(),
            (o.memory_bytes / 1024.0).into(),
            (100.0 * o.resources.dsp).into(),
            (100.0 * o.resources.ramb18).into(),
            (100.0 * o.resources.uram).into(),
            (100.0 * o.resources.lut).into(),
        ];
        if accuracy {
            cells.push(o.accuracy.into());
        }
        cells.extend(varying.iter().map(|&d| Cell::from(space.text(d, point.index(d)))));
        table.row(cells);
    }
    let rows = table.len();
    let mut text = table.first(limit).to_string();
    if limit > 0 && rows > limit {
        writeln!(text, "… and {} more; `--limit 0` lists all", rows - limit)?;
    }
    if let Some((first, _)) = points.first() {
        let same: Vec<String> = fixed
            .iter()
            .filter_map(|&d| {
                Some(format!("{} {}", space.dims().get(d)?.name(), space.text(d, first.index(d))))
            })
            .collect();
        if !same.is_empty() {
            writeln!(text, "\nin all: {}", same.join(", "))?;
        }
    }
    if !found.violations.is_empty() {
        let list: Vec<String> =
            found.violations.iter().map(|v| format!("{} by {}", v.constraint, v.points)).collect();
        writeln!(text, "constraints broken: {}", list.join(", "))?;
    }
    Ok(text)
}

/// Title of an axis, with the factor to its unit.
fn axis(goal: Goal) -> (String, f64) {
    match goal {
        Goal::Latency => ("latency in ms".to_owned(), 1e3),
        Goal::LatencyP95 => ("95th percentile of latency in ms".to_owned(), 1e3),
        Goal::Energy => ("energy of one image in mJ".to_owned(), 1e3),
        Goal::MaxResource => ("largest resource share in %".to_owned(), 100.0),
        Goal::Resource(r) => (format!("share of {r} in %"), 100.0),
        Goal::Memory => ("on-chip memory in KiB".to_owned(), 1.0 / 1024.0),
        Goal::Accuracy => ("accuracy".to_owned(), -1.0),
    }
}

fn plot(
    found: &Exploration,
    space: &Space,
    title: &str,
    board: &str,
) -> anyhow::Result<plots::pareto::Canvas> {
    let costs = found.front.costs();
    let goals = &found.front.goals;
    let column = |g: usize| {
        let (name, factor) = goals.get(g).map_or(("latency in ms".to_owned(), 1e3), |&g| axis(g));
        let values = costs.iter().map(|row| row.get(g).map_or(0.0, |v| v * factor)).collect::<Vec<f64>>();
        (name, values)
    };
    ensure!(goals.len() > 1, "a plot needs two goals, but there is {}", goals.len());
    let (x, y) = (column(0), column(1));
    let z = (goals.len() > 2).then(|| column(2));
    let knee = found.front.knee().and_then(|(k, _)| found.front.points.iter().position(|(p, _)| p == k));
    let title = format!("{title} on {board}: {} of {} designs", found.front.points.len(), space.points());
    plots::pareto::draw(&plots::pareto::Plot {
        title: &title,
        x: (&x.0, x.1),
        y: (&y.0, y.1),
        z: z.as_ref().map(|(name, values)| (name.as_str(), values.clone())),
        knee,
        rising: goals.get(1) == Some(&Goal::Accuracy),
    })
}

/// A message for a file that does not hold what was expected.
fn in_file(path: &std::path::Path, error: anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("`{}`: {}", path.display(), tell(&error))
}
