//! Following of verifiable instructions: Zhou et al., *Instruction-Following Evaluation for Large Language Models*, arXiv
//! 2311.07911; over turns He et al., *Multi-IF*, arXiv 2410.15553.
use crate::{Error, Result};

const NAME: &str = "instructions";

/// Accuracy over prompts and over instructions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InstructionAccuracy {
    /// Share of prompts with every instruction followed.
    pub prompt: f64,
    /// Share of instructions followed.
    pub instruction: f64,
}

/// Accuracy from verdicts: per prompt, which of its instructions were followed.
///
/// ```
/// let scores = mtl_bench::metrics::instruction_accuracy(&[vec![true, true], vec![true, false]])?;
/// assert_eq!((scores.prompt, scores.instruction), (0.5, 0.75));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no prompts, or a prompt has no instructions.
pub fn instruction_accuracy<V: AsRef<[bool]>>(verdicts: &[V]) -> Result<InstructionAccuracy> {
    if verdicts.is_empty() {
        return Err(Error::metric(NAME, "there are no prompts"));
    }
    if let Some(i) = verdicts.iter().position(|v| v.as_ref().is_empty()) {
        return Err(Error::metric(NAME, format!("prompt {i} has no instructions")));
    }
    let all = verdicts.iter().filter(|v| v.as_ref().iter().all(|&f| f)).count();
    let instructions: usize = verdicts.iter().map(|v| v.as_ref().len()).sum();
    let followed: usize = verdicts.iter().map(|v| v.as_ref().iter().filter(|&&f| f).count()).sum();
    Ok(InstructionAccuracy {
        prompt: all as f64 / verdicts.len() as f64,
        instruction: followed as f64 / instructions as f64,
    })
}

/// What became of the instructions of the turn before, pooled over conversations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TurnChange {
    /// Share of the instructions followed before that fail now; `None` when none was followed.
    pub forgetting: Option<f64>,
    /// Share of the instructions failed before that are followed now; `None` when none had failed.
    pub correction: Option<f64>,
}

/// Compares turn `turn`, from 1 on, with the one before it; `verdicts` are `[conversation][turn][instruction]`.
///
/// An instruction keeps its index in later turns. Conversations that end earlier do not count.
///
/// # Errors
///
/// [`Error::Metric`] when the turn is 0, no conversation reaches it, or one of them loses instructions.
pub fn turn_change(verdicts: &[Vec<Vec<bool>>], turn: usize) -> Result<TurnChange> {
    let Some(previous) = turn.checked_sub(1) else {
        return Err(Error::metric(NAME, "turn 0 has no turn before it"));
    };
    // By whether it was followed before: how many, and how many of them changed.
    let (mut before, mut changed, mut reached) = ([0_usize; 2], [0_usize; 2], false);
    for (i, conversation) in verdicts.iter().enumerate() {
        let (Some(old), Some(new)) = (conversation.get(previous), conversation.get(turn)) else { continue };
        reached = true;
        if new.len() < old.len() {
            let message = format!(
                "conversation {i} has {} instructions in turn {previous}, but {} in the next",
                old.len(),
                new.len()
            );
            return Err(Error::metric(NAME, message));
        }
        for (&was, &is) in old.iter().zip(new) {
            before[usize::from(was)] += 1;
            changed[usize::from(was)] += usize::from(was != is);
        }
    }
    if !reached {
        return Err(Error::metric(NAME, format!("no conversation reaches turn {turn}")));
    }
    let share = |was: usize| (before[was] > 0).then(|| changed[was] as f64 / before[was] as f64);
    Ok(TurnChange { forgetting: share(1), correction: share(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(instruction_accuracy::<Vec<bool>>(&[]).unwrap_err(), @"`instructions`: there are no prompts");
        insta::assert_snapshot!(instruction_accuracy(&[vec![]]).unwrap_err(), @"`instructions`: prompt 0 has no instructions");
        let shrinking = [vec![vec![true, true], vec![true]]];
        insta::assert_snapshot!(turn_change(&shrinking, 1).unwrap_err(), @"`instructions`: conversation 0 has 2 instructions in turn 0, but 1 in the next");
        insta::assert_snapshot!(turn_change(&shrinking, 2).unwrap_err(), @"`instructions`: no conversation reaches turn 2");
    }

    #[test]
    fn a_share_without_cases_is_none() {
        let change = turn_change(&[vec![vec![true], vec![false, true]]], 1).unwrap();
        assert_eq!(change, TurnChange { forgetting: Some(1.0), correction: None });
    }
}
