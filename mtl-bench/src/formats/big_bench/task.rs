//! Task files.
use super::{Metric, PromptFormat};
use crate::formats::document::{Document, Node};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// A task: `task.json`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Task {
    /// Name.
    pub name: String,
    /// What it is, for readers.
    pub description: String,
    /// Keywords.
    pub keywords: Vec<String>,
    /// Metrics that its authors ask for, in their order.
    pub metrics: Vec<Metric>,
    /// The metric that stands for the task.
    pub preferred: Metric,
    /// What stands around questions and answers.
    pub format: PromptFormat,
    /// Questions, at least one.
    pub examples: Vec<Example>,
    /// The text by which a corpus that contains the task is recognised; never part of a prompt.
    pub canary: Option<String>,
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Example {
    /// The question.
    pub input: String,
    /// Accepted answers; empty if the file gives scored choices only.
    pub targets: Vec<String>,
    /// Choices with their scores, not negative and at least one positive, in file order; may be empty.
    pub choices: Vec<(String, f64)>,
}

impl Example {
    /// Answers that a solved example may show: the choices of the largest score, or else the first target.
    pub fn answers(&self) -> Vec<&str> {
        if self.choices.is_empty() {
            return self.targets.first().map(String::as_str).into_iter().collect();
        }
        self.best_choices().collect()
    }

    /// Answers that count as right: the targets, or else the choices of the largest score.
    pub fn accepted(&self) -> Vec<&str> {
        if self.targets.is_empty() {
            return self.best_choices().collect();
        }
        self.targets.iter().map(String::as_str).collect()
    }

    fn best_choices(&self) -> impl Iterator<Item = &str> {
        let best = self.choices.iter().map(|c| c.1).fold(f64::NEG_INFINITY, f64::max);
        self.choices.iter().filter(move |c| c.1 == best).map(|c| c.0.as_str())
    }
}

/// A task, or a folder of sub-tasks whose score is the mean of theirs.
#[derive(Debug, Clone)]
pub enum Tasks {
    /// One task.
    One(Box<Task>),
    /// Sub-tasks in the order of their names, at least one.
    Group {
        /// Name of the folder.
        name: String,
        /// Sub-tasks.
        parts: Vec<Tasks>,
    },
}

impl Tasks {
    /// All tasks, in order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Task> + '_> {
        match self {
            Self::One(task) => Box::new(std::iter::once(task.as_ref())),
            Self::Group { parts, .. } => Box::new(parts.iter().flat_map(Self::iter)),
        }
    }

    /// Name of the task or the folder.
    pub fn name(&self) -> &str {
        match self {
            Self::One(task) => &task.name,
            Self::Group { name, .. } => name,
        }
    }
}

/// Reads a task file, a folder with `task.json`, or a folder of such folders (at most four deep; others are ignored).
///
/// # Errors
///
/// [`Error::Format`] for a folder without tasks, and as [`Task::read`].
pub fn load(path: &Path) -> Result<Tasks> {
    match load_at(path, 4)? {
        Some(tasks) => Ok(tasks),
        None => Err(Error::Format {
            path: path.to_owned(),
            record: None,
            message: "has no `task.json`, nor has a folder in it".into(),
        }),
    }
}

fn load_at(path: &Path, depth: u32) -> Result<Option<Tasks>> {
    if !path.is_dir() {
        return Task::read(path).map(|t| Some(Tasks::One(Box::new(t))));
    }
    let file = path.join("task.json");
    if file.exists() {
        return Task::read(&file).map(|t| Some(Tasks::One(Box::new(t))));
    }
    if depth == 0 {
        return Ok(None);
    }
    let io = |e| mtl_core::Error::io("read", path, e);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        if entry.is_dir() {
            folders.push(entry);
        }
    }
    folders.sort();
    let mut parts = Vec::new();
    for folder in folders {
        parts.extend(load_at(&folder, depth - 1)?);
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Ok((!parts.is_empty()).then_some(Tasks::Group { name, parts }))
}

impl Task {
    /// Reads a task file.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`], naming the place, for a required key that is
    /// missing, a wrong type, a number that is not finite, no examples, an unknown metric, a preferred metric that is not
    /// among the metrics, an expression that does not compile, an example without what a metric needs, choices that are
    /// equal but for white space, negative scores or none above 0, and a target that is a choice but not a best one.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(path)?;
        let root = document.root();
        let list = |key: &str| root.need(key).and_then(|n| n.texts());
        let metric_nodes = root.need("metrics")?.items()?;
        let metrics: Vec<Metric> = metric_nodes.iter().map(metric).collect::<Result<_>>()?;
        let preferred_node = root.need("preferred_score")?;
        let preferred = metric(&preferred_node)?;
        if !metrics.contains(&preferred) {
            return Err(preferred_node.error(format!("`{}` is not among the `metrics`", preferred.name())));
        }
        let example_nodes = root.need("examples")?;
        let examples: Vec<Example> =
            example_nodes.items()?.iter().map(|n| example(n, &metrics)).collect::<Result<_>>()?;
        if examples.is_empty() {
            return Err(example_nodes.error("is empty"));
        }
        Ok(Self {
            name: root.need("name")?.text()?.to_owned(),
            description: root.need("description")?.text()?.to_owned(),
            keywords: list("keywords")?,
            metrics,
            preferred,
            format: format(&root)?,
            examples,
            canary: root.text_of("canary")?,
        })
    }

    /// Mean score that guessing among the choices reaches; 0 for a task without choices.
    pub fn chance(&self) -> f64 {
        let mean = |e: &Example| e.choices.iter().map(|c| c.1).sum::<f64>() / (e.choices.len().max(1) as f64);
        self.examples.iter().map(mean).sum::<f64>() / self.examples.len().max(1) as f64
    }
}

fn metric(node: &Node<'_>) -> Result<Metric> {
    Metric::from_name(node.text()?).map_err(|e| node.error(e.to_string()))
}

fn format(root: &Node<'_>) -> Result<PromptFormat> {
    let default = PromptFormat::default();
    let text = |key: &str, default: String| root.text_of(key).map(|t| t.unwrap_or(default));
    let output_regex = match root.get("output_regex")? {
        Some(node) => Some(
            regex::Regex::new(node.text()?)
                .map_err(|e| node.error(format!("does not compile: {}", one_line(&e.to_string()))))?,
        ),
        None => None,
    };
    Ok(PromptFormat {
        task_prefix: text("task_prefix", default.task_prefix)?,
        input_prefix: text("example_input_prefix", default.input_prefix)?,
        output_prefix: text("example_output_prefix", default.output_prefix)?,
        choice_prefix: text("choice_prefix", default.choice_prefix)?,
        append_choices: root
            .get("append_choices_to_input")?
            .map_or(Ok(default.append_choices), |n| n.flag())?,
        shot_separator: text("few_shot_example_separator", default.shot_separator)?,
        stop: root.text_of("stop_string")?.filter(|s| !s.is_empty()),
        output_regex,
    })
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn example(node: &Node<'_>, metrics: &[Metric]) -> Result<Example> {
    let input = node.need("input")?.text()?.to_owned();
    let target = node.get("target")?;
    let targets = target.as_ref().map_or_else(|| Ok(Vec::new()), |t| t.text_or_texts())?;
    if let (Some(target), true) = (&target, targets.is_empty()) {
        return Err(target.error("is empty"));
    }
    let choices = node.get("target_scores")?.map_or_else(|| Ok(Vec::new()), |n| choices(&n))?;
    if choices.is_empty() && metrics.iter().any(|m| m.needs_choices()) {
        return Err(node.need("target_scores").err().unwrap_or_else(|| node.error("has no choices")));
    }
    if choices.is_empty() && targets.is_empty() {
        return Err(node.error("has neither `target` nor `target_scores`"));
    }
    let example = Example { input, targets, choices };
    let best: Vec<&str> = example.best_choices().collect();
    let wrong = example
        .targets
        .iter()
        .find(|t| example.choices.iter().any(|c| c.0 == **t) && !best.contains(&t.as_str()));
    match (wrong, &target) {
        (Some(wrong), Some(target)) => {
            Err(target.error(format!("`{wrong}` is a choice, but not one of the best in `target_scores`")))
        }
        _ => Ok(example),
    }
}

fn choices(node: &Node<'_>) -> Result<Vec<(String, f64)>> {
    let (mut choices, mut seen) = (Vec::new(), BTreeSet::new());
    for (choice, score) in node.fields()? {
        if !seen.insert(choice.trim()) {
            return Err(score.error("is there twice but for white space"));
        }
        let value = score.number()?;
        if value < 0.0 {
            return Err(score.error(format!("must not be negative, but is {value}")));
        }
        choices.push((choice.to_owned(), value));
    }
    if choices.iter().all(|c| c.1 == 0.0) {
        return Err(node.error("has no choice with a score above 0"));
    }
    Ok(choices)
}
