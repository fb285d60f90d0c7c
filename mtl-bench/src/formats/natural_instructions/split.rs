//! Seen and unseen tasks.
use super::{NiInstance, NiTask};
use crate::formats::document::read_text;
use crate::{Error, Result};
use mtl_core::Seed;
use rand::seq::{SliceRandom, index};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How tasks are parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// By lists of names, as the default cross-task split of version 2; tasks in neither list are left out.
    Lists {
        /// Seen tasks.
        train: Vec<String>,
        /// Unseen tasks.
        test: Vec<String>,
    },
    /// Tests on the tasks of one category.
    LeaveCategoryOut(String),
    /// Tests on the tasks made from one data set.
    LeaveSourceOut(String),
    /// Tests on one task.
    LeaveTaskOut(String),
    /// Tests on this many tasks of each category, drawn by the seed; 2 in version 1 (12 of 61 tasks).
    Random {
        /// Seed of the draw.
        seed: Seed,
        /// Test tasks per category.
        per_category: usize,
    },
}

/// Tasks of a split, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitTasks<'a> {
    /// Seen in training.
    pub train: Vec<&'a NiTask>,
    /// Unseen.
    pub test: Vec<&'a NiTask>,
}

/// Names of a list, one on each line.
///
/// # Errors
///
/// [`Error::Format`] for an empty list or a name that is there twice; [`mtl_core::Error::Io`].
pub fn read_names(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path)?;
    let format =
        |record: Option<String>, message: String| Error::Format { path: path.to_owned(), record, message };
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let name = line.trim();
        if !seen.insert(name.to_owned()) {
            return Err(format(Some(format!("line {}", i + 1)), format!("`{name}` is there twice")));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(format(None, "has no names".into()));
    }
    Ok(names)
}

impl Split {
    /// Reads `train_tasks.txt` and `test_tasks.txt` of a folder such as `splits/default`.
    ///
    /// # Errors
    ///
    /// As [`read_names`], and [`Error::Format`] for a name in both lists.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("test_tasks.txt");
        let (train, test) = (read_names(&folder.join("train_tasks.txt"))?, read_names(&path)?);
        let seen: BTreeSet<&String> = train.iter().collect();
        match test.iter().find(|name| seen.contains(name)) {
            Some(name) => Err(Error::Format {
                path,
                record: None,
                message: format!("`{name}` is also in `train_tasks.txt`"),
            }),
            None => Ok(Self::Lists { train, test }),
        }
    }

    /// Parts tasks. A listed task that is not among `tasks` is no error: collections are often slices.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when no task is left for testing, such as for an unknown category.
    pub fn part<'a>(&self, tasks: &'a [NiTask]) -> Result<SplitTasks<'a>> {
        let drawn = match self {
            Self::Random { seed, per_category } => draw(tasks, *seed, *per_category),
            _ => BTreeSet::new(),
        };
        let mut parts = SplitTasks { train: Vec::new(), test: Vec::new() };
        for task in tasks {
            let is_test = match self {
                Self::Lists { train, test } => {
                    match (test.contains(&task.name), train.contains(&task.name)) {
                        (true, _) => true,
                        (_, true) => false,
                        _ => continue,
                    }
                }
                Self::LeaveCategoryOut(category) => task.category() == category,
                Self::LeaveSourceOut(source) => task.sources.contains(source),
                Self::LeaveTaskOut(name) => task.name == *name,
                Self::Random { .. } => drawn.contains(task.name.as_str()),
            };
            if is_test { &mut parts.test } else { &mut parts.train }.push(task);
        }
        if parts.test.is_empty() {
            return Err(Error::Missing { what: format!("test tasks of the split {self:?}") });
        }
        Ok(parts)
    }
}

fn draw(tasks: &[NiTask], seed: Seed, per_category: usize) -> BTreeSet<&str> {
    let mut by_category: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for task in tasks {
        by_category.entry(task.category()).or_default().push(&task.name);
    }
    let mut drawn = BTreeSet::new();
    for (category, mut names) in by_category {
        names.sort_unstable();
        names.shuffle(&mut seed.fork("natural-instructions split").stream(category, 0));
        drawn.extend(names.into_iter().take(per_category));
    }
    drawn
}

/// At most `most` instances for training, shuffled; the draw depends on the seed and the task's name.
pub fn training_instances(task: &NiTask, most: usize, seed: Seed) -> Vec<&NiInstance> {
    let n = task.instances.len();
    let mut rng = seed.fork("natural-instructions training").stream(&task.name, 0);
    let drawn = index::sample(&mut rng, n, most.min(n)).into_vec();
    drawn.into_iter().filter_map(|i| task.instances.get(i)).collect()
}
