//! Annotations of tasks and videos.
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// A task with its guideline and videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Domain of daily life, such as `food`.
    pub domain: String,
    /// Name.
    pub task: String,
    /// Steps that the videos share, in order.
    pub guideline: Vec<GuidelineStep>,
    /// At least one.
    pub videos: Vec<Video>,
}

/// One step of a guideline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuidelineStep {
    /// Names it within its task.
    pub id: u32,
    /// What is done.
    pub text: String,
}

/// A video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    /// Names it.
    pub id: String,
    /// Length, s.
    pub duration: f64,
    /// Steps by their start.
    pub steps: Vec<Step>,
}

/// A step shown in a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Start, s.
    pub start: f64,
    /// End, s.
    pub end: f64,
    /// Step of the guideline; `None` when it covers none.
    pub guideline: Option<u32>,
    /// What is done.
    pub caption: String,
    /// Whether the caption tells more than the guideline does.
    #[serde(default)]
    pub specific: bool,
}

impl Task {
    /// Checks the rules: names are there, guideline and video names are unique, times are finite with 0 ≤ start < end ≤
    /// duration and in order of start, guideline steps exist, captions are not blank.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |at: &str, message: String| Err((at.to_owned(), message));
        for (name, text) in [("domain", &self.domain), ("task", &self.task)] {
            if text.trim().is_empty() {
                return wrong(name, "is blank".into());
            }
        }
        let mut ids = BTreeSet::new();
        for (i, step) in self.guideline.iter().enumerate() {
            if !ids.insert(step.id) {
                return wrong(&format!("guideline[{i}].id"), format!("{} was there before", step.id));
            }
            if step.text.trim().is_empty() {
                return wrong(&format!("guideline[{i}].text"), "is blank".into());
            }
        }
        if self.videos.is_empty() {
            return wrong("videos", "is empty".into());
        }
        for (v, video) in self.videos.iter().enumerate() {
            if !(video.duration > 0.0 && video.duration.is_finite()) {
                let message = format!("must be positive and finite, but is {}", video.duration);
                return wrong(&format!("videos[{v}].duration"), message);
            }
            let mut last = 0.0;
            for (s, step) in video.steps.iter().enumerate() {
                let at = |field: &str| format!("videos[{v}].steps[{s}].{field}");
                // Also false for NaN.
                if !(0.0 <= step.start && step.start < step.end && step.end <= video.duration) {
                    let message = format!(
                        "must hold 0 ≤ start < end ≤ {}, but they are {} and {}",
                        video.duration, step.start, step.end
                    );
                    return wrong(&at("start"), message);
                }
                if step.start < last {
                    return wrong(&at("start"), format!("is {}, before that of the step before", step.start));
                }
                last = step.start;
                if let Some(id) = step.guideline.filter(|id| !ids.contains(id)) {
                    return wrong(&at("guideline"), format!("step {id} is not in the guideline"));
                }
                if step.caption.trim().is_empty() {
                    return wrong(&at("caption"), "is blank".into());
                }
            }
        }
        Ok(())
    }

    /// Text of the guideline, a step per line.
    pub fn guideline_text(&self) -> String {
        self.guideline.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

impl Video {
    /// Pairs of steps, by index, that overlap in time: allowed, but worth a look.
    pub fn overlaps(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (i, a) in self.steps.iter().enumerate() {
            for (j, b) in self.steps.iter().enumerate().skip(i + 1) {
                if b.start < a.end {
                    found.push((i, j));
                }
            }
        }
        found
    }
}

/// Reads tasks from a JSON list.
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when the file cannot be read; [`Error::Format`], naming task and field, for what is no such list,
/// has unknown fields, breaks a rule of times and names, or names a task or video twice.
pub fn read(path: &Path) -> Result<Vec<Task>> {
    let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let wrong =
        |record: Option<String>, message: String| Error::Format { path: path.to_owned(), record, message };
    let tasks: Vec<Task> = serde_json::from_str(&text).map_err(|e| wrong(None, e.to_string()))?;
    if tasks.is_empty() {
        return Err(wrong(None, "holds no tasks".into()));
    }
    let (mut names, mut videos) = (BTreeSet::new(), BTreeSet::new());
    for (i, task) in tasks.iter().enumerate() {
        task.check().map_err(|(at, message)| wrong(Some(format!("[{i}].{at}")), message))?;
        if !names.insert(&task.task) {
            return Err(wrong(Some(format!("[{i}].task")), format!("`{}` was there before", task.task)));
        }
        for (v, video) in task.videos.iter().enumerate() {
            if !videos.insert(&video.id) {
                let message = format!("`{}` was there before", video.id);
                return Err(wrong(Some(format!("[{i}].videos[{v}].id")), message));
            }
        }
    }
    Ok(tasks)
}

/// Indices of the tasks for training, validation and test, drawn by seed: no task is in two of them.
///
/// The shares are of the number of tasks, rounded; what remains is for training.
///
/// # Errors
///
/// [`Error::Argument`] for shares that are negative, not finite or leave no task for training.
pub fn split_by_task(tasks: &[Task], validation: f64, test: f64, seed: Seed) -> Result<[Vec<usize>; 3]> {
    for (name, share) in [("validation", validation), ("test", test)] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::argument(name, "in [0, 1)", share));
        }
    }
    let count = |share: f64| (share * tasks.len() as f64).round() as usize;
    let (held, tested) = (count(validation) + count(test), count(test));
    if held >= tasks.len() {
        let found = format!("{validation} + {test} of {} tasks", tasks.len());
        return Err(Error::argument("validation + test", "shares that leave tasks for training", found));
    }
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let mut rng = seed.stream("guide-split", 0);
    for i in 0..order.len() {
        let j = rng.random_range(i..order.len());
        order.swap(i, j);
    }
    let mut train = order.split_off(held);
    let mut validate = order.split_off(tested);
    for part in [&mut train, &mut validate, &mut order] {
        part.sort_unstable();
    }
    Ok([train, validate, order])
}
