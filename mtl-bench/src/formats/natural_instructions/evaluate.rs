//! Evaluation by ROUGE-L and exact match.
use super::{Budget, Encoding, NiInstance, NiTask};
use crate::metrics::text::{RougeKind, exact_match, rouge_best};
use crate::system::{Request, System};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use std::collections::BTreeMap;

/// How tasks are asked.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NiOptions<'a> {
    /// What prompts show: definition and two positive examples.
    pub encoding: Encoding,
    /// Most instances of a task, see [`NiTask::evaluation_instances`]: 100.
    pub instances: usize,
    /// Most tokens of an answer: 128.
    pub max_new_tokens: Option<u32>,
    /// Longest prompt: no limit.
    pub budget: Option<Budget<'a>>,
}

impl Default for NiOptions<'_> {
    fn default() -> Self {
        Self { encoding: Encoding::DEFAULT, instances: 100, max_new_tokens: Some(128), budget: None }
    }
}

/// Mean scores, each from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct NiScores {
    /// Answers.
    pub instances: usize,
    /// ROUGE-L F with Porter stemming, the best over references. Text without Latin letters or digits has no tokens and
    /// scores 0, as in the reference.
    pub rouge_l: f64,
    /// Share equal to a reference after lower-casing and without punctuation.
    pub exact_match: f64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NiPrediction {
    /// Name of the task.
    pub task: String,
    /// Identifier of the instance.
    pub id: String,
    /// The answer.
    pub answer: String,
    /// ROUGE-L F, 0 to 100.
    pub rouge_l: f64,
    /// Whether it equals a reference.
    pub exact: bool,
}

/// Scores of a collection of tasks.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct NiReport {
    /// Means over all instances: the published overall numbers.
    pub overall: NiScores,
    /// Means over tasks of their means; differs from `overall` when tasks differ in size.
    pub task_mean: NiScores,
    /// Means over the instances of each category.
    pub categories: BTreeMap<String, NiScores>,
    /// Means over the instances of each task.
    pub tasks: BTreeMap<String, NiScores>,
    /// Tasks with fewer examples than the encoding asks for.
    pub short_of_examples: Vec<String>,
    /// Identifiers of evaluated instances that are also positive examples of their task.
    pub leaked: Vec<String>,
    /// All answers, in the order asked.
    pub predictions: Vec<NiPrediction>,
}

/// Answers without a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The input of the instance.
    CopyInput,
    /// The output of a positive example of the task, drawn by the seed; nothing if there is none.
    CopyDemonstration(Seed),
}

/// Evaluates a baseline.
///
/// # Errors
///
/// As [`evaluate`], without those of a system.
pub fn baseline(tasks: &[&NiTask], baseline: Baseline, options: &NiOptions<'_>) -> Result<NiReport> {
    collect(tasks, options, |task, instances| {
        let answer = |instance: &&NiInstance| match baseline {
            Baseline::CopyInput => instance.input.clone(),
            Baseline::CopyDemonstration(seed) => {
                let mut rng =
                    seed.fork("copy demonstration").stream(&format!("{}/{}", task.name, instance.id), 0);
                let n = task.positive.len();
                let drawn = if n == 0 { 0 } else { rng.random_range(0..n) };
                task.positive.get(drawn).map_or_else(String::new, |e| e.output.clone())
            }
        };
        Ok(instances.iter().map(answer).collect())
    })
}

/// Asks a system about the evaluation instances of all tasks and scores its answers.
///
/// A question's identifier is `task/instance`.
///
/// # Errors
///
/// [`Error::Argument`] for no instances per task; [`Error::Missing`] for no tasks; [`Error::Ambiguous`] for two of one name;
/// [`Error::Metric`], naming the task, when no reference of an instance has a Latin letter or a digit but one has letters
/// of another script: ROUGE is not defined there; [`Error::System`] from the system or for a wrong number of answers.
pub fn evaluate(tasks: &[&NiTask], system: &mut dyn System, options: &NiOptions<'_>) -> Result<NiReport> {
    collect(tasks, options, |task, instances| {
        let request = |instance: &&NiInstance| {
            let prompt = options.encoding.prompt(task, instance, options.budget);
            let mut request = Request::new(format!("{}/{}", task.name, instance.id), prompt);
            request.max_new_tokens = options.max_new_tokens;
            request
        };
        let requests: Vec<Request> = instances.iter().map(request).collect();
        let answers = system.respond(&requests)?;
        if answers.len() != requests.len() {
            let message = format!("gave {} answers to {} questions", answers.len(), requests.len());
            return Err(Error::System { system: system.name().to_owned(), message });
        }
        Ok(answers)
    })
}

fn collect(
    tasks: &[&NiTask],
    options: &NiOptions<'_>,
    mut answer: impl FnMut(&NiTask, &[&NiInstance]) -> Result<Vec<String>>,
) -> Result<NiReport> {
    if options.instances == 0 {
        return Err(Error::argument("instances", "at least 1", 0));
    }
    let mut report = NiReport::default();
    let mut categories: BTreeMap<String, Vec<(f64, bool)>> = BTreeMap::new();
    for task in tasks {
        if report.tasks.contains_key(&task.name) {
            return Err(Error::Ambiguous { what: format!("the task `{}`", task.name), count: 2 });
        }
        let instances = task.evaluation_instances(options.instances);
        let (wanted, has) = (options.encoding, (task.positive.len(), task.negative.len()));
        if has.0 < wanted.positives || has.1 < wanted.negatives {
            report.short_of_examples.push(task.name.clone());
        }
        let leaked = task.leaks().into_iter().filter_map(|i| task.instances.get(i));
        let asked = leaked.filter(|l| instances.iter().any(|i| i.id == l.id));
        report.leaked.extend(asked.map(|l| l.id.clone()));
        let mut values = Vec::with_capacity(instances.len());
        for (instance, answer) in instances.iter().zip(answer(task, &instances)?) {
            let (rouge_l, exact) = score(instance, &answer).map_err(|e| e.in_task(&task.name))?;
            values.push((rouge_l, exact));
            let (task, id) = (task.name.clone(), instance.id.clone());
            report.predictions.push(NiPrediction { task, id, answer, rouge_l, exact });
        }
        report.tasks.insert(task.name.clone(), means(&values));
        categories.entry(task.category().to_owned()).or_default().extend(values);
    }
    if report.tasks.is_empty() {
        return Err(Error::Missing { what: "tasks to evaluate".into() });
    }
    let all: Vec<(f64, bool)> = report.predictions.iter().map(|p| (p.rouge_l, p.exact)).collect();
    let mean = |value: fn(&NiScores) -> f64| {
        report.tasks.values().map(value).sum::<f64>() / report.tasks.len() as f64
    };
    let (rouge_l, exact_match) = (mean(|s| s.rouge_l), mean(|s| s.exact_match));
    report.task_mean = NiScores { instances: all.len(), rouge_l, exact_match };
    report.overall = means(&all);
    report.categories = categories.iter().map(|(name, values)| (name.clone(), means(values))).collect();
    Ok(report)
}

fn means(values: &[(f64, bool)]) -> NiScores {
    let n = values.len().max(1) as f64;
    NiScores {
        instances: values.len(),
        rouge_l: values.iter().map(|v| v.0).sum::<f64>() / n,
        exact_match: 100.0 * values.iter().filter(|v| v.1).count() as f64 / n,
    }
}

fn score(instance: &NiInstance, answer: &str) -> Result<(f64, bool)> {
    let latin = |t: &String| t.chars().any(|c| c.to_lowercase().any(|c| c.is_ascii_alphanumeric()));
    let other = |t: &String| t.chars().any(char::is_alphabetic);
    if !instance.outputs.iter().any(latin) && instance.outputs.iter().any(other) {
        let message =
            format!("the references of `{}` have no Latin letter, so all scores would be 0", instance.id);
        return Err(Error::metric("rouge_l", message));
    }
    let rouge = rouge_best(answer, &instance.outputs, RougeKind::L, true)?;
    Ok((100.0 * rouge.f1, exact_match(answer, &instance.outputs)?))
}
