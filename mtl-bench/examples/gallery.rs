//! Draws every kind of figure, with long names and wide intervals, and a report: `gallery [DIR]`.
use mtl_bench::metrics::{AccuracyMatrix, Better};
use mtl_bench::plot::{
    BarChart, CriticalDifferenceDiagram, ForestPlot, HeatMap, LearningCurves, ParetoPlot, PowerLawPlot,
    ProfilePlot, Radar,
};
use mtl_bench::stats::{
    Bootstrap, CriticalDifference, Estimate, FitOptions, RunsByTasks, fit_power_law, friedman,
    maximal_groups, profile_with_band,
};
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
    for (name, plot) in more()? {
        save(plot.as_ref(), &dir, name)?;
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

/// Ranks, profiles, radar, forest, power law and affinity, each small and with many or long names.
fn more() -> Result<Vec<(&'static str, Box<dyn Plot>)>> {
    let few = METHODS.map(str::to_owned).to_vec();
    let many: Vec<String> =
        (1..=20).map(|i| format!("method {i} with a name too long for any margin of the page")).collect();
    let (few_ranks, many_ranks) = (ranks(&few, 12)?, ranks(&many, 30)?);
    let wilcoxon = vec![
        vec![1.0, 0.40, 0.03, 0.01],
        vec![0.40, 1.0, 0.20, 0.30],
        vec![0.03, 0.20, 1.0, 0.60],
        vec![0.01, 0.30, 0.60, 1.0],
    ];
    let pairwise = CriticalDifferenceDiagram::new(few_ranks.ranks.clone(), maximal_groups(&wilcoxon, 0.05)?);
    let tasks: Vec<String> =
        ["digit", "parity", "greater than four", "even loops", "colour"].map(str::to_owned).to_vec();
    let affinity = |n: usize| -> Vec<Vec<Option<f64>>> {
        let entry =
            |i: usize, j: usize| (i != j).then(|| 3.1 * (1.7 * i as f64 + 0.9 * j as f64).sin() + 0.4);
        (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect()
    };
    Ok(vec![
        ("ranks", Box::new(CriticalDifferenceDiagram::nemenyi(&few_ranks).title("Nemenyi, 12 tasks"))),
        (
            "ranks-20",
            Box::new(CriticalDifferenceDiagram::nemenyi(&many_ranks).title("Twenty methods").best_right()),
        ),
        ("ranks-pairwise", Box::new(pairwise.title("Pairwise Wilcoxon, Holm"))),
        ("profiles", Box::new(profiles(&few)?.title("Three seeds, ten tasks"))),
        ("profiles-20", Box::new(profiles(&many)?)),
        ("profiles-1", Box::new(profiles(&few[..1])?)),
        ("radar", Box::new(radar(&few, 5).title("Relative to single-task training"))),
        ("radar-20", Box::new(radar(&many, 8))),
        (
            "forest",
            Box::new(
                forest(&few)?
                    .title("Against equal weights")
                    .sides("favours equal weights", "favours the method"),
            ),
        ),
        ("forest-20", Box::new(forest(&many)?)),
        ("forest-1", Box::new(ForestPlot::new("gain [points]").row("one run", Estimate::of(&[1.3], 0.95)?))),
        ("power-law", Box::new(law(0.06)?.title("Error over examples"))),
        ("power-law-extended", Box::new(law(0.06)?.extend_to(5e6))),
        ("power-law-linear", Box::new(law(0.0)?.linear_y())),
        (
            "affinity",
            Box::new(
                HeatMap::affinity(&tasks, &tasks, affinity(5))?
                    .decimals(1)
                    .labels("source task", "target task", "transfer [points]")
                    .title("Transfer between tasks"),
            ),
        ),
        ("affinity-20", Box::new(HeatMap::affinity(&many, &many, affinity(20))?.decimals(1))),
    ])
}

fn ranks(names: &[String], tasks: usize) -> Result<CriticalDifference> {
    let mut rng = Seed(1).stream("ranks", names.len() as u64);
    let mut score = |m: usize| m as f64 / names.len() as f64 + 0.9 * rng.random::<f64>();
    let blocks: Vec<Vec<f64>> = (0..tasks).map(|_| (0..names.len()).map(&mut score).collect()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    CriticalDifference::nemenyi(&friedman(&blocks, Better::Higher)?, &names, 0.95)
}

fn profiles(names: &[String]) -> Result<ProfilePlot> {
    let tau: Vec<f64> = (0..=60).map(|i| 0.4 + 0.01 * i as f64).collect();
    let options = Bootstrap { replicates: 300, ..Bootstrap::default() };
    let mut plot = ProfilePlot::new("normalised score τ");
    for (m, name) in names.iter().enumerate() {
        let mut rng = Seed(2).stream("profile", m as u64);
        let mut score = |t: usize| 0.5 + 0.03 * t as f64 + 0.15 * rng.random::<f64>() - 0.02 * (m % 5) as f64;
        let rows: Vec<Vec<f64>> = (0..3).map(|_| (0..10).map(&mut score).collect()).collect();
        let scores = RunsByTasks::from_rows(&rows)?;
        let found = profile_with_band(&scores, &tau, Default::default(), Default::default(), &options)?;
        plot = plot.profile(name, found);
    }
    Ok(plot)
}

fn radar(names: &[String], axes: usize) -> Radar {
    let labels = [
        "digit",
        "parity of the written digit, judged from strokes",
        "greater than four",
        "loops",
        "colour of the ink",
        "slant",
        "width",
        "height",
    ];
    let plot = Radar::new(labels.into_iter().take(axes), "normalised score");
    names.iter().enumerate().fold(plot, |plot, (m, name)| {
        let mut rng = Seed(3).stream("radar", m as u64);
        plot.series(name, (0..axes).map(|_| 0.45 + 0.5 * rng.random::<f64>()).collect())
    })
}

fn forest(names: &[String]) -> Result<ForestPlot> {
    let mut plot = ForestPlot::new("gain [points]");
    for (m, name) in names.iter().enumerate() {
        let mut rng = Seed(4).stream("forest", m as u64);
        let runs: Vec<f64> = (0..3 + m % 3)
            .map(|_| 2.0 * rng.random::<f64>() - 1.2 + 0.7 * m as f64 / names.len() as f64)
            .collect();
        plot = plot.row(name, Estimate::of(&runs, 0.95)?);
    }
    Ok(plot.pooled("all, fixed effect", Estimate::of(&[-0.4, 0.1, 0.3, 0.2, 0.0, -0.2], 0.95)?))
}

fn law(offset: f64) -> Result<PowerLawPlot> {
    let x: Vec<f64> = (0..9).map(|i| 250.0 * 2_f64.powi(i)).collect();
    let mut rng = Seed(5).stream("law", 0);
    let y: Vec<f64> =
        x.iter().map(|x| (4.0 * x.powf(-0.42) + offset) * (0.96 + 0.08 * rng.random::<f64>())).collect();
    let fit = fit_power_law(&x, &y, &FitOptions::default())?;
    PowerLawPlot::new("training examples", "test error [share]", &x, &y, fit)
}
