//! Tables, plots and sentences of the quickstart, from whatever records there are.
use super::{joint, merging, transfer};
use crate::{
    runner::Report as Files,
    studies::pages::{LEVEL, Pages, gains, ordered},
};
use mtl_bench::{
    Comparison, Pivot, Record, Results, Section, Table,
    metrics::{AccuracyMatrix, Better},
    plot::{BarChart, HeatMap, LearningCurves, ParetoPlot},
    store::Key,
    table::{Cell, Column},
};
use mtl_continual::Scenario;

/// A section, or nothing where its records are missing.
type Part = anyhow::Result<Option<Section>>;

/// Writes everything and returns the text to print.
pub(super) fn write(records: &[Record], files: &mut Files) -> anyhow::Result<String> {
    let results = Results::from_records(records.iter().cloned())?;
    let mut pages = Pages::new(files);
    let parts = [joint_part, merging_part, transfer_part, continual_part, hardware_part];
    let sections = parts.map(|part| part(&mut pages, &results));
    let sections = sections.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    pages.finish("Quickstart: one small study for each family", sections.into_iter().flatten())
}

fn joint_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const METHODS: [&str; 4] = ["single-task", "equal-weights", "pcgrad", "moe-vit"];
    let all = results.setting(joint::SETTING);
    let results = all.last_step();
    let methods = ordered(&results, Key::Method, &METHODS);
    if methods.is_empty() {
        return Ok(None);
    }
    let gains = gains(&results, "single-task", &str::to_owned)?;
    let mut table = Pivot::new(Key::Method, Key::Task)
        .rows(&methods)
        .columns(&ordered(&results, Key::Task, &["class", "parity", "large"]))
        .percent()
        .with_mean()
        .table(&results)?
        .title("Joint training: accuracy on the test split");
    let mut section = Section::new("Joint training").text(
        "One Vision Transformer for three tasks on the same images (the class, its parity, whether it is one of the upper \
         half), trained with the losses added up, with conflicting gradients projected (PCGrad), or with task-conditioned \
         mixtures of experts in every second block at equal cost per token (M³ViT); against one model per task. Width, \
         initial scale, steps and learning rate were chosen by hand for equal weights, by its accuracy on this test split \
         with seeds 0 and 1, and shared by all methods: absolute numbers are optimistic, and the baseline is favoured.",
    );
    if !gains.is_empty() {
        let mut line =
            String::from("Δm, the mean relative gain over single-task models, positive is better: ");
        let each = gains.group_by(Key::Method).into_iter().map(|(method, runs)| {
            let gain = runs.estimate(LEVEL)?;
            let margin = gain.interval.map(|i| format!(" ± {:.2}", i.half_width())).unwrap_or_default();
            Ok(format!("{method} {:+.2}{margin} %", gain.mean))
        });
        line += &each.collect::<anyhow::Result<Vec<_>>>()?.join(", ");
        table = table.note(line);
    }
    pages.table("joint", &table)?;
    let comparison = Comparison::new("delta_m", Better::Higher).label("Δm").unit("%");
    let sentences = pages.compare(&comparison, &gains, "equal-weights", &["pcgrad", "moe-vit"])?;
    let curves = LearningCurves::from_results(&all.mean_over_tasks()?, Key::Method, LEVEL)?
        .title("Joint training: mean accuracy over three tasks")
        .y_label("accuracy on the test split");
    pages.plot("joint-curves", &curves)?;
    section = section.table(&table).list(sentences);
    Ok(Some(section.plot(&curves, "Mean over tasks and seeds; bands are 95 % t intervals over seeds.")?))
}

fn merging_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const METHODS: [&str; 4] = ["pretrained", "weight-averaging", "task-arithmetic", "fine-tuned"];
    let results = results.setting(merging::SETTING).metric("accuracy");
    let methods = ordered(&results, Key::Method, &METHODS);
    if methods.is_empty() {
        return Ok(None);
    }
    let table = Pivot::new(Key::Method, Key::Task)
        .rows(&methods)
        .columns(&ordered(&results, Key::Task, &["class", "parity", "large"]))
        .percent()
        .with_mean()
        .table(&results)?
        .title("Model merging: accuracy on the test split")
        .note("fine-tuned keeps one encoder per task; the others use one encoder for all.");
    pages.table("merging", &table)?;
    let means = results.mean_over_tasks()?;
    let comparison = Comparison::new("accuracy", Better::Higher).label("mean accuracy").points();
    let mut sentences = pages.compare(&comparison, &means, "weight-averaging", &["task-arithmetic"])?;
    sentences.extend(pages.compare(&comparison, &means, "fine-tuned", &["task-arithmetic"])?);
    let chart = BarChart::from_results(&means, Key::Method, Key::Setting, LEVEL)?
        .title("Model merging: mean accuracy over three tasks")
        .value_label("accuracy [%]")
        .percent()
        .decimals(1);
    pages.plot("merging-bars", &chart)?;
    let section = Section::new("Model merging").text(
        "A Vision Transformer pre-trained on the lower half of the classes is fine-tuned on each of the three tasks, and the \
         fine-tuned encoders are merged on disk, under the heads they were tuned with. The scaling factor of task arithmetic \
         is chosen on a fifth of the training split that fine-tuning did not see.",
    );
    let section = section.table(&table).list(sentences);
    Ok(Some(section.plot(&chart, "Mean over tasks and seeds with 95 % t intervals over seeds.")?))
}

fn transfer_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const METHODS: [&str; 4] = ["linear-probe", "vpt-shallow", "vpt-deep", "full-fine-tuning"];
    let results = results.setting(transfer::SETTING);
    let (accuracy, learned) = (results.metric("accuracy"), results.metric("learned_parameters"));
    let methods = ordered(&accuracy, Key::Method, &METHODS);
    if methods.is_empty() {
        return Ok(None);
    }
    let columns = [
        Column::new("accuracy").better(Better::Higher).percent(),
        Column::new("learned parameters").better(Better::Lower).decimals(0),
    ];
    let mut table = Table::new("method", columns)
        .title("Prompting: accuracy on the classes that pre-training did not see, from a few images of each");
    let mut plot = ParetoPlot::new(("learned parameters", Better::Lower), ("accuracy [%]", Better::Higher))
        .title("Prompting: accuracy against the number of learned parameters")
        .log_x();
    for method in &methods {
        let score = accuracy.method(method).estimate(LEVEL)?;
        let size = learned.method(method).estimate(LEVEL)?.mean;
        plot = plot.point(*method, size, 100.0 * score.mean);
        table.row(*method, [Cell::from(score), Cell::Number(size)])?;
    }
    pages.table("prompting", &table)?;
    pages.plot("prompting-pareto", &plot)?;
    let comparison = Comparison::new("accuracy", Better::Higher).points();
    let mut sentences =
        pages.compare(&comparison, &accuracy, "linear-probe", &["vpt-shallow", "vpt-deep"])?;
    sentences.extend(pages.compare(&comparison, &accuracy, "full-fine-tuning", &["vpt-deep"])?);
    let section = Section::new("Prompt tuning").text(
        "The Vision Transformer pre-trained on the lower half of the classes is used for the upper half, from a few labelled \
         images of each class: with a new head alone, with learned prompt tokens before the first block or before every \
         block (visual prompt tuning; the model stays frozen), or by fine-tuning all of it.",
    );
    let section = section.table(&table).list(sentences);
    Ok(Some(section.plot(&plot, "Means over seeds; the line joins what nothing beats on both axes.")?))
}

fn continual_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const METHODS: [&str; 2] = ["fine-tuning", "experience-replay"];
    let mut section = Section::new("Continual learning").text(
        "Five tasks of two classes each, learned one after the other by a multi-layer perceptron, with and without a memory \
         of past examples filled by reservoir sampling. In the class-incremental scenario all classes seen so far compete at \
         test time; in the task-incremental one the task is told.",
    );
    let mut found = false;
    for scenario in [Scenario::ClassIncremental, Scenario::TaskIncremental] {
        let name = scenario.name();
        let part = results.setting(name);
        let methods = ordered(&part, Key::Method, &METHODS);
        if methods.is_empty() {
            continue;
        }
        found = true;
        let summary = part.filter(|r| r.task.is_empty());
        let table = Pivot::new(Key::Method, Key::Metric)
            .rows(&methods)
            .columns(&ordered(
                &summary,
                Key::Metric,
                &["average_accuracy", "forgetting", "backward_transfer"],
            ))
            .format("average_accuracy", Column::new("average accuracy").better(Better::Higher).percent())
            .format("forgetting", Column::new("forgetting").better(Better::Lower).percent())
            .format("backward_transfer", Column::new("backward transfer").better(Better::Higher).percent())
            .table(&summary)?
            .title(format!("Continual learning, {name}"));
        pages.table(&format!("continual-{name}"), &table)?;
        let comparison = Comparison::new("average_accuracy", Better::Higher)
            .label(format!("average accuracy ({name})"))
            .points();
        let sentences = pages.compare(&comparison, &summary, "fine-tuning", &["experience-replay"])?;
        section = section.table(&table).list(sentences);
        for method in methods {
            let plot =
                HeatMap::accuracy(&mean_matrix(&part.method(method))?).title(format!("{method}, {name}"));
            pages.plot(&format!("continual-{name}-{method}"), &plot)?;
            section = section.plot(&plot, "Means over seeds; tasks are named by their classes.")?;
        }
    }
    Ok(found.then_some(section))
}

/// The accuracy matrix of one method and scenario, averaged over seeds.
fn mean_matrix(runs: &Results) -> anyhow::Result<AccuracyMatrix> {
    let accuracy = runs.metric("accuracy");
    let tasks = accuracy.names(Key::Task);
    let of_seed = |seed| {
        let run = accuracy.filter(|r: &Record| r.seed == seed);
        AccuracyMatrix::from_results(&run, "accuracy", &tasks)
    };
    let matrices = accuracy.seeds().into_iter().map(of_seed).collect::<mtl_bench::Result<Vec<_>>>()?;
    Ok(AccuracyMatrix::mean(&matrices)?)
}

fn hardware_part(pages: &mut Pages<'_>, results: &Results) -> Part {
    const DESIGNS: [&str; 4] =
        ["dense ViT", "all experts resident", "token by token, cache of 2", "expert by expert"];
    let results = results.setting("hardware").mean_over_tasks()?;
    let designs = ordered(&results, Key::Method, &DESIGNS);
    if designs.is_empty() {
        return Ok(None);
    }
    let table = Pivot::new(Key::Method, Key::Metric)
        .rows(&designs)
        .columns(&ordered(&results, Key::Metric, &["latency_us", "energy_uj"]))
        .format("latency_us", Column::new("latency").unit("µs").better(Better::Lower).decimals(1))
        .format("energy_uj", Column::new("energy").unit("µJ").better(Better::Lower).decimals(0))
        .table(&results)?
        .title("The mixture-of-experts ViT on a ZCU104: one image, one task")
        .note("Closed-form estimates at a constant 10 W, not board measurements; the routing is that of the trained models.");
    pages.table("hardware", &table)?;
    let latency = results.metric("latency_us");
    let comparison = Comparison::new("latency_us", Better::Lower).label("estimated latency").unit("µs");
    let sentences =
        pages.compare(&comparison, &latency, "token by token, cache of 2", &["expert by expert"])?;
    let chart = BarChart::from_results(&latency, Key::Method, Key::Setting, LEVEL)?
        .title("The mixture-of-experts ViT on a ZCU104: estimated latency of one image")
        .value_label("latency [µs]")
        .decimals(1);
    pages.plot("hardware-bars", &chart)?;
    let section = Section::new("Hardware").text(
        "Latency and energy of the trained mixture of experts on M³ViT's accelerator for the ZCU104, from the experts that its \
         routers chose for test images, under three schedules of the experts; and of the dense model of equal cost.",
    );
    let section = section.table(&table).list(sentences);
    Ok(Some(section.plot(&chart, "Means over tasks and test images; intervals over seeds.")?))
}
