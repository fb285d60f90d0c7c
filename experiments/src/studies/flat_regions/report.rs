//! Claims, tables and plots, from whatever records there are.
use crate::runner::{Claim, PairedTest, Report as Files};
use mtl_bench::{
    Comparison, Estimate, Pivot, Plot, Record, Results, Section, Table,
    metrics::Better,
    plot::{BarChart, ForestPlot},
    stats::PairedDifference,
    store::Key,
    table::{Cell, Column},
};

const LEVEL: f64 = 0.95;
const BALANCERS: [&str; 3] = ["cagrad", "pcgrad", "mgda"];

/// How a balancer is trained, in words.
const VARIANTS: [&str; 5] = ["plain", "plain, 2× epochs", "SAM", "F-MTL", "F-MTL direct"];

fn method(balancer: &str, variant: &str) -> String {
    match variant {
        "plain" => balancer.to_owned(),
        "plain, 2× epochs" => format!("{balancer}-2x"),
        "SAM" => format!("sam-{balancer}"),
        "F-MTL" => format!("f-{balancer}"),
        _ => format!("f-{balancer}-direct"),
    }
}

/// Accuracy in points.
fn accuracy() -> Comparison {
    Comparison::new("accuracy", Better::Higher).label("mean test accuracy of both tasks").points()
}

/// Final measurements on the test pairs, one per method and seed: tasks are averaged.
fn measured(results: &Results, metric: &str) -> anyhow::Result<Results> {
    let results = results.metric(metric).setting("test");
    Ok(if results.names(Key::Task).iter().all(String::is_empty) {
        results
    } else {
        results.mean_over_tasks()?
    })
}

/// F-MTL against `other` for each balancer.
fn against(comparison: Comparison, other: &str) -> PairedTest {
    let test = PairedTest::new(comparison).min_seeds(5);
    BALANCERS.iter().fold(test, |test, b| test.pair(method(b, "F-MTL"), method(b, other)))
}

/// The four parts of the claim, and what is left of the first at equal cost.
pub(super) fn claims(results: &Results) -> anyhow::Result<Vec<Claim>> {
    let claim = |name: &str, statement: &str| {
        let title = "Improving Multi-task Learning via Seeking Task-based Flat Regions";
        Claim::new(name, title, "arXiv 2211.13723").statement(statement)
    };
    let conflicts = Comparison::new("conflict_share", Better::Lower)
        .label("share of steps with conflicting loss gradients in the last quarter of training")
        .points();
    let sharpness = Comparison::new("sharpness", Better::Lower)
        .label("rise of the training loss within the radius, mean of both tasks");
    Ok(vec![
        claim("accuracy", "F-MTL raises the test accuracy of gradient balancers.")
            .paired(&against(accuracy(), "plain").at_least(2), &measured(results, "accuracy")?)?,
        claim(
            "accuracy-cost",
            "F-MTL raises the test accuracy of gradient balancers that are trained for twice the epochs, which takes as many \
             backward passes (a claim of this study, not of the paper).",
        )
        .paired(&against(accuracy(), "plain, 2× epochs").at_least(2), &measured(results, "accuracy")?)?,
        claim(
            "decomposed",
            "Balancing the gradients of losses and of sharpness apart is better than balancing the gradients at the worst points.",
        )
        .paired(&against(accuracy(), "F-MTL direct").on_average().negligible(0.002), &measured(results, "accuracy")?)?,
        claim("conflicts", "F-MTL lowers the share of conflicting task gradients late in training.")
            .paired(&against(conflicts, "plain").at_least(2), &measured(results, "conflict_share")?)?,
        claim("sharpness", "F-MTL finds flatter minima of each task's loss.")
            .paired(&against(sharpness, "plain").at_least(2), &measured(results, "sharpness")?)?,
    ])
}

/// Writes everything and returns the text to print.
pub(super) fn write(records: &[Record], files: &mut Files) -> anyhow::Result<String> {
    let results = Results::from_records(records.iter().cloned())?;
    let mut page = files.page("F-MTL: flat regions for each task, on overlaid pairs of images")?;
    let mut text = String::new();
    let trained = results.setting("test");
    if !trained.is_empty() {
        let (section, part) = trained_part(files, &trained)?;
        (page, text) = (page.section(section), text + &part);
    }
    let tuned = results.filter(|record| record.setting.starts_with("rho "));
    if !tuned.is_empty() {
        let table = Pivot::new(Key::Method, Key::Setting)
            .percent()
            .table(&tuned.mean_over_tasks()?)?
            .title("Tuning: accuracy on validation pairs by radius, mean of both tasks");
        files.write("tuning.csv", |file| file.write_all(table.to_csv().as_bytes()))?;
        text += &format!("\n{}\n", table.to_text());
        page = page.section(Section::new("Tuning").table(&table));
    }
    page.save(&files.path("report.html"))?;
    Ok(text)
}

fn trained_part(files: &Files, results: &Results) -> anyhow::Result<(Section, String)> {
    let columns = [
        Column::new("test accuracy").better(Better::Higher).percent(),
        Column::new("conflicts late").better(Better::Lower).percent(),
        Column::new("sharpness").better(Better::Lower).decimals(4),
        Column::new("steps").decimals(0),
        Column::new("backward passes a step").decimals(0),
    ];
    let metrics = ["accuracy", "conflict_share", "sharpness", "steps", "backward_passes"];
    let mut table = Table::new("method", columns)
        .title("Means over both tasks and seeds")
        .note("conflicts late: share of steps in the last quarter of training whose task gradients have a negative inner product.")
        .note("SAM and F-MTL direct: gradients at the perturbed points, where the balancer sees no others.")
        .note("sharpness: rise of each task's training loss after one ascent step of length 0.05 in the shared parameters, on 1024 training pairs.")
        .note("for equal time compare F-MTL with twice the epochs: as many backward passes.");
    let (mut bars, mut conflicts, mut sharp) = (
        BarChart::new("accuracy on test pairs [%]")
            .title("Test accuracy, mean of both tasks")
            .percent()
            .decimals(1)
            .points(),
        BarChart::new("share of steps [%]")
            .title("Conflicting gradients in the last quarter of training")
            .percent()
            .decimals(0),
        BarChart::new("rise of the training loss")
            .title("Sharpness: rise of a task's loss within the radius")
            .decimals(3),
    );
    for balancer in BALANCERS {
        for variant in VARIANTS {
            let name = method(balancer, variant);
            let mut cells = Vec::with_capacity(metrics.len());
            for metric in metrics {
                let found = measured(&results.method(&name), metric)?;
                cells.push(if found.is_empty() { None } else { Some(found.estimate(LEVEL)?) });
            }
            let [Some(accuracy), conflict, Some(rise), Some(steps), Some(passes)] = cells[..] else {
                continue;
            };
            bars = bars.bar(balancer, variant, accuracy);
            if let Some(conflict) = conflict.filter(|_| !matches!(variant, "SAM" | "F-MTL direct")) {
                conflicts = conflicts.bar(balancer, variant, conflict);
            }
            sharp = sharp.bar(balancer, variant, rise);
            let conflict = conflict.map_or(Cell::Empty, Cell::from);
            let exact = [Cell::Number(steps.mean), Cell::Number(passes.mean)];
            let [steps, passes] = exact;
            table.row(name, [Cell::from(accuracy), conflict, Cell::from(rise), steps, passes])?;
        }
    }
    for (extension, text) in [("md", table.to_markdown()), ("tex", table.to_latex()), ("csv", table.to_csv())]
    {
        files.write(&format!("methods.{extension}"), |file| file.write_all(text.as_bytes()))?;
    }
    let means = measured(results, "accuracy")?;
    let known = means.names(Key::Method);
    let mut forest = ForestPlot::new("difference of test accuracy [points]")
        .title("F-MTL minus what it is compared with")
        .sides("the other is better", "F-MTL is better");
    let (mut sentences, mut effects) = (Vec::new(), 0);
    for other in ["plain", "plain, 2× epochs", "SAM", "F-MTL direct"] {
        for balancer in BALANCERS {
            let (a, b) = (method(balancer, "F-MTL"), method(balancer, other));
            if !known.contains(&a) || !known.contains(&b) {
                continue;
            }
            let pairs = Results::pair(&means.method(&a), &means.method(&b))?;
            if pairs.pairs.is_empty() {
                continue;
            }
            let points: Vec<f64> = pairs.differences().iter().map(|d| 100.0 * d).collect();
            if PairedDifference::of(&points, LEVEL)?.interval.is_some() {
                effects += 1;
                forest = forest.row(format!("{balancer}: F-MTL − {other}"), Estimate::of(&points, LEVEL)?);
            }
            sentences.extend(accuracy().against(&means, &b, &[&a])?.iter().map(ToString::to_string));
        }
    }
    let mut section = Section::new("Methods")
        .text(
            "Two images are laid over each other, one at the top left and one at the bottom right; a multi-layer perceptron with \
             two shared hidden layers tells both. Adam at a constant rate, the same steps for all but the doubled variant. The \
             radii of SAM and F-MTL were chosen on validation pairs with a seed of its own. The sentences below compare one pair \
             each, two-sided and without a correction for their number.",
        )
        .table(&table)
        .list(&sentences);
    let plots: [(&str, &dyn Plot, &str); 4] = [
        ("differences", &forest, "Paired over seeds, 95 % t intervals."),
        ("accuracy", &bars, "Means over seeds, 95 % t intervals."),
        (
            "conflicts",
            &conflicts,
            "Means over seeds, 95 % t intervals; gradients of the losses at the parameters.",
        ),
        ("sharpness", &sharp, "Means over seeds, 95 % t intervals."),
    ];
    if table.is_empty() {
        return Ok((section, table.to_text()));
    }
    for (name, plot, caption) in plots {
        if name == "differences" && effects == 0 {
            continue;
        }
        plot.save_svg(&files.path(&format!("{name}.svg")))?;
        plot.save_png(&files.path(&format!("{name}.png")))?;
        section = section.plot(plot, caption)?;
    }
    Ok((section, format!("{}\n{}\n", table.to_text(), sentences.join("\n"))))
}
