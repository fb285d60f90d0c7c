//! Scores over prompts, turns, languages and kinds.
use crate::metrics::{InstructionAccuracy, TurnChange, instruction_accuracy, turn_change};
use crate::stats::{Bootstrap, Interval, mean, percentile_bootstrap};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Which verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On the response as it is.
    Strict,
    /// On the best of its 8 variants.
    Loose,
}

/// The verdicts on one conversation; lists are by turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Key of the conversation.
    pub key: String,
    /// Its language.
    pub language: String,
    /// Kinds of the instructions.
    pub kinds: Vec<Vec<&'static str>>,
    /// What the system said.
    pub responses: Vec<String>,
    /// Strict verdicts, in the order of the instructions.
    pub strict: Vec<Vec<bool>>,
    /// Loose verdicts.
    pub loose: Vec<Vec<bool>>,
}

impl Judged {
    fn verdicts(&self, mode: Mode) -> &[Vec<bool>] {
        match mode {
            Mode::Strict => &self.strict,
            Mode::Loose => &self.loose,
        }
    }
}

/// How many of some instructions were followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Followed.
    pub followed: usize,
    /// All.
    pub total: usize,
}

impl Share {
    /// Followed of all; `None` without instructions.
    pub fn ratio(self) -> Option<f64> {
        (self.total > 0).then(|| self.followed as f64 / self.total as f64)
    }

    fn add(&mut self, verdicts: &[bool]) {
        self.followed += verdicts.iter().filter(|&&v| v).count();
        self.total += verdicts.len();
    }
}

/// The verdicts on all conversations. Turns count from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the file.
    pub conversations: Vec<Judged>,
}

impl Report {
    /// Number of turns of the longest conversation.
    pub fn turns(&self) -> usize {
        self.conversations.iter().map(|c| c.strict.len()).max().unwrap_or(0)
    }

    fn at(&self, turn: usize, mode: Mode) -> Vec<&[bool]> {
        self.conversations.iter().filter_map(|c| c.verdicts(mode).get(turn)).map(Vec::as_slice).collect()
    }

    /// Accuracy over the prompts and instructions of a turn.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when no conversation reaches the turn.
    pub fn accuracy(&self, turn: usize, mode: Mode) -> Result<InstructionAccuracy> {
        instruction_accuracy(&self.at(turn, mode))
    }

    /// Mean of the four accuracies, strict and loose, by prompt and by instruction: the score of Multi-IF.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when no conversation reaches the turn.
    pub fn turn_score(&self, turn: usize) -> Result<f64> {
        let (strict, loose) = (self.accuracy(turn, Mode::Strict)?, self.accuracy(turn, Mode::Loose)?);
        Ok((strict.prompt + strict.instruction + loose.prompt + loose.instruction) / 4.0)
    }

    /// Percentile intervals, over resampled prompts, of the prompt-level accuracy and of the mean over prompts of the share
    /// of instructions followed.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for fewer than 2 prompts or options out of range.
    pub fn intervals(&self, turn: usize, mode: Mode, options: &Bootstrap) -> Result<(Interval, Interval)> {
        let verdicts = self.at(turn, mode);
        let all = |v: &&[bool]| f64::from(u8::from(v.iter().all(|&f| f)));
        let share = |v: &&[bool]| v.iter().filter(|&&f| f).count() as f64 / v.len().max(1) as f64;
        let prompt: Vec<f64> = verdicts.iter().map(all).collect();
        let instruction: Vec<f64> = verdicts.iter().map(share).collect();
        Ok((
            percentile_bootstrap(&prompt, mean, options)?,
            percentile_bootstrap(&instruction, mean, options)?,
        ))
    }

    /// Forgetting (IFR) and correction (ECR) from the turn before to this one, pooled over conversations.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for turn 0 or one that no conversation reaches.
    pub fn change(&self, turn: usize, mode: Mode) -> Result<TurnChange> {
        let verdicts: Vec<Vec<Vec<bool>>> =
            self.conversations.iter().map(|c| c.verdicts(mode).to_vec()).collect();
        turn_change(&verdicts, turn)
    }

    /// Instructions of earlier turns that are followed in this one, and those that are new in it.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when no conversation reaches the turn.
    pub fn old_and_new(&self, turn: usize, mode: Mode) -> Result<(Share, Share)> {
        let (mut old, mut new, mut reached) = (Share::default(), Share::default(), false);
        for conversation in &self.conversations {
            let Some(verdicts) = conversation.verdicts(mode).get(turn) else { continue };
            reached = true;
            let before =
                turn.checked_sub(1).and_then(|t| conversation.verdicts(mode).get(t)).map_or(0, Vec::len);
            let (earlier, added) = verdicts.split_at(before.min(verdicts.len()));
            old.add(earlier);
            new.add(added);
        }
        if !reached {
            return Err(Error::metric("instructions", format!("no conversation reaches turn {turn}")));
        }
        Ok((old, new))
    }

    /// Accuracy of a turn by language.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when no conversation reaches the turn.
    pub fn by_language(&self, turn: usize, mode: Mode) -> Result<BTreeMap<&str, InstructionAccuracy>> {
        let mut groups: BTreeMap<&str, Vec<&[bool]>> = BTreeMap::new();
        for c in &self.conversations {
            if let Some(verdicts) = c.verdicts(mode).get(turn) {
                groups.entry(&c.language).or_default().push(verdicts);
            }
        }
        if groups.is_empty() {
            return Err(Error::metric("instructions", format!("no conversation reaches turn {turn}")));
        }
        groups.into_iter().map(|(language, v)| Ok((language, instruction_accuracy(&v)?))).collect()
    }

    /// Instructions followed by kind and turn: the cells of a heat map.
    pub fn by_kind(&self, mode: Mode) -> BTreeMap<(&'static str, usize), Share> {
        let mut cells: BTreeMap<(&'static str, usize), Share> = BTreeMap::new();
        for c in &self.conversations {
            for (turn, (kinds, verdicts)) in c.kinds.iter().zip(c.verdicts(mode)).enumerate() {
                for (&kind, &followed) in kinds.iter().zip(verdicts) {
                    cells.entry((kind, turn)).or_default().add(&[followed]);
                }
            }
        }
        cells
    }
}
