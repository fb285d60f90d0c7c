//! Asks a system and scores it.
use super::generation::{Answers, macro_f1};
use super::{Metric, Task, Tasks};
use crate::metrics::{Choice, choice_scores};
use crate::system::{Request, System};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::seq::index;
use std::collections::BTreeMap;

/// How a task is asked and scored.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Solved examples before each question: 0 by default; the paper uses 0 to 3.
    pub shots: usize,
    /// Most questions of a task, drawn by the seed without replacement; all by default.
    pub max_examples: Option<usize>,
    /// Most tokens of an answer.
    pub max_new_tokens: Option<u32>,
    /// What log-probabilities of choices are divided by.
    pub length: LengthNormalisation,
    /// The preferred score that counts as 100 when normalised, such as that of an expert; the metric's top by default.
    pub high: Option<f64>,
    /// Seed of the shots and of the questions drawn.
    pub seed: Seed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shots: 0,
            max_examples: None,
            max_new_tokens: None,
            length: LengthNormalisation::None,
            high: None,
            seed: Seed(0),
        }
    }
}

/// What log-probabilities of choices are divided by before they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LengthNormalisation {
    /// Nothing, as in the paper.
    #[default]
    None,
    /// The number of characters of the choice, at least 1.
    Characters,
}

/// What a system answered to one question.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// Which example.
    pub example: usize,
    /// The most probable choice, where choices were scored.
    pub choice: Option<String>,
    /// The generated answer, where one was asked for.
    pub answer: Option<String>,
    /// Whether it is right: the choice has a positive score, or the cleaned answer is an accepted one (by the answer where
    /// there are both).
    pub right: bool,
}

/// Scores of a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scores {
    /// Name of the task.
    pub task: String,
    /// Questions asked.
    pub examples: usize,
    /// Scores by metric name. A task with a multiple-choice metric has all three of them, ROUGE has its parts beside it.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Metrics that the task asks for and this crate does not compute.
    pub unsupported: Vec<Metric>,
    /// The metric that stands for the task.
    pub preferred: Metric,
    /// Preferred score that chance reaches: the mean score of the choices for
    /// [`MultipleChoiceGrade`](Metric::MultipleChoiceGrade), else 0.
    pub low: f64,
    /// 100 (preferred − low) / (high − low): 0 for chance, may be negative. `None` when the preferred metric is not computed
    /// or smaller is better.
    pub normalised: Option<f64>,
    /// What was answered, in the order of the examples.
    pub predictions: Vec<Prediction>,
}

impl Scores {
    /// The preferred score; `None` when it is not computed.
    pub fn preferred_score(&self) -> Option<f64> {
        self.metrics.get(self.preferred.name()).copied()
    }
}

/// Scores of several tasks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupScores {
    /// Name of the task or folder.
    pub name: String,
    /// Mean of the preferred scores of the direct parts; `None` when one of them has none.
    pub preferred_score: Option<f64>,
    /// Mean of the normalised scores of the direct parts; `None` when one of them has none.
    pub normalised: Option<f64>,
    /// Direct parts; empty for a single task.
    pub parts: Vec<GroupScores>,
    /// Scores of a single task.
    pub scores: Option<Scores>,
}

/// Evaluates a task, or each sub-task and takes means.
///
/// # Errors
///
/// As [`evaluate`].
pub fn evaluate_all(tasks: &Tasks, system: &mut dyn System, options: &Options) -> Result<GroupScores> {
    match tasks {
        Tasks::One(task) => {
            let scores = evaluate(task, system, options)?;
            Ok(GroupScores {
                name: task.name.clone(),
                preferred_score: scores.preferred_score(),
                normalised: scores.normalised,
                parts: Vec::new(),
                scores: Some(scores),
            })
        }
        Tasks::Group { name, parts } => {
            let parts: Vec<GroupScores> =
                parts.iter().map(|p| evaluate_all(p, system, options)).collect::<Result<_>>()?;
            let mean = |value: fn(&GroupScores) -> Option<f64>| -> Option<f64> {
                let sum = parts.iter().map(value).sum::<Option<f64>>()?;
                Some(sum / parts.len().max(1) as f64)
            };
            Ok(GroupScores {
                name: name.clone(),
                preferred_score: mean(|p| p.preferred_score),
                normalised: mean(|p| p.normalised),
                scores: None,
                parts,
            })
        }
    }
}

/// Asks a system all questions of a task and scores its answers.
///
/// Choices go through [`System::score`], free answers through [`System::respond`], each only when a metric needs it. A
/// question's identifier is `task/example`, or `task/example/2-shot` with solved examples.
///
/// ```
/// use mtl_bench::{formats::big_bench, system::Constant};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/big-bench/snarks");
/// let tasks = big_bench::load(folder.as_ref())?;
/// let scores = big_bench::evaluate_all(&tasks, &mut Constant::default(), &big_bench::Options::default())?;
/// assert_eq!(scores.name, "snarks");
/// assert!(scores.preferred_score.is_some());
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for more shots than other examples or `max_examples` of 0; [`Error::System`] from the system, or
/// when it gives a wrong number of answers or scores, NaN, +∞ or −∞ for all choices; [`Error::Metric`] when the high score
/// is not above chance.
pub fn evaluate(task: &Task, system: &mut dyn System, options: &Options) -> Result<Scores> {
    let asked = sample(task, options)?;
    let mut requests = Vec::with_capacity(asked.len());
    for &i in &asked {
        let shots = task.draw_shots(i, options.shots, options.seed)?;
        let id = match options.shots {
            0 => format!("{}/{i}", task.name),
            n => format!("{}/{i}/{n}-shot", task.name),
        };
        let mut request = Request::new(id, task.prompt(i, &shots)?);
        request.max_new_tokens = options.max_new_tokens;
        request.stop.extend(task.format.stop.clone());
        requests.push(request);
    }
    let has_choices = task.examples.iter().all(|e| !e.choices.is_empty());
    let f1_of_choices = task.metrics.contains(&Metric::MacroF1) && has_choices;
    let f1_of_text = task.metrics.contains(&Metric::MacroF1) && !has_choices;
    let mut metrics = BTreeMap::new();
    let mut predictions: Vec<Prediction> = asked
        .iter()
        .map(|&example| Prediction { example, choice: None, answer: None, right: false })
        .collect();
    if task.metrics.iter().any(|m| m.needs_choices()) || f1_of_choices {
        let scored = score_choices(task, system, options, &requests, &mut predictions)?;
        if f1_of_choices {
            metrics.insert(Metric::MacroF1.name(), f1_over_choices(task, &predictions));
        }
        // The chance-corrected grade is not used here: its `high` only has to be above chance.
        let high = scored.iter().map(|c| c.chance).sum::<f64>() / scored.len().max(1) as f64 + 1.0;
        let means = choice_scores(&scored, high).map_err(|e| e.in_task(&task.name))?;
        metrics.insert(Metric::MultipleChoiceGrade.name(), means.grade);
        metrics.insert(Metric::MultipleChoiceBrierScore.name(), means.brier);
        metrics.insert(Metric::ExpectedCalibrationError.name(), means.ece);
    }
    let text_metrics =
        task.metrics.iter().filter(|m| m.needs_text() || (f1_of_text && **m == Metric::MacroF1));
    let text_metrics: Vec<Metric> = text_metrics.copied().collect();
    if !text_metrics.is_empty() {
        let responses = system.respond(&requests)?;
        if responses.len() != requests.len() {
            let message = format!("gave {} answers to {} questions", responses.len(), requests.len());
            return Err(Error::System { system: system.name().to_owned(), message });
        }
        let mut answers = Answers::default();
        for (response, example) in responses.iter().zip(asked.iter().filter_map(|&i| task.examples.get(i))) {
            answers.found.push(task.format.clean(response));
            answers.accepted.push(example.accepted());
        }
        for metric in text_metrics {
            answers.score(metric, &mut metrics).map_err(|e| e.in_task(&task.name))?;
        }
        for ((prediction, right), response) in predictions.iter_mut().zip(answers.right()).zip(&responses) {
            (prediction.answer, prediction.right) = (Some(response.clone()), right);
        }
    }
    let low = match task.preferred {
        Metric::MultipleChoiceGrade => {
            let chance = |i: &usize| task.examples.get(*i).map_or(0.0, |e| mean_score(&e.choices));
            asked.iter().map(chance).sum::<f64>() / asked.len().max(1) as f64
        }
        _ => 0.0,
    };
    let raw = metrics.get(task.preferred.name()).copied();
    Ok(Scores {
        task: task.name.clone(),
        examples: asked.len(),
        unsupported: task.metrics.iter().copied().filter(|m| !m.is_supported()).collect(),
        preferred: task.preferred,
        low,
        normalised: normalise(task, raw, low, options.high)?,
        metrics,
        predictions,
    })
}

fn mean_score(choices: &[(String, f64)]) -> f64 {
    choices.iter().map(|c| c.1).sum::<f64>() / choices.len().max(1) as f64
}

fn normalise(task: &Task, raw: Option<f64>, low: f64, high: Option<f64>) -> Result<Option<f64>> {
    let (Some(raw), Some(top)) = (raw, task.preferred.top()) else { return Ok(None) };
    let high = high.unwrap_or(top);
    if !(high > low && high.is_finite()) {
        let message = format!("the high score {high} is not above chance, {low}");
        return Err(Error::metric("normalised_score", message).in_task(&task.name));
    }
    Ok(Some(100.0 * (raw - low) / (high - low)))
}

/// Indices of the questions asked, ascending.
fn sample(task: &Task, options: &Options) -> Result<Vec<usize>> {
    let n = task.examples.len();
    match options.max_examples {
        Some(0) => Err(Error::argument("max_examples", "at least 1", 0)),
        Some(most) if most < n => {
            let mut rng = options.seed.fork("big-bench examples").stream(&task.name, 0);
            let mut drawn = index::sample(&mut rng, n, most).into_vec();
            drawn.sort_unstable();
            Ok(drawn)
        }
        _ => Ok((0..n).collect()),
    }
}

fn score_choices(
    task: &Task,
    system: &mut dyn System,
    options: &Options,
    requests: &[Request],
    predictions: &mut [Prediction],
) -> Result<Vec<Choice>> {
    let mut scored = Vec::with_capacity(requests.len());
    for (request, prediction) in requests.iter().zip(predictions) {
        let Some(example) = task.examples.get(prediction.example) else { continue };
        let (choices, scores): (Vec<String>, Vec<f64>) = example.choices.iter().cloned().unzip();
        let mut log_probs = system.score(request, &choices)?;
        let failed = |message: String| Error::System { system: system.name().to_owned(), message };
        if log_probs.len() != choices.len() {
            let (found, of) = (log_probs.len(), choices.len());
            return Err(failed(format!("gave {found} scores of the {of} choices of `{}`", request.id)));
        }
        if log_probs.iter().any(|l| l.is_nan() || *l == f64::INFINITY) {
            return Err(failed(format!("scored the choices of `{}` as {log_probs:?}", request.id)));
        }
        if options.length == LengthNormalisation::Characters {
            for (log_prob, choice) in log_probs.iter_mut().zip(&choices) {
                *log_prob /= choice.chars().count().max(1) as f64;
            }
        }
        let best = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return Err(failed(format!("gives no choice of `{}` a probability above 0", request.id)));
        }
        // Far enough below the best that its probability is 0, as that of −∞ is.
        let log_probs: Vec<f64> = log_probs.iter().map(|l| (l - best).max(-1e6)).collect();
        let choice = Choice::of(&log_probs, &scores).map_err(|e| e.in_task(&task.name))?;
        let first = log_probs.iter().position(|l| *l == 0.0);
        prediction.choice = first.and_then(|i| choices.get(i)).cloned();
        prediction.right = choice.correct;
        scored.push(choice);
    }
    Ok(scored)
}

fn f1_over_choices(task: &Task, predictions: &[Prediction]) -> f64 {
    macro_f1(predictions.iter().filter_map(|p| {
        let best = task.examples.get(p.example)?.answers();
        let found = p.choice.as_deref()?;
        let target = best.iter().find(|b| **b == found).or_else(|| best.first())?;
        Some((found, *target))
    }))
}
