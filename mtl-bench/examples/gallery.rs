//! Draws every kind of figure, with long names and wide intervals, and a report: `gallery [DIR]`.
use mtl_bench::metrics::{AccuracyMatrix, Better};
use mtl_bench::plot::{BarChart, HeatMap, LearningCurves, ParetoPlot};
use mtl_bench::store::Key;
use mtl_bench::{Comparison, Pivot, Plot, Record, Report, Result, Results, Section};
use mtl_core::Seed;
use rand::RngExt;
use std::path::{Path, PathBuf};

const METHODS: [&str; 4] = ["equal-weights", "pcgrad", "single-task", "task-conditioned mixture of experts"];
const TASKS: [&str; 3] = ["digit", "parity", "greater than four"];

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).map_or_else(|| PathBuf::from("gallery"), PathBuf::from);
    std::fs::create_dir_all(&dir).map_err(|e| mtl_core::Error::io("create", &dir, e))?;
    let results = invented()?;
    let finals = results.last_step();

    let curves = LearningCurves::from_results(&results.task("parity"), Key::Method, 0.95)?
        .title("Parity of the digit");
    let bars = BarChart::from_results(&finals, Key::Task, Key::Method, 0.95)?
        .percent()
        .value_label("accuracy [%]")
        .title("Final accuracy, 3 seeds");
    let dots = bars.clone().points().title("The same, on a free axis");
    let map = HeatMap::accuracy(&matrix(5)?).title("Plain fine-tuning");
    let wide = HeatMap::accuracy(&matrix(14)?).title("Fourteen tasks");
    let front = front();
    for (name, plot) in [
        ("curves", &curves as &dyn Plot),
        ("bars", &bars),
        ("dots", &dots),
        ("matrix", &map),
        ("wide", &wide),
        ("front", &front),
    ] {
        save(plot, &dir, name)?;
    }

    let means = finals.mean_over_tasks()?;
    let verdicts = Comparison::new("accuracy", Better::Higher).label("mean accuracy").points().against(
        &means,
        "equal-weights",
        &METHODS[1..],
    )?;
    let table = Pivot::new(Key::Method, Key::Task).rows(&METHODS).percent().with_mean().table(&finals)?;
    let report = verdicts.iter().fold(Report::new("Gallery of figures"), |r, v| r.summary(v.to_string()));
    let report = report
        .section(
            Section::new("Joint training")
                .table(&table.title("Invented accuracies"))
                .plot(&curves, "Invented learning curves; bands are 95 % t intervals.")?,
        )
        .section(
            Section::new("Comparison").plot(&bars, "Bars start at zero.")?.plot(&dots, "Dots need not.")?,
        )
        .section(Section::new("Continual learning").plot(&map, "Accuracy on every task after every task.")?)
        .section(Section::new("Cost").plot(&front, "Names keep off points and off each other.")?)
        .manifest("seeds", "0, 1, 2")
        .manifest("threads", "1")
        .manifest("version", env!("CARGO_PKG_VERSION"));
    report.save(&dir.join("report.html"))
}

fn save(plot: &dyn Plot, dir: &Path, name: &str) -> Result<()> {
    plot.save_svg(&dir.join(format!("{name}.svg")))?;
    plot.save_png(&dir.join(format!("{name}.png")))
}

/// Learning curves that saturate, with noise that shrinks.
fn invented() -> Result<Results> {
    let mut records = Vec::new();
    for (m, method) in METHODS.iter().enumerate() {
        for (t, task) in TASKS.iter().enumerate() {
            for seed in 0..3 {
                let mut rng = Seed(seed).fork(method).stream(task, 0);
                let level =
                    0.97 - 0.03 * t as f64 - 0.012 * ((m * 7) % 4) as f64 + 0.01 * rng.random::<f64>();
                for step in (0..=2000).step_by(100) {
                    let progress = 1.0 - (-(step as f64) / (250.0 + 60.0 * m as f64)).exp();
                    let noise = 0.05 * (rng.random::<f64>() - 0.5) * (1.1 - progress);
                    let value = 0.5 + (level - 0.5) * progress + noise;
                    records.push(
                        Record::new("accuracy", value).method(*method).task(*task).seed(seed).step(step),
                    );
                }
            }
        }
    }
    Results::from_records(records)
}

fn matrix(n: usize) -> Result<AccuracyMatrix> {
    let names: Vec<String> = (0..n).map(|i| format!("{} or {}", 2 * i, 2 * i + 1)).collect();
    let entry = |i: usize, j: usize| (j <= i).then(|| 0.35 + 0.63 * (-((i - j) as f64) / 2.0).exp());
    AccuracyMatrix::new(&names, (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect())
}

fn front() -> ParetoPlot {
    let plot =
        ParetoPlot::new(("latency on ZCU104 [ms]", Better::Lower), ("mean accuracy [%]", Better::Higher));
    let points = [
        ("top-1, 4 experts", 2.1, 92.0),
        ("top-1, 8 experts", 2.2, 92.3),
        ("top-2, 8 experts", 3.9, 94.4),
        ("dense ViT", 4.0, 93.1),
        ("top-2, 16 experts", 4.1, 94.5),
        ("top-4, 16 experts", 7.8, 95.2),
        ("wide dense ViT", 9.0, 94.2),
        ("top-4, 16 experts, shared attention", 7.9, 95.1),
    ];
    points
        .into_iter()
        .fold(plot.title("Accuracy against latency").log_x(), |p, (name, x, y)| p.point(name, x, y))
}
