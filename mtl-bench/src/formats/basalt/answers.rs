//! Files of answers.
use crate::metrics::pairwise::{Game, Winner};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// One judge's answer about two players on one seed of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Names the answer, if the file does so.
    #[serde(default)]
    pub id: Option<String>,
    /// Task, such as `FindCave`.
    pub task: String,
    /// World seed that both players had.
    pub seed: u64,
    /// First player.
    pub first: String,
    /// Second player.
    pub second: String,
    /// Who did better: `first`, `second` or `draw`.
    pub outcome: Winner,
    /// Who answered; without a name, somebody.
    #[serde(default)]
    pub judge: Option<String>,
    /// When, as the file has it.
    #[serde(default)]
    pub time: Option<String>,
    /// Free text.
    #[serde(default)]
    pub comment: Option<String>,
}

/// Answers in their order, and the players in theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// All answers.
    pub answers: Vec<Answer>,
    /// Names of the players, sorted; ratings are in this order.
    pub players: Vec<String>,
}

impl Answers {
    /// Collects the players of the answers.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there are no answers, a name is blank, a player meets themself or an identifier occurs twice.
    pub fn new(answers: Vec<Answer>) -> Result<Self> {
        let mut ids = BTreeSet::new();
        if answers.is_empty() {
            return Err(Error::argument("answers", "at least one", 0));
        }
        for (i, answer) in answers.iter().enumerate() {
            check(answer, &mut ids)
                .map_err(|m| Error::argument("answers", "valid", format!("item {i}: {m}")))?;
        }
        let names: BTreeSet<&String> = answers.iter().flat_map(|a| [&a.first, &a.second]).collect();
        let players = names.into_iter().cloned().collect();
        Ok(Self { answers, players })
    }

    /// Without the answers of these judges; the players stay.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for a judge who answered nothing.
    pub fn without_judges(&self, excluded: &[&str]) -> Result<Self> {
        let judges: BTreeSet<&str> = self.answers.iter().filter_map(|a| a.judge.as_deref()).collect();
        if let Some(unknown) = excluded.iter().find(|e| !judges.contains(*e)) {
            return Err(Error::Core(mtl_core::Error::unknown("judge", unknown, judges)));
        }
        let kept = |a: &&Answer| !a.judge.as_deref().is_some_and(|j| excluded.contains(&j));
        Ok(Self {
            answers: self.answers.iter().filter(kept).cloned().collect(),
            players: self.players.clone(),
        })
    }

    /// Names of the tasks, sorted.
    pub fn tasks(&self) -> Vec<&str> {
        self.answers.iter().map(|a| a.task.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Index of a player.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for another name.
    pub fn player(&self, name: &str) -> Result<usize> {
        self.players.iter().position(|p| p == name).ok_or_else(|| {
            Error::Core(mtl_core::Error::unknown("player", name, self.players.iter().map(String::as_str)))
        })
    }

    /// The answers about a task, and the games they are.
    pub(super) fn games(&self, task: &str) -> (Vec<&Answer>, Vec<Game>) {
        let index = |name: &String| self.players.binary_search(name).ok();
        let game =
            |a: &Answer| Some(Game { first: index(&a.first)?, second: index(&a.second)?, winner: a.outcome });
        self.answers.iter().filter(|a| a.task == task).filter_map(|a| Some((a, game(a)?))).unzip()
    }
}

fn check(answer: &Answer, ids: &mut BTreeSet<String>) -> Result<(), String> {
    for (field, text) in [("task", &answer.task), ("first", &answer.first), ("second", &answer.second)] {
        if text.trim().is_empty() {
            return Err(format!("`{field}` is blank"));
        }
    }
    if answer.first == answer.second {
        return Err(format!("`second` must be another player than `first`, but both are `{}`", answer.first));
    }
    match &answer.id {
        Some(id) if !ids.insert(id.clone()) => Err(format!("`id` `{id}` was there before")),
        _ => Ok(()),
    }
}

/// Reads answers from CSV with a header (`.csv`) or JSON lines, with the fields of [`Answer`].
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when the file cannot be read; [`Error::Format`], naming the line, for a field that is missing, unknown
/// or of another type, and for answers that [`Answers::new`] refuses.
pub fn read(path: &Path) -> Result<Answers> {
    let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let wrong = |line: u64, message: String| Error::Format {
        path: path.to_owned(),
        record: Some(format!("line {line}")),
        message,
    };
    let mut found: Vec<(u64, Answer)> = Vec::new();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| wrong(1, e.to_string()))?.clone();
        for row in reader.records() {
            let row = row.map_err(|e| wrong(e.position().map_or(0, csv::Position::line), e.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let answer = row.deserialize(Some(&header)).map_err(|e| wrong(line, e.to_string()))?;
            found.push((line, answer));
        }
    } else {
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let at = i as u64 + 1;
            found.push((at, serde_json::from_str(line).map_err(|e| wrong(at, e.to_string()))?));
        }
    }
    let mut ids = BTreeSet::new();
    for (line, answer) in &found {
        check(answer, &mut ids).map_err(|m| wrong(*line, m))?;
    }
    if found.is_empty() {
        return Err(Error::Format {
            path: path.to_owned(),
            record: None,
            message: "holds no answers".into(),
        });
    }
    Answers::new(found.into_iter().map(|(_, a)| a).collect())
}
