//! What the reports of all studies have in common.
use crate::runner::Report as Files;
use anyhow::Context as _;
use mtl_bench::{
    Comparison, Plot, Record, Results, Section, Table,
    metrics::{Better, DeltaMOptions, Targets, TaskScores, delta_m, score},
    store::Key,
};
use mtl_core::{Input, Result, TaskSpec, data::TensorDataset, task::Metric};
use tch::{Kind, Tensor};

/// Confidence level of every interval.
pub(super) const LEVEL: f64 = 0.95;

/// Where tables and plots go, and what is said about them.
pub(super) struct Pages<'a> {
    files: &'a mut Files,
    text: String,
    verdicts: Vec<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(files: &'a mut Files) -> Self {
        Self { files, text: String::new(), verdicts: Vec::new() }
    }

    /// Writes the page and returns the text to print.
    pub(super) fn finish(
        self,
        title: &str,
        sections: impl IntoIterator<Item = Section>,
    ) -> anyhow::Result<String> {
        let Self { files, mut text, verdicts } = self;
        let mut report = verdicts.iter().fold(files.page(title)?, |page, verdict| page.summary(verdict));
        for section in sections {
            report = report.section(section);
        }
        report.save(&files.path("report.html"))?;
        if !verdicts.is_empty() {
            text += "\nWhat was and was not shown\n";
            verdicts.iter().for_each(|verdict| text += &format!("* {verdict}\n"));
        }
        Ok(text)
    }

    /// Writes a table in every format and keeps it for the terminal.
    pub(super) fn table(&mut self, name: &str, table: &Table) -> anyhow::Result<()> {
        for (extension, text) in
            [("md", table.to_markdown()), ("tex", table.to_latex()), ("csv", table.to_csv())]
        {
            self.files.write(&format!("{name}.{extension}"), |file| file.write_all(text.as_bytes()))?;
        }
        self.text += &format!("\n{}\n", table.to_text());
        Ok(())
    }

    /// Writes a plot as SVG and PNG.
    pub(super) fn plot(&self, name: &str, plot: &dyn Plot) -> anyhow::Result<()> {
        plot.save_svg(&self.files.path(&format!("{name}.svg")))?;
        plot.save_png(&self.files.path(&format!("{name}.png")))?;
        Ok(())
    }

    /// Compares methods that there are with a baseline, and keeps the sentences.
    pub(super) fn compare(
        &mut self,
        comparison: &Comparison,
        results: &Results,
        baseline: &str,
        methods: &[&str],
    ) -> anyhow::Result<Vec<String>> {
        let known = results.names(Key::Method);
        let there: Vec<&str> = methods.iter().copied().filter(|m| known.iter().any(|k| k == m)).collect();
        if there.is_empty() || !known.iter().any(|k| k == baseline) {
            return Ok(Vec::new());
        }
        let verdicts = comparison.against(results, baseline, &there)?;
        let sentences: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        self.verdicts.extend(sentences.iter().cloned());
        Ok(sentences)
    }
}

/// Names of `results` by `key`, those of `order` first and in that order.
pub(super) fn ordered<'a>(results: &Results, key: Key, order: &[&'a str]) -> Vec<&'a str> {
    let known = results.names(key);
    order.iter().copied().filter(|name| known.iter().any(|k| k == name)).collect()
}

/// Δm of every method against the models called `single`, setting by setting and seed by seed. `baseline_of` names the setting
/// in which a setting's single-task models were trained.
pub(super) fn gains(
    results: &Results,
    single: &str,
    baseline_of: &dyn Fn(&str) -> String,
) -> anyhow::Result<Results> {
    let baseline = results.method(single);
    let mut gains = Vec::new();
    for (setting, in_setting) in results.group_by(Key::Setting) {
        for (method, runs) in in_setting.group_by(Key::Method) {
            for seed in runs.seeds() {
                let of_seed = |r: &Record| r.seed == seed;
                let (run, base) =
                    (runs.filter(of_seed), baseline.setting(&baseline_of(&setting)).filter(of_seed));
                if method == single || base.len() != run.len() {
                    continue;
                }
                let scores = |r: &Record| {
                    let baseline =
                        base.task(&r.task).records().first().map(|b| b.value).context("no baseline")?;
                    let better = if higher_is_better(&r.metric) { Better::Higher } else { Better::Lower };
                    Ok(TaskScores {
                        task: r.task.clone(),
                        metrics: vec![(r.metric.clone(), better, r.value, baseline)],
                    })
                };
                let scores = run.records().iter().map(scores).collect::<anyhow::Result<Vec<_>>>()?;
                let gain = delta_m(&scores, DeltaMOptions::default())?.percent;
                gains.push(Record::new("delta_m", gain).method(&method).setting(&setting).seed(seed));
            }
        }
    }
    Ok(Results::from_records(gains)?)
}

/// Whether more of a task's metric is better.
fn higher_is_better(metric: &str) -> bool {
    metric != Metric::MeanSquaredError.name()
}

/// The score of one task over a whole split.
pub(super) fn evaluate(
    predict: &mut dyn FnMut(&Input) -> Result<Tensor>,
    data: &TensorDataset,
    task: usize,
) -> anyhow::Result<f64> {
    let mut outputs = Vec::new();
    for indices in data.chunks(256) {
        let batch = data.batch(task, &indices)?;
        let output = predict(&batch.input)?.to_kind(Kind::Float).contiguous();
        outputs.extend(Vec::<f32>::try_from(output.flatten(0, -1))?);
    }
    let spec: &TaskSpec = &data.tasks()[task];
    let targets = data.targets(task)?.flatten(0, -1);
    Ok(if targets.kind() == Kind::Int64 {
        score(spec, &outputs, Targets::Labels(&Vec::<i64>::try_from(targets)?))?
    } else {
        score(spec, &outputs, Targets::Values(&Vec::<f32>::try_from(targets)?))?
    })
}
